"""A Parquet file of many columns, read one at a time: what a table of millions of rows and sixty features needs of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.errors import EvidenceError


class ColumnFile:
    """An open Parquet file that is known to have certain columns."""

    def __init__(self, path: Path, needed: Sequence[str]) -> None:
        """Open the file.

        Raises:
            EvidenceError: If it cannot be read or lacks one of the columns.
        """
        self._name = path.name
        try:
            self._file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error
        present = self._file.schema_arrow.names
        if missing := [name for name in needed if name not in present]:
            raise EvidenceError(
                f"{path.name}: found columns {', '.join(present)}; needed also {', '.join(missing)}. "
                "Run the step that makes it again."
            )

    def column(self, name: str) -> pa.ChunkedArray:
        """One column as it is.

        Raises:
            EvidenceError: If it cannot be read.
        """
        try:
            return self._file.read(columns=[name]).column(0)
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self._file.metadata.num_rows)

    def blocks(self, names: Sequence[str], *, size: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Some columns in blocks of at most `size` rows, each with the number of its first row.

        Raises:
            EvidenceError: If they cannot be read.
        """
        begin = 0
        try:
            for block in self._file.iter_batches(batch_size=size, columns=list(names)):
                yield begin, block
                begin += block.num_rows
        except (OSError, pa.ArrowException) as error:
            raise self._unreadable(error) from error

    def numbers(self, name: str) -> NDArray[np.float64]:
        """One column as numbers, NaN where there is no value."""
        values: NDArray[np.float64] = self.column(name).to_numpy().astype(np.float64)
        return values

    def integers(self, name: str) -> NDArray[np.int64]:
        """One column of whole numbers that has no gaps."""
        values: NDArray[np.int64] = self.column(name).to_numpy().astype(np.int64)
        return values

    def _unreadable(self, error: Exception) -> EvidenceError:
        return EvidenceError(f"{self._name}: cannot be read as Parquet ({error}). Run the step that makes it again.")
