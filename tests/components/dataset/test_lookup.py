"""Features against what a person would count in the log by hand, and the promises that make them safe to train on."""

from __future__ import annotations

import importlib.util
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.dataset.contract import Feature
from components.dataset.lookup import FeatureTables
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
HOUR = timedelta(hours=1)
LAST_HOUR = 40 * 24

# Frugal: every example builds tables.
sparing = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])

hours = st.integers(0, LAST_HOUR * 4).map(lambda quarter: quarter / 4)
happenings = st.lists(
    st.tuples(
        st.integers(0, 2), st.integers(0, 3), hours, st.sampled_from(["impression", "impression", "click", "purchase"]),
        st.sampled_from([0.0, 0.0, 0.0, 0.25, 3.0, 30.0, 200.0]), st.sampled_from(["phone", "web", None]),
    ),
    min_size=1, max_size=45,
)  # fmt: skip
asked = st.lists(
    st.tuples(st.integers(-1, 2), st.integers(-1, 3), st.integers(0, LAST_HOUR + 300), st.sampled_from(["phone", "fax", None])),
    min_size=1, max_size=12,
)  # fmt: skip
Rows = list[tuple[int, int, float, str, float, str | None]]
Asked = list[tuple[int, int, int, str | None]]


def world_of(rows: Rows) -> Any:
    # Both devices are seen at once, so that a shorter log has the same words for contexts.
    seen = [(0, 0, 0.0, "impression", 0.0, "phone"), (0, 0, 0.0, "impression", 0.0, "web")]
    events = tuple(
        worlds.Happening(f"u{user}", f"i{item}", hour, event, late, f"r{place}", None, None, {"device": device})
        for place, (user, item, hour, event, late, device) in enumerate([*seen, *rows])
    )
    users = worlds.people(3)
    users["u1"]["visits"], users["u2"]["plan"] = None, None
    items = worlds.goods(4)
    items["i1"] |= {"price": None, "provider": None, "launched_at": None}
    items["i2"]["launched_at"] = worlds.START + timedelta(days=20)
    items["i3"]["category"] = None
    return worlds.World(worlds.contract_of(worlds.LOGGED), events, users, items)


@contextmanager
def tables_of(world: Any, *, boundaries: list[int]) -> Iterator[FeatureTables]:
    with tempfile.TemporaryDirectory() as folder:
        yield worlds.build_features(world, Path(folder), boundaries=boundaries)


def look_up(tables: FeatureTables, rows: Asked) -> np.ndarray:
    users, items, at, devices = zip(*rows, strict=True)
    buckets = np.array([worlds.bucket_at(hour) for hour in at], np.int64)
    return tables.matrix(np.array(users, np.int32), np.array(items, np.int32), buckets, {"device": list(devices)})


def weekly() -> list[int]:
    return [worlds.bucket_at(hour) for hour in (24 * 7, 24 * 14, 24 * 30)]


class ByHand:
    """What each feature means, counted over the raw log without buckets, codes or tables."""

    def __init__(self, world: Any, row: tuple[int, int, int, str | None], boundaries: list[int]) -> None:
        user, item, hour, self.device = row
        self.world, self.boundaries = world, boundaries
        self.user = f"u{user}" if user >= 0 else None
        self.item = f"i{item}" if item >= 0 else None
        self.now = worlds.START + HOUR * hour
        self.known = [event for event in world.events if event.ts < self.now and event.ingested_at < self.now]

    def is_outcome(self, event: Any) -> bool:
        return event.event in ("click", "purchase")

    def matching(self, name: str, entity: str, days: float) -> list[Any]:
        found = [event for event in self.known if not days or event.ts >= self.now - timedelta(days=days)]
        if name == "*":
            found = [event for event in found if self.is_outcome(event)]
        elif name == "+":
            found = [event for event in found if event in self.firsts()]
        elif name:
            found = [event for event in found if event.event == name]
        return [event for event in found if self.belongs(event, entity)]

    def firsts(self) -> list[Any]:
        first: dict[tuple[str, str], Any] = {}
        for event in sorted(self.world.events, key=lambda e: (_hour_after(e.ingested_at), e.ts, e.event)):
            if self.is_outcome(event):
                first.setdefault((event.user, event.item), event)
        return list(first.values())

    def belongs(self, event: Any, entity: str) -> bool:
        match entity:
            case "catalogue":
                return True
            case "user":
                return event.user == self.user
            case "item":
                return event.item == self.item
            case "user_item":
                return event.user == self.user and event.item == self.item
            case _:
                part = entity.removeprefix("user_")
                mine = self.item and self.world.items[self.item][part]
                return event.user == self.user and mine is not None and self.world.items[event.item][part] == mine

    def since(self, moment: datetime) -> float:
        return (self.now - moment) / timedelta(days=1)

    def value(self, feature: Feature) -> float:
        return getattr(self, f"_{feature.family}")(feature)

    def _count(self, feature: Feature) -> float:
        return len(self.matching(feature.event, feature.entity, feature.window_days))

    def _rate(self, feature: Feature) -> float:
        shown = len(self.matching("impression", "catalogue", 0))
        prior = len(self.matching(feature.event, "catalogue", 0)) / shown if shown else 0.0
        tried = len(self.matching("impression", feature.entity, feature.window_days))
        return (self._count(feature) + 20 * prior) / (tried + 20)

    def _share(self, feature: Feature) -> float:
        whole = "catalogue" if feature.entity == "item" else "user"
        total = len(self.matching(feature.event, whole, feature.window_days))
        return self._count(feature) / total if total else 0.0

    def _recency(self, feature: Feature) -> float:
        times = [event.ts for event in self.matching(feature.event, feature.entity, 0)]
        return self.since(_hour_after(max(times))) if times else math.nan

    def _tenure(self, feature: Feature) -> float:
        times = [event.ts for event in self.matching("", feature.entity, 0)]
        if feature.entity == "user":
            return self.since(_hour_after(min(times))) if times else math.nan
        begins = [_hour_after(min(times)) - HOUR] if times else []
        launched = self.item and self.world.items[self.item]["launched_at"]
        begins += [launched] if launched and launched <= self.now else []
        return self.since(min(begins)) if begins else math.nan

    def _trend(self, _: Feature) -> float:
        recent = len(self.matching("*", "item", 7))
        return (recent + 1) / (len(self.matching("*", "item", 28)) / 4 + 1)

    def _price(self, _: Feature) -> float:
        price = self.item and self.world.items[self.item]["price"]
        paid = [self.world.items[event.item]["price"] for event in self.matching("*", "user", 0)]
        paid = [each for each in paid if each is not None]
        return price / (sum(paid) / len(paid)) if price is not None and paid else math.nan

    def _attribute(self, feature: Feature) -> float:
        table, key = (self.world.users, self.user) if feature.entity == "user" else (self.world.items, self.item)
        value = table[key][feature.attribute] if key else None
        if feature.type == "number":
            return math.nan if value is None else value
        return _code(value, [row[feature.attribute] for row in table.values()])

    def _context(self, _: Feature) -> float:
        return _code(self.device, ["phone", "web"])

    def _covisitation(self, feature: Feature) -> float:
        passed = [each for each in self.boundaries if each * 3600 <= self.now.timestamp()]
        if not passed or not self.item:
            return 0.0
        boundary = datetime.fromtimestamp(passed[-1] * 3600, UTC)
        takers: dict[str, set[str]] = {item: set() for item in self.world.items}
        for event in self.world.events:
            if self.is_outcome(event) and event.ingested_at < boundary:
                takers[event.item].add(event.user)
        mine = [event for event in self.known if event.user == self.user and self.is_outcome(event)]
        mine.sort(key=lambda event: (_hour_after(event.ingested_at), event.ts, event.item, event.event))
        latest = 0 if feature.attribute == "nearest" else int(feature.attribute)
        near = [
            len(takers[self.item] & takers[other]) / math.sqrt(len(takers[self.item]) * len(takers[other]))
            for other in {event.item for event in mine[-latest:]}
            if other != self.item and takers[self.item] and takers[other]
        ]
        return max(near, default=0.0) if feature.attribute == "nearest" else sum(near)


def _hour_after(moment: datetime) -> datetime:
    """The end of the hour that a moment lies in."""
    return moment.replace(minute=0, second=0, microsecond=0) + HOUR


def _code(value: str | None, known: list[str | None]) -> float:
    words = sorted({word for word in known if word is not None})
    return words.index(value) if value in words else -1


@sparing
@given(happenings, asked)
def test_every_feature_is_what_one_counts_by_hand(rows: Rows, queries: Asked) -> None:
    world = world_of(rows)
    with tables_of(world, boundaries=weekly()) as tables:
        found = look_up(tables, queries)
        for place, row in enumerate(queries):
            hand = ByHand(world, row, weekly())
            for feature, value in zip(tables.features, found[place].tolist(), strict=True):
                assert value == pytest.approx(np.float32(hand.value(feature)), rel=1e-6, nan_ok=True), (row, feature)


@sparing
@given(happenings, asked, st.integers(0, LAST_HOUR))
def test_dropping_everything_after_a_moment_changes_no_feature_before_it(
    rows: Rows, queries: Asked, moment: int
) -> None:
    world = world_of(rows)
    earlier = [(user, item, min(hour, moment), device) for user, item, hour, device in queries]
    with (
        tables_of(world, boundaries=weekly()) as whole,
        tables_of(world.before(moment + 0.001), boundaries=weekly()) as cut,
    ):
        np.testing.assert_array_equal(look_up(whole, earlier), look_up(cut, earlier))


@sparing
@given(happenings, asked, st.integers(1, LAST_HOUR))
def test_what_has_not_arrived_by_a_moment_changes_no_feature_before_it(rows: Rows, queries: Asked, moment: int) -> None:
    world = world_of(rows)
    arrived = worlds.World(
        world.contract, tuple(e for e in world.events if e.hour + e.late < moment), world.users, world.items
    )
    with (
        tables_of(world, boundaries=weekly()) as whole,
        tables_of(arrived, boundaries=weekly()) as cut,
    ):
        earlier = [(user, item, min(hour, moment), device) for user, item, hour, device in queries]
        np.testing.assert_array_equal(look_up(whole, earlier), look_up(cut, earlier))


@sparing
@given(happenings, asked)
def test_a_row_has_the_same_features_alone_as_in_company(rows: Rows, queries: Asked) -> None:
    with tables_of(world_of(rows), boundaries=weekly()) as tables:
        together = look_up(tables, queries)
        for place, row in enumerate(queries):
            np.testing.assert_array_equal(look_up(tables, [row])[0], together[place])


def test_a_late_event_is_seen_in_the_bucket_after_its_arrival_and_counts_where_it_happened(tmp_path: Path) -> None:
    rows: Rows = [(0, 0, 10.5, "click", 20.0, "web"), (1, 1, LAST_HOUR, "click", 0.0, "web")]
    tables = worlds.build_features(world_of(rows), tmp_path)
    day, ever = tables.names.index("item_click_1d"), tables.names.index("item_click_all")
    found = look_up(tables, [(0, 0, hour, None) for hour in (11, 30, 31, 34, 35)])
    assert found[:, ever].tolist() == [0, 0, 1, 1, 1]
    # It happened in the hour from 10 to 11, which leaves a day's window at 35.
    assert found[:, day].tolist() == [0, 0, 1, 1, 0]


def test_tables_opened_again_are_mapped_and_give_the_same_bits(tmp_path: Path) -> None:
    world = world_of([(n % 3, n % 4, 7.0 * n, "click", 0.0, "web") for n in range(60)])
    tables = worlds.build_features(world, tmp_path, boundaries=weekly())
    rows = [(user, item, hour, "web") for user in range(3) for item in range(4) for hour in (200, 420)]
    again = FeatureTables.open(tmp_path / "tables")
    assert isinstance(_owner(again._trails["item:click"].on_time.marks), np.memmap)
    np.testing.assert_array_equal(look_up(again, rows), look_up(tables, rows))


def _owner(array: np.ndarray) -> Any:
    """What a view looks into."""
    return array if array.base is None or isinstance(array, np.memmap) else _owner(array.base)


def test_no_rows_have_no_features(tmp_path: Path) -> None:
    tables = worlds.build_features(world_of([(0, 0, 5.0, "click", 0.0, "web")]), tmp_path)
    none = np.empty(0, np.int32)
    assert tables.matrix(none, none, none.astype(np.int64)).shape == (0, len(tables.names))


def test_a_missing_array_is_told_with_what_to_do(tmp_path: Path) -> None:
    worlds.build_features(world_of([(0, 0, 5.0, "click", 0.0, "web")]), tmp_path)
    (tmp_path / "tables" / "takings.items.npy").unlink()
    with pytest.raises(InputError, match=r"cannot be opened .*takings.items.npy.*build the data set again"):
        FeatureTables.open(tmp_path / "tables")


def test_keys_that_63_bits_cannot_tell_apart_are_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("components.dataset.preparing.MOST_KEYS", 10_000)
    with pytest.raises(
        InputError, match=r"3 users x 4 items x 1,635 buckets make 2.0e\+04 keys; needed fewer than 1.0e\+04"
    ):
        worlds.build_features(world_of([(0, 0, LAST_HOUR, "click", 0.0, "web")]), tmp_path)
