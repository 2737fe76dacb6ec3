"""Files of a table: found in one order, read as their header says, named without the machine they lie on."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.artifacts.digests import digest_bytes
from components.errors import InputError
from components.events.contract import TableSource
from components.events.declaration import parse_contract
from components.events.sources import locate, source_digests


def rewrite(path: Path, **options: Any) -> None:
    """Write a CSV once more in another dialect."""
    rows = list(csv.reader(io.StringIO(path.read_text(), newline="")))
    with path.open("w", newline="") as stream:
        csv.writer(stream, **options).writerows(rows)


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": ";"},
        {"delimiter": "\t"},
        {"delimiter": "|"},
        {"quoting": csv.QUOTE_ALL},
        {"lineterminator": "\n"},
        {"lineterminator": "\r\n"},
    ],
)
def test_dialects_of_csv_are_told_by_the_header_line(shop: Any, options: dict[str, Any]) -> None:
    wanted, _ = shop.take()
    base = shop.write(form="csv")
    rewrite(base / "events-0.csv", **options)
    assert shop.take(form="csv", base=base)[0].digest == wanted.digest


def test_a_byte_order_mark_and_compression_do_not_count(shop: Any) -> None:
    wanted, _ = shop.take()
    base = shop.write(form="csv")
    path = base / "events-0.csv"
    path.with_suffix(".csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + path.read_bytes()))
    path.unlink()
    shop.contract["tables"]["events"] = {"path": "events-0.csv.gz"}
    assert shop.take(form="csv", base=base)[0].digest == wanted.digest


def test_text_with_delimiters_quotes_and_line_ends_is_one_value(shop: Any) -> None:
    shop.items[0]["category"] = 'games, "old"; and\nnew'
    _, out = shop.take(form="csv")
    assert pq.read_table(out / "items.parquet")["category"].to_pylist()[0] == 'games, "old"; and\nnew'


def test_a_column_without_a_name_is_left_alone(shop: Any) -> None:
    wanted, _ = shop.take()
    shop.users = [{"": str(number), **row} for number, row in enumerate(shop.users)]
    assert shop.take(form="csv")[0].digest == wanted.digest


def test_dirt_in_the_first_lines_does_not_change_how_the_others_are_read(shop: Any) -> None:
    """A reader that guesses from a sample would skip such lines, or read all positions as text, without a word."""
    shop.events.insert(0, dict.fromkeys(shop.events[0], "garbage"))
    count = shop.counts(form="csv")
    assert (count.read, count.kept, count.rejected) == (25, 24, {"ts unreadable": 1})


def test_a_column_that_one_file_lacks_is_null_there(shop: Any) -> None:
    base = shop.write(cuts=[12])
    path = base / "events-1.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["position", "ingested_at"]), path)
    snapshot, out = shop.take(base=base)
    assert snapshot.tables[0].kept == 24
    table = pq.read_table(out / "events.parquet")
    assert table["position"].null_count > 6
    assert table["ingested_at"].null_count == 0


def test_files_of_different_column_order_and_widths_are_one_table(shop: Any) -> None:
    wanted, _ = shop.take()
    base = shop.write(cuts=[12])
    path = base / "events-1.parquet"
    table = pq.read_table(path)
    table = table.set_column(
        table.column_names.index("position"), "position", table["position"].cast(pa.int64())
    ).select(table.column_names[::-1])
    pq.write_table(table, path)
    assert shop.take(base=base)[0].digest == wanted.digest


def test_files_that_do_not_fit_together_are_refused(shop: Any) -> None:
    base = shop.write(cuts=[12])
    path = base / "events-1.parquet"
    table = pq.read_table(path)
    struct = pa.array([{"a": 1}] * table.num_rows)
    pq.write_table(table.set_column(table.column_names.index("position"), "position", struct), path)
    with pytest.raises(InputError, match=r"events-0\.parquet|events\.position"):
        shop.take(base=base)


def test_columns_called_as_ours_are_inside_do_not_disturb(shop: Any) -> None:
    wanted, _ = shop.take()
    for number, row in enumerate(shop.events):
        row |= {"_source": "theirs", "_row": str(number), "_rejected": "x", "reads": "y", "rowid": "z", "filename": "w"}
    assert shop.take()[0].digest == wanted.digest


def test_names_with_quotes_and_brackets_are_names(shop: Any) -> None:
    wanted, _ = shop.take()
    base = shop.write()
    (base / "events-0.parquet").rename(base / "o'clock [new].parquet")
    shop.contract["tables"]["events"]["path"] = "o'clock [new].parquet"
    shop.contract["tables"]["users"]["columns"] = {"country": 'the "country"; --'}
    users = pq.read_table(base / "users.parquet").rename_columns(["user_id", 'the "country"; --'])
    pq.write_table(users, base / "users.parquet")
    assert shop.take(base=base)[0].digest == wanted.digest


def test_one_file_named_in_several_ways_is_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    for name in ("2.csv", "1.csv"):
        (folder / name).write_text("x\n")
    (folder / "folder.csv").mkdir()
    path = ("a/b/2.csv", "a/*/*.csv", "a/../a/b/1.csv", "**/1.csv", str(folder / "2.csv"))
    assert [file.name for file in locate(TableSource(path=path), base=tmp_path)] == ["1.csv", "2.csv"]


def test_names_are_relative_to_the_folder_that_the_files_share(tmp_path: Path) -> None:
    for name in ("day=1/part.csv", "day=2/part.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x\n")
    files = locate(TableSource(path=("day=*/part.csv",)), base=tmp_path)
    assert [file.name for file in files] == ["day=1/part.csv", "day=2/part.csv"]


def test_source_digests_are_the_sha256_of_every_file_and_those_of_the_snapshot(shop: Any) -> None:
    base = shop.write(cuts=[3])
    snapshot, _ = shop.take(base=base)
    contract = parse_contract(json.dumps(shop.contract).replace('*"', '*.parquet"'), subject="c")
    digests = source_digests(contract, base=base)
    assert digests == snapshot.sources
    assert digests["users: users.parquet"] == digest_bytes((base / "users.parquet").read_bytes())
    with (base / "events-1.parquet").open("ab") as stream:
        stream.write(b" ")
    changed = source_digests(contract, base=base)
    assert {key for key in digests if changed[key] != digests[key]} == {"events: events-1.parquet"}


def test_source_digests_name_a_file_that_is_missing(shop: Any, tmp_path: Path) -> None:
    contract = parse_contract(json.dumps(shop.contract).replace('*"', '*.parquet"'), subject="c")
    with pytest.raises(InputError, match=r"events\*\.parquet: found no file at .*; needed at least one"):
        source_digests(contract, base=tmp_path)


def test_a_file_is_not_what_lies_below_itself(tmp_path: Path) -> None:
    (tmp_path / "log.csv").touch()
    with pytest.raises(InputError, match=r"log\.csv/\*\*: found no file"):
        locate(TableSource(path=("log.csv/**",), format="csv"), base=tmp_path)
