"""The first place in which two artefacts part, and what does not count as parting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.evidence import servability
from components.evidence.timed import CALLS_FILE, SERVABILITY_FILE, TIMED_METRICS, TIMED_SENTENCES
from pipelines.replay_differences import SERVING_EVIDENCE, Difference, differences


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    folders = tmp_path / "then", tmp_path / "now"
    for folder in folders:
        folder.mkdir()
    return folders


def _of(two: tuple[Path, Path], artefact: str = "verdict") -> tuple[Difference, ...]:
    return differences(*two, artefact=artefact)


def _both(two: tuple[Path, Path], name: str, then: Any, now: Any) -> None:
    for folder, value in zip(two, (then, now), strict=True):
        if isinstance(value, pa.Table):
            pq.write_table(value, folder / name)
        elif isinstance(value, bytes):
            (folder / name).write_bytes(value)
        else:
            (folder / name).write_text(json.dumps(value))


def _place(two: tuple[Path, Path], artefact: str = "verdict") -> tuple[str, str, str]:
    (difference,) = _of(two, artefact)
    return difference.place, difference.then, difference.now


def test_equal_folders_have_no_difference(two: tuple[Path, Path]) -> None:
    _both(two, "a.json", {"x": 1}, {"x": 1})
    assert _of(two) == ()


def test_json_parts_at_the_first_path_with_both_values(two: tuple[Path, Path]) -> None:
    _both(two, "a.json", {"e": [{"v": 1.5}, {"v": 2}], "z": 1}, {"e": [{"v": 1.5}, {"v": 3}], "z": 2})
    assert _place(two) == ("e[1].v", "2", "3")


def test_an_absent_key_is_told_from_null(two: tuple[Path, Path]) -> None:
    _both(two, "a.json", {"x": None}, {})
    assert _place(two) == ("x", "null", "absent")


def test_one_and_true_are_not_the_same(two: tuple[Path, Path]) -> None:
    _both(two, "a.json", {"x": 1}, {"x": True})
    assert _place(two) == ("x", "1", "true")


def test_the_same_json_written_otherwise_parts_at_a_byte(two: tuple[Path, Path]) -> None:
    _both(two, "a.json", b'{"x":1}', b'{"x": 1}')
    assert _place(two)[0] == "byte 5"


def test_a_table_parts_at_the_first_column_and_row(two: tuple[Path, Path]) -> None:
    _both(two, "t.parquet", pa.table({"a": [1, 2], "b": [0.5, None]}), pa.table({"a": [1, 2], "b": [0.5, 0.25]}))
    assert _place(two) == ("column b, row 1", "None", "0.25")


def test_a_table_of_other_rows_or_columns_says_which(two: tuple[Path, Path]) -> None:
    _both(two, "t.parquet", pa.table({"a": [1]}), pa.table({"a": [1, 2]}))
    assert _place(two) == ("number of rows", "1", "2")
    _both(two, "t.parquet", pa.table({"a": [1]}), pa.table({"a": [1.0]}))
    assert _place(two)[0] == "schema"


def test_two_nans_are_the_same_value_in_a_table_written_otherwise(two: tuple[Path, Path]) -> None:
    table = pa.table({"a": [float("nan"), 1.0]})
    pq.write_table(table, two[0] / "t.parquet", compression="zstd")
    pq.write_table(table, two[1] / "t.parquet", compression="none")
    assert "every value is the same" in _place(two)[0]


def test_a_page_parts_at_a_line_and_shows_what_surrounds_it(two: tuple[Path, Path]) -> None:
    _both(two, "card.html", b"<p>\n" + b"x" * 500 + b"one", b"<p>\n" + b"x" * 500 + b"two")
    place, then, now = _place(two)
    assert place == "line 2"
    assert (then[-3:], now[-3:]) == ("one", "two")


def test_other_files_part_at_a_byte_however_long_they_are(two: tuple[Path, Path]) -> None:
    _both(two, "model.ubj", b"a" * 3_000_000 + b"b", b"a" * 3_000_000 + b"c")
    assert _place(two) == ("byte 3000000", "62", "63")


def test_a_file_that_is_not_there_any_more_is_named(two: tuple[Path, Path]) -> None:
    (two[0] / "a.txt").write_text("")
    assert _place(two) == ("the file", "there", "missing")


def _servability(**changes: Any) -> dict[str, Any]:
    estimate = {"metric": "latency_p99", "value": 12.0, "low": 11.0, "high": 13.0, "n_users": 5}
    return {
        "estimates": [estimate | changes, {"metric": "order_parity", "value": 1.0}],
        "sentences": ["It was ready after 3.2 s and took 300 MiB of memory.", "All 9 lists came."],
    }


def test_times_of_the_service_are_left_out_and_nothing_else_is(two: tuple[Path, Path]) -> None:
    other = _servability(value=99.0, low=90.0, high=120.0)
    other["sentences"][0] = "It was ready after 17 s and took 411 MiB of memory."
    _both(two, SERVABILITY_FILE, _servability(), other)
    assert _of(two, SERVING_EVIDENCE) == ()
    assert _of(two, "evidence-features") != ()
    _both(two, SERVABILITY_FILE, _servability(), _servability(n_users=4))
    assert _place(two, SERVING_EVIDENCE) == ("estimates[0].n_users", "5", "4")
    other["estimates"][1]["value"] = 0.5
    _both(two, SERVABILITY_FILE, _servability(), other)
    assert _place(two, SERVING_EVIDENCE)[0] == "estimates[1].value"


def test_a_time_that_could_not_be_measured_any_more_is_a_difference(two: tuple[Path, Path]) -> None:
    _both(two, SERVABILITY_FILE, _servability(), _servability(value=None))
    assert _place(two, SERVING_EVIDENCE) == ("estimates[0].value", '"left out"', "null")


def test_the_column_of_times_is_left_out_of_the_table_of_calls(two: tuple[Path, Path]) -> None:
    _both(
        two,
        CALLS_FILE,
        pa.table({"milliseconds": [1.0], "status": [200]}),
        pa.table({"milliseconds": [2.0], "status": [200]}),
    )
    assert _of(two, SERVING_EVIDENCE) == ()
    _both(
        two,
        CALLS_FILE,
        pa.table({"milliseconds": [1.0], "status": [200]}),
        pa.table({"milliseconds": [2.0], "status": [503]}),
    )
    assert _place(two, SERVING_EVIDENCE) == ("column status, row 0", "200", "503")


def test_what_is_declared_as_time_is_what_servability_measures() -> None:
    measured = {estimate.metric for estimate in servability._missing()}
    assert set(TIMED_METRICS) == measured - {
        "error_share", "score_difference", "order_parity", "malformed_refused", "well_afterwards",
    }  # fmt: skip
    assert servability.CALLS_TABLE == CALLS_FILE
    words = Path(servability.__file__).with_name("servability_words.py").read_text()
    assert all(sentence.rstrip() in words for sentence in TIMED_SENTENCES)
