"""UCI "Online Retail" (Chen, 2012): a year of a British gift shop's invoice lines as purchases.

Every line of the file becomes a row of the events table. A line that is no clean purchase keeps its reason in
`reject_reason`, so that it ends in the snapshot's quarantine and is counted there; nothing is left out. Items and users
are those of clean lines, described by the first of them: a later price or name would tell the past about the future.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.errors import Fault, FaultyInputError, InputError
from components.events.importers.assortment import category_of

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

UK = "United Kingdom"

_COLUMNS = {
    "invoice": "text",
    "item_id": "text",
    "description": "text",
    "quantity": "integers",
    "ts": "timestamps in UTC",
    "unit_price": "numbers",
    "user_id": "integers",
    "country": "text",
    "cancelled": "booleans",
}

CONTRACT = """\
# UCI "Online Retail" (Chen, 2012; CC BY 4.0): invoice lines of a British gift shop, 2010-12-01 to 2011-12-09.
schema: rankgate/dataset/v1
name: online-retail
owner: UCI Machine Learning Repository
description: >
  541 909 invoice lines of a gift shop that sells mostly to other shops; times are to the minute, read as UTC.

tables:
  events:
    path: [events.parquet]
    # `request_id` is the invoice and `position` the line's number on it: two equal lines of an invoice are two purchases,
    # not a row that was sent twice. `reject_reason` says why a line is no clean purchase; such lines go to quarantine.
    columns: {request_id: invoice, position: line}
  users:
    path: [users.parquet]
  items:
    path: [items.parquet]

# Only purchases are known. A line counts once, whatever its quantity; `value` is quantity x unit price, in pounds.
events:
  purchase: {role: outcome, gain: 1}

attributes:
  users:
    country: {role: segment}             # of the customer's first clean line
    region: {role: segment}              # UK | other: the countries outside the UK are small one by one
  items:
    category: {role: feature}            # the file has none: read off the description's words, by a fixed list
    price: {role: feature, type: number} # unit price of the item's first clean line; later ones would leak
    description: {role: ignore}

item:
  category: category
  price: price

# Codes that are no product (POST, M, BANK CHARGES, ...) stay in: published reference figures count them.
requests:
  mode: sampled
  horizon: 14d
  cuts: 3
  negatives: 100

bucket: hour
as_of: "2011-12-10T00:00:00Z"
freshness: 7d
tolerance:
  # 26.6 % of the lines are rejected, and known to be: 135 080 name no customer (a quarter of the file, so nobody they
  # could be ranked for), 8 905 more are cancellations, 40 more have no price. Anything beyond that is news.
  rejected_share: 0.27

split:
  test: {fraction: 0.1}                  # the last tenth of the purchases in the order of time, user, item
  validation: {days: 14}

evaluation:
  cutoffs: [5, 10, 20]
  exclude_seen: true                     # recommend what the customer has not bought before
"""


def import_online_retail(raw: Path, *, out: Path) -> Path:
    """Write events, users, items and the dataset contract of the data set into `out`.

    Args:
        raw: Parquet file of all lines: invoice, item_id, description, country (text), quantity, user_id (integers),
            unit_price (numbers), ts (timestamps), cancelled (booleans).
        out: An existing, empty directory.

    Returns:
        `out / "dataset.yaml"`.

    Raises:
        InputError: If the file cannot be read, lacks columns or holds other types than these.
    """
    lines = _read(raw)
    reason = _reasons(lines)
    clean = pc.is_null(reason)
    pq.write_table(_events(lines, reason), out / "events.parquet")
    bought = lines.filter(clean)
    # Stable: lines of the same minute keep the file's order, which is the shop's.
    bought = bought.take(np.argsort(bought["ts"].cast(pa.int64()).to_numpy(), kind="stable"))
    pq.write_table(_users(bought), out / "users.parquet")
    pq.write_table(_items(bought), out / "items.parquet")
    contract = out / "dataset.yaml"
    contract.write_text(CONTRACT, encoding="utf-8")
    return contract


def _read(raw: Path) -> pa.Table:
    if not raw.is_file():
        raise InputError(f"{raw}: no such file; needed the Online Retail lines as one Parquet file.")
    try:
        lines = pq.ParquetFile(raw).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{raw}: cannot be read as Parquet ({error}); needed the Online Retail lines.") from error
    faults = [
        Fault(f"column {name}", "none of that name", kind)
        for name, kind in _COLUMNS.items()
        if name not in lines.column_names
    ]
    faults += [
        Fault(f"column {name}", f"type {lines.schema.field(name).type}", kind)
        for name, kind in _COLUMNS.items()
        if name in lines.column_names and not _is_kind(lines.schema.field(name).type, kind)
    ]
    if not faults and not lines.num_rows:
        faults = [Fault("table", "no rows", "at least one invoice line")]
    if faults:
        raise FaultyInputError(str(raw), faults)
    return lines.select(list(_COLUMNS))


def _is_kind(found: pa.DataType, kind: str) -> bool:
    tests: dict[str, bool] = {
        "text": pa.types.is_string(found) or pa.types.is_large_string(found),
        "integers": pa.types.is_integer(found),
        "numbers": pa.types.is_floating(found) or pa.types.is_integer(found),
        "timestamps in UTC": pa.types.is_timestamp(found) and found.tz in {None, "UTC"},
        "booleans": pa.types.is_boolean(found),
    }
    return tests[kind]


def _reasons(lines: pa.Table) -> pa.Array:
    """Why each line is no clean purchase, by the first reason that holds; null where it is one."""
    tests = {
        "no customer": pc.is_null(lines["user_id"]),
        "cancelled": pc.fill_null(lines["cancelled"], False),
        "quantity not positive": pc.invert(pc.fill_null(pc.greater(lines["quantity"], 0), False)),
        "price not positive": pc.invert(pc.fill_null(pc.greater(lines["unit_price"], 0), False)),
    }
    return pc.case_when(pc.make_struct(*tests.values()), *(pa.scalar(name) for name in tests))


def _events(lines: pa.Table, reason: pa.Array) -> pa.Table:
    return pa.table(
        {
            "user_id": lines["user_id"],
            "item_id": lines["item_id"],
            "ts": lines["ts"].cast(pa.timestamp("us", tz="UTC")),
            "event": pa.repeat(pa.scalar("purchase"), lines.num_rows),
            "value": pc.multiply(lines["quantity"].cast(pa.float64()), lines["unit_price"].cast(pa.float64())),
            "invoice": lines["invoice"],
            "line": pa.array(_numbers_within(lines["invoice"]).astype(np.int32)),
            "reject_reason": reason,
        }
    )


def _users(bought: pa.Table) -> pa.Table:
    first = bought.take(_first_rows(bought["user_id"]))
    region = pc.if_else(pc.equal(first["country"], UK), "UK", "other")
    return pa.table({"user_id": first["user_id"], "country": first["country"], "region": region})


def _items(bought: pa.Table) -> pa.Table:
    first = bought.take(_first_rows(bought["item_id"]))
    descriptions = [(text or "").strip() for text in first["description"].to_pylist()]
    return pa.table(
        {
            "item_id": first["item_id"],
            "category": [category_of(text) for text in descriptions],
            "price": first["unit_price"].cast(pa.float64()),
            "description": descriptions,
        }
    )


def _first_rows(column: pa.ChunkedArray) -> Ints:
    """Row of the first occurrence of each value, ascending by value."""
    ids, codes = _codes(column)
    rows = np.unique(codes, return_index=True)[1]
    return rows[np.argsort(ids.take(codes[rows]).to_numpy(zero_copy_only=False), kind="stable")]


def _numbers_within(column: pa.ChunkedArray) -> Ints:
    """1 for a value's first row, 2 for its second, and so on."""
    codes = _codes(column)[1]
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    sizes = np.diff(starts, append=len(codes))
    numbers = np.empty(len(codes), dtype=np.int64)
    numbers[order] = np.arange(len(codes)) - np.repeat(starts, sizes) + 1
    return numbers


def _codes(column: pa.ChunkedArray) -> tuple[pa.Array, Ints]:
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return encoded.dictionary, encoded.indices.to_numpy().astype(np.int64)
