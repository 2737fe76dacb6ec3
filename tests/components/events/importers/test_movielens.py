from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from components.errors import FaultyInputError, InputError
from components.events.declaration import load_contract
from components.events.importers.movielens import import_movielens

LARGE = {
    "ratings.dat": "1::1193::5::978300760\n1::661::3::978302109\n6040::1193::4::956703932\n",
    "users.dat": "6040::M::25::6::11106\n1::F::1::10::48067\n",
    "movies.dat": "1193::One Flew Over the Cuckoo's Nest (1975)::Drama\n661::Cité, La (1996)::Animation|Musical\n3::Untitled::\n",
}
SMALL = {
    "u.data": "196\t242\t3\t881250949\n186\t242\t5\t891717742\n196\t2\t4\t881250000\n",
    "u.user": "186|49|F|executive|00000\n196|17|M|student|55105\n",
    "u.item": (
        "242|Kolya (1996)|24-Jan-1997||http://example.org|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
        "2|Télé|01-Jan-1995||http://example.org|0|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0|1|0|0\n"
        "267|unknown||||1" + "|0" * 18 + "\n"
    ),
}


def folder_of(tmp_path: Path, files: dict[str, str]) -> Path:
    folder = tmp_path / "ml"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_bytes(text.encode("latin-1"))
    return folder


def imported(tmp_path: Path, files: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    out = tmp_path / "out"
    out.mkdir()
    import_movielens(folder_of(tmp_path, files), out=out)
    return {name: pq.read_table(out / f"{name}.parquet").to_pylist() for name in ("events", "users", "items")}


def faults_of(tmp_path: Path, files: dict[str, str]) -> list[str]:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(FaultyInputError) as caught:
        import_movielens(folder_of(tmp_path, files), out=out)
    assert caught.value.exit_code == 2
    assert list(out.iterdir()) == []
    return [str(fault) for fault in caught.value.faults]


def test_ml_1m_is_read(tmp_path: Path) -> None:
    tables = imported(tmp_path, LARGE)
    assert tables["events"] == [
        {
            "user_id": 1,
            "item_id": 1193,
            "ts": datetime(2000, 12, 31, 22, 12, 40, tzinfo=UTC),
            "event": "rating",
            "value": 5.0,
        },
        {
            "user_id": 1,
            "item_id": 661,
            "ts": datetime(2000, 12, 31, 22, 35, 9, tzinfo=UTC),
            "event": "low_rating",
            "value": 3.0,
        },
        {
            "user_id": 6040,
            "item_id": 1193,
            "ts": datetime(2000, 4, 25, 23, 5, 32, tzinfo=UTC),
            "event": "rating",
            "value": 4.0,
        },
    ]
    assert tables["users"] == [
        {"user_id": 1, "gender": "F", "age": "under 18", "occupation": "K-12 student"},
        {"user_id": 6040, "gender": "M", "age": "25-34", "occupation": "doctor/health care"},
    ]
    assert tables["items"] == [
        {"item_id": 3, "title": "Untitled", "genre": None, "year": None},
        {"item_id": 661, "title": "Cité, La (1996)", "genre": "Animation", "year": 1996.0},
        {"item_id": 1193, "title": "One Flew Over the Cuckoo's Nest (1975)", "genre": "Drama", "year": 1975.0},
    ]


def test_ml_100k_gives_the_same_tables(tmp_path: Path) -> None:
    tables = imported(tmp_path, SMALL)
    assert [(row["user_id"], row["item_id"], row["event"], row["value"]) for row in tables["events"]] == [
        (196, 242, "low_rating", 3.0),
        (186, 242, "rating", 5.0),
        (196, 2, "rating", 4.0),
    ]
    assert tables["events"][0]["ts"] == datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC)
    assert tables["users"] == [
        {"user_id": 186, "gender": "F", "age": "45-49", "occupation": "executive"},
        {"user_id": 196, "gender": "M", "age": "under 18", "occupation": "student"},
    ]
    assert tables["items"] == [
        {"item_id": 2, "title": "Télé", "genre": "Action", "year": 1995.0},
        {"item_id": 242, "title": "Kolya (1996)", "genre": "Comedy", "year": 1996.0},
        {"item_id": 267, "title": "unknown", "genre": None, "year": None},
    ]


@pytest.mark.parametrize(("files", "layout"), [(LARGE, "ml-1m"), (SMALL, "ml-100k")])
def test_contract_is_valid_and_states_the_convention(tmp_path: Path, files: dict[str, str], layout: str) -> None:
    imported(tmp_path, files)
    text = (tmp_path / "out" / "dataset.yaml").read_text()
    contract = load_contract(tmp_path / "out" / "dataset.yaml")
    assert contract.name == f"movielens-{layout}"
    assert contract.events["rating"].per_value
    assert contract.events["low_rating"].role == "ignore"
    assert "a rating of 4 or 5 is an outcome" in text
    roles = {name: attribute.role for name, attribute in contract.attributes.users.items()}
    assert roles == {"gender": "sensitive", "age": "sensitive", "occupation": "segment"}


def test_log_is_judged_from_the_midnight_after_its_last_rating(tmp_path: Path) -> None:
    imported(tmp_path, LARGE)
    contract = yaml.safe_load((tmp_path / "out" / "dataset.yaml").read_text())
    assert contract["as_of"] == "2001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("years", "band"),
    [
        (1, "under 18"),
        (17, "under 18"),
        (18, "18-24"),
        (24, "18-24"),
        (25, "25-34"),
        (55, "50-55"),
        (56, "56+"),
        (99, "56+"),
    ],
)
def test_ages_fall_into_the_bands_of_ml_1m(tmp_path: Path, years: int, band: str) -> None:
    tables = imported(tmp_path, SMALL | {"u.user": f"186|{years}|F|writer|0\n"})
    assert tables["users"][0]["age"] == band


def test_windows_line_ends_and_a_missing_last_one_do_not_matter(tmp_path: Path) -> None:
    files = {name: text.rstrip("\n").replace("\n", "\r\n") for name, text in LARGE.items()}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert imported(tmp_path / "a", files) == imported(tmp_path / "b", LARGE)


@pytest.mark.parametrize(
    ("name", "text", "needed"),
    [
        ("ratings.dat", "1::2::3\n", "4 fields, not 3"),
        ("ratings.dat", "1::2::6::978300760\n", "a rating from 1 to 5"),
        ("ratings.dat", "1::two::3::978300760\n", "as integers"),
        ("ratings.dat", "1::2::3::99999999999\n", "seconds since 1970"),
        ("users.dat", "1::X::1::10::48067\n", "gender F or M"),
        ("users.dat", "1::F::1::21::48067\n", "an occupation from 0 to 20"),
        ("movies.dat", "one::Title::Drama\n", "movie as an integer"),
    ],
)
def test_a_bad_line_is_named_with_what_it_needed(tmp_path: Path, name: str, text: str, needed: str) -> None:
    faults = faults_of(tmp_path, LARGE | {name: text})
    assert faults[0].startswith(f"{name} line 1: found '{text.strip()}'")
    assert needed in faults[0]


def test_bad_genre_flags_are_named(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, SMALL | {"u.item": "1|Title|01-Jan-1995||x" + "|2" * 19 + "\n"})
    assert "19 genre flags of 0 or 1" in faults[0]


def test_faults_of_all_files_come_at_once_and_many_alike_are_counted(tmp_path: Path) -> None:
    files = {"ratings.dat": "x\n" * 12, "users.dat": "", "movies.dat": "1::A::Drama\n1::B::Drama\n"}
    faults = faults_of(tmp_path, files)
    assert len(faults) == 8
    assert faults[5] == "ratings.dat: found 7 more lines like that; needed none."
    assert faults[6].startswith("users.dat: found no lines")
    assert "movie 1 on more than one line" in faults[7]


def test_a_folder_of_neither_layout_is_refused_with_what_each_lacks(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"ratings.dat": "1::1::5::1\n", "u.data": "1\t1\t5\t1\n"})
    with pytest.raises(InputError, match=r"ml-1m lacks users.dat, movies.dat; ml-100k lacks u.user, u.item"):
        import_movielens(folder, out=tmp_path)


def test_a_folder_that_is_absent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        import_movielens(tmp_path / "absent", out=tmp_path)
