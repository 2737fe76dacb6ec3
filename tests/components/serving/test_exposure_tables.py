"""From what was shown to the next run's events: exposure files become Parquet that a dataset contract takes in as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from components.errors import FaultyInputError, InputError
from components.events.declaration import parse_contract
from components.events.snapshot import take_snapshot
from components.serving import exposure_tables
from components.serving.contract import Answer, Place
from components.serving.exposure_files import ExposureFile, Shown, files_in, line_of
from components.serving.exposure_tables import FRAGMENT, Naming, convert_exposures

_BEGUN = datetime(2026, 5, 10, 9, tzinfo=UTC)
_AS_OF = datetime(2026, 5, 20, tzinfo=UTC)


def shown(number: int, *, user: str | None = "", surface: str = "home", **context: str) -> Shown:
    places = tuple(
        Place(f"i{(number + rank) % 7}", 1.0 / rank, rank, 0.5 if rank == 2 else 1.0, rank == 2, "given")
        for rank in (1, 2, 3)
    )
    whose = f"u{number % 5}" if user == "" else user
    answer = Answer(f"r{number}", places, "9f2c", "canary", ("deadline", "unexplained"), {})
    at = _BEGUN + timedelta(minutes=number)
    return Shown.of(at, f"r{number}", whose, surface, context or {"device": "phone"}, answer)


def written(folder: Path, lists: Iterable[Shown], *, begun: datetime = _BEGUN) -> Path:
    folder.mkdir(exist_ok=True)
    file = ExposureFile(folder, begun=begun)
    for one in lists:
        file.append(line_of(one))
    file.close()
    return file.path


def test_a_place_is_an_impression_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    path = written(tmp_path / "log", [shown(1)])
    done = convert_exposures(tmp_path / "log", out=tmp_path / "events")
    assert (done.converted, done.lists, done.rows) == (1, 1, 3)
    table = pq.read_table(tmp_path / "events" / f"{path.stem}.parquet")
    assert table.schema.field("ts").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("position").type == pa.int32()
    assert table.to_pylist()[1] == {
        "user_id": "u1",
        "item_id": "i3",
        "ts": _BEGUN + timedelta(minutes=1),
        "event": "impression",
        "request_id": "r1",
        "position": 2,
        "served_surface": "home",
        "served_release": "9f2c",
        "served_arm": "canary",
        "served_source": "given",
        "served_score": 0.5,
        "served_propensity": 0.5,
        "served_explored": True,
        "served_fallbacks": "deadline,unexplained",
        "device": "phone",
    }


def test_a_context_that_a_list_lacks_is_unknown_there(tmp_path: Path) -> None:
    written(tmp_path / "log", [shown(1, device="phone"), shown(2, locale="nl")])
    assert convert_exposures(tmp_path / "log", out=tmp_path / "events").context == ("device", "locale")
    rows = pq.read_table(next((tmp_path / "events").glob("*.parquet"))).to_pylist()
    assert [(row["device"], row["locale"]) for row in rows[::3]] == [("phone", None), (None, "nl")]


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    written(tmp_path / "log", map(shown, range(50)))
    for name in ("one", "two"):
        convert_exposures(tmp_path / "log", out=tmp_path / name)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.is_file()}
        for name in ("one", "two")
    )
    assert len(one) == 3
    assert one == two


def test_a_file_of_many_portions_holds_every_row_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposure_tables, "_ROWS", 10)
    path = written(tmp_path / "log", map(shown, range(100)))
    convert_exposures(tmp_path / "log", out=tmp_path / "events")
    file = pq.ParquetFile(tmp_path / "events" / f"{path.stem}.parquet")
    assert file.metadata.num_row_groups > 20
    assert file.read()["request_id"].to_pylist()[::3] == [f"r{number}" for number in range(100)]


def test_what_visitors_were_shown_is_counted_and_left_out(tmp_path: Path) -> None:
    written(tmp_path / "log", [shown(1), shown(2, user=None), shown(3, user=None)])
    done = convert_exposures(tmp_path / "log", out=tmp_path / "events")
    assert (done.rows, done.visitors) == (3, 6)


def test_files_of_visitors_alone_leave_an_empty_table_that_fits_the_others(tmp_path: Path) -> None:
    written(tmp_path / "log", [shown(1, user=None)])
    written(tmp_path / "log", [shown(2)])
    convert_exposures(tmp_path / "log", out=tmp_path / "events")
    assert sorted(pq.read_metadata(path).num_rows for path in (tmp_path / "events").glob("*.parquet")) == [0, 3]


def test_what_was_converted_and_is_whole_is_not_converted_again(tmp_path: Path) -> None:
    written(tmp_path / "log", [shown(1)])
    convert_exposures(tmp_path / "log", out=tmp_path / "events")
    (table,) = (tmp_path / "events").glob("*.parquet")
    made = table.stat().st_mtime_ns
    written(tmp_path / "log", [shown(2)], begun=_BEGUN + timedelta(hours=1))
    done = convert_exposures(tmp_path / "log", out=tmp_path / "events")
    assert (done.converted, done.kept, done.rows) == (1, 1, 6)
    assert table.stat().st_mtime_ns == made


@pytest.mark.parametrize("harm", ["cut", "gone", "no word"])
def test_what_was_converted_and_is_not_whole_is_converted_again(harm: str, tmp_path: Path) -> None:
    written(tmp_path / "log", [shown(1)])
    convert_exposures(tmp_path / "log", out=tmp_path / "events")
    (table,) = (tmp_path / "events").glob("*.parquet")
    content = table.read_bytes()
    if harm == "cut":
        table.write_bytes(content[:-1])
    elif harm == "gone":
        table.unlink()
    else:
        table.with_suffix(".json").unlink()
    assert convert_exposures(tmp_path / "log", out=tmp_path / "events").converted == 1
    assert table.read_bytes() == content


def test_other_names_are_another_table(tmp_path: Path) -> None:
    written(tmp_path / "log", [shown(1)])
    convert_exposures(tmp_path / "log", out=tmp_path / "events")
    naming = Naming("view", {"ts": "happened_at"})
    assert convert_exposures(tmp_path / "log", out=tmp_path / "events", naming=naming).converted == 1
    (table,) = (pq.read_table(path) for path in (tmp_path / "events").glob("*.parquet"))
    assert table["event"].to_pylist() == ["view"] * 3
    assert "happened_at" in table.column_names
    assert "ts" not in table.column_names


def test_a_file_that_is_still_written_to_is_left_for_another_time(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    file = ExposureFile(tmp_path / "log", begun=_BEGUN)
    file.append(line_of(shown(1)))
    done = convert_exposures(tmp_path / "log", out=tmp_path / "events")
    assert (done.converted, done.unfinished) == (0, 1)
    assert not list((tmp_path / "events").iterdir())
    file.close()
    assert convert_exposures(tmp_path / "log", out=tmp_path / "events").converted == 1


def test_a_file_is_removed_only_where_that_is_asked_for_and_its_rows_stay(tmp_path: Path) -> None:
    written(tmp_path / "log", [shown(1)])
    convert_exposures(tmp_path / "log", out=tmp_path / "events")
    assert len(files_in(tmp_path / "log")) == 1
    done = convert_exposures(tmp_path / "log", out=tmp_path / "events", remove=True)
    assert (done.kept, done.removed) == (1, 1)
    assert files_in(tmp_path / "log") == []
    assert convert_exposures(tmp_path / "log", out=tmp_path / "events").rows == 0
    assert len(list((tmp_path / "events").glob("*.parquet"))) == 1


def test_what_a_kill_has_torn_is_told_and_the_rest_is_there(tmp_path: Path) -> None:
    path = written(tmp_path / "log", [shown(1), shown(2)])
    path.write_bytes(path.read_bytes()[:-20])
    done = convert_exposures(tmp_path / "log", out=tmp_path / "events")
    assert (done.rows, done.torn_files, done.damaged_lines) == (3, 1, 0)


def test_a_context_named_as_a_column_of_events_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "log", [shown(1, Position="top")])
    with pytest.raises(FaultyInputError, match="Position"):
        convert_exposures(tmp_path / "log", out=tmp_path / "events")


def test_names_of_columns_that_there_are_not_are_refused() -> None:
    with pytest.raises(FaultyInputError, match="column when: found no column of an event"):
        Naming(columns={"when": "happened_at"})


def test_no_folder_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no folder"):
        convert_exposures(tmp_path / "none", out=tmp_path / "events")


# ---- into a snapshot


def contract_text(fragment: Path, *paths: str, **more: Any) -> str:
    """The fragment that a conversion wrote, joined with what only the team knows."""
    said = yaml.safe_load(fragment.read_text())
    said["tables"]["events"]["path"] = [f"{fragment.parent.name}/{one}" for one in said["tables"]["events"]["path"]]
    said["tables"]["events"]["path"] += paths
    said["events"]["click"] = {"gain": 1}
    return yaml.safe_dump({"schema": "rankgate/dataset/v1", "name": "home-feed", "freshness": None, **said, **more})


def clicks(path: Path, *, ids: type = str) -> None:
    rows = [
        {"user_id": f"u{number % 5}", "item_id": f"i{(number + 1) % 7}", "request_id": f"r{number}"}
        for number in range(0, 40, 2)
    ]
    moments = [_BEGUN + timedelta(minutes=number, seconds=30) for number in range(0, 40, 2)]
    if path.suffix == ".csv":
        lines = [f"{','.join(row.values())},click,{at.isoformat()}" for row, at in zip(rows, moments, strict=True)]
        path.write_text("\n".join(["user_id,item_id,request_id,event,ts", *lines]) + "\n")
        return
    if ids is int:
        for row in rows:
            row.update({key: int(row[key][1:]) for key in ("user_id", "item_id")})  # type: ignore[dict-item]
    table = pa.Table.from_pylist([{**row, "event": "click", "ts": at} for row, at in zip(rows, moments, strict=True)])
    pq.write_table(table, path)


def snapshot_of(text: str, base: Path, out: Path) -> tuple[Any, list[dict[str, Any]]]:
    out.mkdir()
    snapshot = take_snapshot(parse_contract(text, subject="dataset.yaml"), base=base, as_of=_AS_OF, out=out)
    return snapshot, pq.read_table(out / "events.parquet").to_pylist()


@pytest.mark.parametrize("outcomes", ["clicks.csv", "clicks.parquet"])
def test_exposures_are_the_next_snapshots_impressions(outcomes: str, tmp_path: Path) -> None:
    lists = [shown(number) for number in range(40)]
    written(tmp_path / "log", lists[:25])
    written(tmp_path / "log", lists[25:])
    convert_exposures(tmp_path / "log", out=tmp_path / "shown")
    clicks(tmp_path / outcomes)
    snapshot, events = snapshot_of(
        contract_text(tmp_path / "shown" / FRAGMENT, outcomes), tmp_path, tmp_path / "snapshot"
    )
    assert snapshot.event_counts == {"impression": 120, "click": 20}
    assert snapshot.tables[0].rejected == {}
    found = {
        (row["request_id"], row["position"], row["item_id"], row["user_id"], row["ts"], row["device"])
        for row in events
        if row["event"] == "impression"
    }
    assert found == {
        (one.request_id, one.rank, one.item_id, one.user_id, datetime.fromisoformat(one.at), "phone")
        for each in lists
        for one in each.exposures()
    }


def test_ids_that_are_numbers_in_the_teams_own_tables_join_with_what_was_shown(tmp_path: Path) -> None:
    lists = [shown(number, user=str(number % 5)) for number in range(40)]
    bare = [
        replace(one, places=tuple(replace(place, item_id=place.item_id[1:]) for place in one.places)) for one in lists
    ]
    written(tmp_path / "log", bare)
    convert_exposures(tmp_path / "log", out=tmp_path / "shown")
    clicks(tmp_path / "clicks.parquet", ids=int)
    text = contract_text(tmp_path / "shown" / FRAGMENT, "clicks.parquet")
    snapshot, _ = snapshot_of(text, tmp_path, tmp_path / "snapshot")
    assert (snapshot.users, snapshot.items) == (5, 7)


def test_a_logs_own_names_are_read_with_one_contract(tmp_path: Path) -> None:
    written(tmp_path / "log", map(shown, range(40)))
    naming = Naming("view", {"ts": "happened_at", "request_id": "list_id"})
    convert_exposures(tmp_path / "log", out=tmp_path / "shown", naming=naming)
    clicks(tmp_path / "clicks.csv")
    text = (tmp_path / "clicks.csv").read_text()
    (tmp_path / "clicks.csv").write_text(text.replace("request_id", "list_id").replace(",ts\n", ",happened_at\n"))
    fragment = contract_text(tmp_path / "shown" / FRAGMENT, "clicks.csv")
    snapshot, _ = snapshot_of(fragment, tmp_path, tmp_path / "snapshot")
    assert snapshot.event_counts == {"view": 120, "click": 20}


def test_who_refused_and_what_is_too_old_leaves_no_impression(tmp_path: Path) -> None:
    written(tmp_path / "log", map(shown, range(40)))
    convert_exposures(tmp_path / "log", out=tmp_path / "shown")
    clicks(tmp_path / "clicks.csv")
    (tmp_path / "users.csv").write_text("user_id,consent\nu0,yes\nu1,yes\nu2,no\nu3,yes\n")
    said = yaml.safe_load(contract_text(tmp_path / "shown" / FRAGMENT, "clicks.csv"))
    said["tables"]["users"] = {"path": "users.csv"}
    said["consent"] = {"column": "consent", "values": ["yes"]}
    kept_since = _BEGUN + timedelta(minutes=20)
    said["retention"] = f"{int((_AS_OF - kept_since).total_seconds())}s"
    _, events = snapshot_of(yaml.safe_dump(said), tmp_path, tmp_path / "snapshot")
    impressions = [row for row in events if row["event"] == "impression"]
    assert {row["user_id"] for row in impressions} == {"u0", "u1", "u3"}
    assert min(row["ts"] for row in impressions) == kept_since


# ---- by hand


def rankgate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli.main", "exposures", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.integration
def test_the_command_converts_and_says_what_it_found(tmp_path: Path) -> None:
    path = written(tmp_path / "log", [shown(1), shown(2, user=None), shown(3)])
    path.write_bytes(path.read_bytes()[:-5])
    first = rankgate("convert", tmp_path / "log", "--out", tmp_path / "events")
    assert first.returncode == 0, first.stderr
    assert "3 impressions of 2 lists in 1 files" in first.stdout
    assert "3 places shown to visitors left out" in first.stdout
    assert "1 files end in a line whose writer was ended" in first.stdout
    assert f"1 of 1: {path.name}, 3 impressions" in first.stderr
    again = rankgate("convert", tmp_path / "log", "--out", tmp_path / "events", "--remove", "--json")
    said = json.loads(again.stdout)
    assert (said["converted"], said["kept"], said["removed"], said["rows"]) == (0, 1, 1, 3)


@pytest.mark.integration
def test_a_column_that_is_no_pair_is_bad_input(tmp_path: Path) -> None:
    written(tmp_path / "log", [shown(1)])
    done = rankgate("convert", tmp_path / "log", "--out", tmp_path / "events", "--column", "ts")
    assert done.returncode == 2
    assert "ts=happened_at" in done.stderr
