"""The digest of rows, whatever wrote them: sha256 over columns in blocks of a fixed number of rows.

Parquet bytes depend on the writer's version; these bytes do not. Fixed-width columns count as little-endian values with
null as zero, text as lengths and UTF-8, each with its validity bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.artifacts.digests import canonical_json

BLOCK_ROWS = 65_536


def digest_rows(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> str:
    """sha256 of the rows of `batches` in their order; how they are split into batches does not count."""
    digest = hashlib.sha256(canonical_json([[field.name, str(field.type)] for field in schema]))
    for block in blocks(batches, schema):
        digest.update(block.num_rows.to_bytes(8, "little"))
        for column in block.columns:
            _update(digest, column)
    return digest.hexdigest()


def blocks(batches: Iterable[pa.RecordBatch], schema: pa.Schema, rows: int = BLOCK_ROWS) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `rows`, but for the last."""
    waiting: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        waiting.append(batch)
        held += batch.num_rows
        while held >= rows:
            table = pa.Table.from_batches(waiting, schema)
            yield _one(table.slice(0, rows))
            rest = table.slice(rows)
            waiting, held = rest.to_batches(), rest.num_rows
    if held:
        yield _one(pa.Table.from_batches(waiting, schema))


def _one(table: pa.Table) -> pa.RecordBatch:
    (batch,) = table.combine_chunks().to_batches(max_chunksize=table.num_rows)
    return batch


def _update(digest: hashlib._Hash, column: pa.Array) -> None:
    digest.update(np.packbits(pc.is_valid(column).to_numpy(zero_copy_only=False)).tobytes())
    if pa.types.is_string(column.type):
        lengths, text = _text_bytes(pc.fill_null(column, ""))
        digest.update(lengths)
        digest.update(text)
    elif pa.types.is_timestamp(column.type):
        digest.update(pc.fill_null(column.cast(pa.int64()), 0).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
    elif pa.types.is_integer(column.type):
        digest.update(pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
    else:
        digest.update(pc.fill_null(column, 0.0).to_numpy(zero_copy_only=False).astype("<f8").tobytes())


def _text_bytes(column: pa.StringArray) -> tuple[bytes, memoryview]:
    """Lengths (little-endian int32) and the joined UTF-8 of a column without nulls, out of its buffers."""
    _, offset_buffer, data = column.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int32)[column.offset : column.offset + len(column) + 1]
    text = memoryview(data)[offsets[0] : offsets[-1]] if data is not None else memoryview(b"")
    return np.diff(offsets).astype("<i4").tobytes(), text
