"""Requests and labels of small logs, each row of which has a reason to be there."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from components.dataset.build import build_dataset
from components.dataset.reading import OpenDataset, open_dataset
from components.errors import InputError


def _worlds() -> Any:
    name, path = "dataset_worlds", Path(__file__).with_name("worlds.py")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


worlds = _worlds()
DAYS = 12
Build = Callable[[Any], OpenDataset]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def built(world: Any) -> OpenDataset:
        snapshot, out = worlds.write_snapshot(world, tmp_path / "snapshot"), tmp_path / "dataset"
        out.mkdir()
        build_dataset(snapshot, out=out, seed=0)
        return open_dataset(out)

    return built


def logged(*extra: Any, contract: str = worlds.LOGGED, as_of_hour: float = 24.0 * DAYS) -> Any:
    """Twelve days of a feed, a request an hour at half past, with further events."""
    events = worlds.feed([hour + 0.5 for hour in range(24 * DAYS)])
    return worlds.World(
        worlds.contract_of(contract), events + extra, worlds.people(7), worlds.goods(9), as_of_hour=as_of_hour
    )


def bought(*extra: Any, contract: str = worlds.SAMPLED) -> Any:
    """Twelve days of purchases, one every two hours by five users in turn, of i0 to i60; nobody has i61 or i62."""
    events = tuple(
        worlds.Happening(f"u{number % 5}", f"i{(number * 7) % 61}", 2.0 * number, "purchase")
        for number in range(6 * 24)
    )
    return worlds.World(worlds.contract_of(contract), events + extra, worlds.people(6), worlds.goods(63))


def row_of(data: OpenDataset, request_id: str, item_id: str) -> dict[str, Any] | None:
    """A recorded row by names; None where it was left out."""
    number = data.requests.filter(pc.equal(data.requests["request_id"], request_id))
    if not number.num_rows:
        return None
    item = data.items.filter(pc.equal(data.items["item_id"], item_id))["item"][0]
    rows = data.rows(number["split"][0].as_py())
    rows = rows.filter(pc.and_(pc.equal(rows["request"], number["request"][0]), pc.equal(rows["item"], item)))
    (row,) = rows.to_pylist()
    return row


def shown(user: str, item: str, hour: float, request: str, position: int = 1) -> Any:
    return worlds.Happening(user, item, hour, "impression", 0.0, request, position)


def test_an_outcome_that_names_no_request_belongs_to_the_latest_impression_before_it(build: Build) -> None:
    data = build(
        logged(
            shown("u6", "i8", 30.0, "early"),
            shown("u6", "i8", 31.0, "late"),
            worlds.Happening("u6", "i8", 31.5, "purchase"),
        )
    )
    early, late = row_of(data, "early", "i8"), row_of(data, "late", "i8")
    assert early
    assert late
    assert (early["gain"], early["is_purchase"]) == (0.0, False)
    assert (late["gain"], late["is_purchase"], late["is_click"], late["positive"]) == (4.0, True, False, True)


def test_an_outcome_after_an_impression_that_is_left_out_belongs_to_no_other(build: Build) -> None:
    # Validation begins at hour 192. The request at 191 is left out: its two hours reach into validation.
    data = build(
        logged(
            shown("u6", "i8", 189.75, "kept"),
            shown("u6", "i8", 191.0, "left out"),
            worlds.Happening("u6", "i8", 191.25, "click"),
        )
    )
    assert row_of(data, "left out", "i8") is None
    kept = row_of(data, "kept", "i8")
    assert kept
    assert kept["gain"] == 0.0


@pytest.mark.parametrize(("minutes", "gain"), [(-1, 0.0), (0, 1.0), (120, 1.0), (121, 0.0)])
@pytest.mark.parametrize("named", [True, False])
def test_an_outcome_counts_from_the_impression_to_the_end_of_the_attribution_window(
    build: Build, minutes: int, gain: float, named: bool
) -> None:
    click = worlds.Happening("u6", "i8", 30.0 + minutes / 60, "click", request="asked" if named else None)
    row = row_of(build(logged(shown("u6", "i8", 30.0, "asked"), click)), "asked", "i8")
    assert row
    assert row["gain"] == gain


def test_an_outcome_that_names_a_request_counts_for_no_other(build: Build) -> None:
    data = build(
        logged(
            shown("u6", "i8", 30.0, "first"),
            shown("u6", "i8", 30.5, "second"),
            worlds.Happening("u6", "i8", 30.75, "click", request="first"),
        )
    )
    first, second = row_of(data, "first", "i8"), row_of(data, "second", "i8")
    assert first
    assert second
    assert (first["gain"], second["gain"]) == (1.0, 0.0)


def test_a_test_request_whose_window_was_cut_off_by_the_export_is_left_out(build: Build) -> None:
    names = build(logged(as_of_hour=24.0 * DAYS - 1)).requests["request_id"].to_pylist()
    assert [name for name in ("r0284", "r0285", "r0286", "r0287") if name in names] == ["r0284"]


def test_a_log_that_ends_before_its_export_has_no_labels_for_its_last_requests(build: Build) -> None:
    names = build(logged(as_of_hour=24.0 * DAYS * 2)).requests["request_id"].to_pylist()
    assert [name for name in ("r0284", "r0285", "r0286", "r0287") if name in names] == ["r0284", "r0285"]


def test_a_gain_in_proportion_to_a_value_is_taken_from_it(build: Build) -> None:
    text = worlds.LOGGED.replace("purchase: {gain: 4}", "purchase: {gain: 2, per_value: true}")
    rated = worlds.Happening("u6", "i8", 30.5, "purchase", request="asked", value=2.5)
    row = row_of(build(logged(shown("u6", "i8", 30.0, "asked"), rated, contract=text)), "asked", "i8")
    assert row
    assert row["gain"] == 5.0


def test_history_is_in_the_order_things_became_known_and_cuts_count_its_rows(build: Build) -> None:
    late = worlds.Happening("u1", "i1", 100.0, "purchase", late=100.0)
    data = build(bought(late))
    history = data.history.to_pylist()
    assert [row["bucket"] for row in history] == sorted(row["bucket"] for row in history)
    for cut in data.manifest.cuts:
        assert all(row["bucket"] <= cut.bucket for row in history[: cut.history_rows])
        assert all(row["bucket"] > cut.bucket for row in history[cut.history_rows :])
    assert data.manifest.cuts[-1].history_rows == len(history)


def test_the_release_knows_what_arrived_after_the_last_event(build: Build) -> None:
    late = worlds.Happening("u1", "i1", 280.0, "purchase", late=500.0)
    data = build(bought(late))
    release = data.manifest.cuts[-1]
    assert (release.name, release.bucket) == ("release", worlds.bucket_at(781))
    assert data.features.latest_bucket == release.bucket


def test_what_happened_before_a_cut_and_arrived_after_it_is_no_label(build: Build) -> None:
    # The log's last hour is 286, so test begins at 239.
    late = worlds.Happening("u5", "i61", 238.0, "purchase", late=5.0)
    on_time = worlds.Happening("u5", "i62", 240.0, "purchase")
    data = build(bought(late, on_time))
    test = data.requests.filter(pc.equal(data.requests["split"], "test")).to_pylist()
    names = dict(zip(data.users["user"].to_pylist(), data.users["user_id"].to_pylist(), strict=True))
    (asked,) = [row["request"] for row in test if names[row["user"]] == "u5"]
    items = [row["item"] for row in data.relevance.to_pylist() if row["request"] == asked]
    assert [data.items["item_id"][item].as_py() for item in items] == ["i62"]


def test_a_relevant_item_that_nobody_had_taken_is_kept_as_not_eligible(build: Build) -> None:
    data = build(bought(worlds.Happening("u5", "i61", 250.0, "purchase")))
    item = data.items["item_id"].to_pylist().index("i61")
    found = [row["eligible"] for row in data.relevance.to_pylist() if row["item"] == item]
    assert found == [False]


def test_an_item_that_the_team_says_is_there_is_eligible_before_anybody_takes_it(build: Build) -> None:
    text = worlds.SAMPLED.replace(
        "item: {category: category}", "item: {category: category, available_from: launched_at}"
    )
    data = build(bought(worlds.Happening("u5", "i61", 250.0, "purchase"), contract=text))
    item = data.items["item_id"].to_pylist().index("i61")
    assert [row["eligible"] for row in data.relevance.to_pylist() if row["item"] == item] == [True]


def test_only_positive_labels_are_bad_input(build: Build) -> None:
    world = logged()
    positive = tuple(row for row in world.events if row.event != "impression" or row.position == 1)
    with pytest.raises(InputError, match=r"only positive labels in the train requests.*impressions are logged"):
        build(replace(world, events=positive))


def test_a_window_longer_than_a_split_leaves_it_without_a_request(build: Build) -> None:
    text = worlds.LOGGED.replace("attribution: PT2H", "attribution: P3D")
    with pytest.raises(
        InputError, match=r"no validation request whose attribution window of 3 days.*Shorten the window"
    ):
        build(logged(contract=text))


def test_attributes_that_no_training_row_has_are_bad_input_all_at_once(build: Build) -> None:
    world = logged(shown("u6", "i8", 250.0, "asked"))
    # Only u6 and i8 are described, and they are first met in the test window.
    users = {name: row | ({} if name == "u6" else {"visits": None, "plan": None}) for name, row in world.users.items()}
    items = {name: row | ({} if name == "i8" else {"provider": None}) for name, row in world.items.items()}
    with pytest.raises(InputError, match=r"3 faults\n.*users.plan: .*\n.*users.visits: .*\n.*items.provider: "):
        build(replace(world, users=users, items=items))


def test_a_log_without_outcomes_is_bad_input(build: Build) -> None:
    world = logged()
    with pytest.raises(InputError, match=r"found no outcome event in the snapshot; needed some \(click, purchase\)"):
        build(replace(world, events=tuple(row for row in world.events if row.event == "impression")))


def test_an_attribute_that_is_called_as_a_column_of_ours_is_bad_input(build: Build) -> None:
    text = worlds.LOGGED.replace("device: {role: context}", "split: {role: context}").replace("    plan:", "    user:")
    with pytest.raises(InputError, match=r"2 faults\n.*attributes.users.user: .*\n.*attributes.events.split: "):
        build(logged(contract=text))


def test_one_item_and_one_user_are_bad_input_that_says_why(build: Build) -> None:
    events = tuple(worlds.Happening("u0", "i0", 2.0 * number, "purchase") for number in range(6 * 24))
    world = worlds.World(worlds.contract_of(worlds.SAMPLED), events, worlds.people(1), worlds.goods(1))
    with pytest.raises(
        InputError, match=r"found nobody who took an item they had not taken before in the train window"
    ):
        build(world)
