"""Opens a dataset directory: tables as Arrow, features by lookup."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.artifacts import documents
from components.dataset.contract import Dataset, Split
from components.dataset.lookup import FeatureTables
from components.errors import InputError


@dataclass(frozen=True)
class OpenDataset:
    """A dataset whose tables are read when they are first asked for."""

    path: Path
    manifest: Dataset

    @cached_property
    def users(self) -> pa.Table:
        return self._read("users")

    @cached_property
    def items(self) -> pa.Table:
        return self._read("items")

    @cached_property
    def requests(self) -> pa.Table:
        return self._read("requests")

    @cached_property
    def relevance(self) -> pa.Table:
        return self._read("relevance")

    @cached_property
    def history(self) -> pa.Table:
        return self._read("history")

    @cached_property
    def features(self) -> FeatureTables:
        return FeatureTables.open(self.path / "tables")

    def rows(self, split: Split) -> pa.Table:
        """The recorded rows of one split, ascending by request."""
        numbers = self.requests.filter(pc.equal(self.requests["split"], split))["request"]
        if not len(numbers):
            return self._read("rows").slice(0, 0)
        # Requests are numbered by split, so a split's rows are a range.
        low, high = pc.min(numbers).as_py(), pc.max(numbers).as_py()
        return self._read("rows", [("request", ">=", low), ("request", "<=", high)])

    def _read(self, name: str, filters: list[tuple[str, str, int]] | None = None) -> pa.Table:
        path = self.path / f"{name}.parquet"
        try:
            return pq.read_table(path, filters=filters)
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(
                f"data set {self.path}: {name}.parquet cannot be read ({error}); build it again."
            ) from error


def open_dataset(path: Path) -> OpenDataset:
    """Open a dataset directory.

    Raises:
        InputError: If its manifest cannot be read.
    """
    return OpenDataset(path, documents.load(Dataset, path / "dataset.json"))
