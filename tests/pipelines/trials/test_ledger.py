"""The only state of a trial survives being killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import InputError
from pipelines.trials.ledger import Ledger
from pipelines.trials.records import Held


def held(draw: int, code: str = "now") -> Held:
    return Held(code, draw, 100, "kind", 1, 1)


def test_what_was_added_is_read_again_in_order(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "records.jsonl", Held)
    ledger.add([held(2), held(1)])
    ledger.add([held(3)])
    assert [one.draw for one in ledger.read("now")] == [2, 1, 3]


def test_records_of_other_code_are_not_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "records.jsonl", Held)
    ledger.add([held(1, "before"), held(2)])
    assert [one.draw for one in ledger.read("now")] == [2]


def test_a_writer_killed_within_a_line_costs_that_line_alone(tmp_path: Path) -> None:
    place = tmp_path / "records.jsonl"
    ledger = Ledger(place, Held)
    ledger.add([held(1), held(2)])
    place.write_bytes(place.read_bytes()[:-20])
    assert [one.draw for one in ledger.read("now")] == [1]
    ledger.add([held(2), held(3)])
    assert [one.draw for one in ledger.read("now")] == [1, 2, 3]


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    place = tmp_path / "records.jsonl"
    ledger = Ledger(place, Held)
    ledger.add([held(1), held(2), held(3)])
    lines = place.read_bytes().split(b"\n")
    place.write_bytes(b"\n".join([lines[0], b"{}", *lines[2:]]))
    with pytest.raises(InputError, match="line 2"):
        ledger.read("now")
