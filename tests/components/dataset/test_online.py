"""What a service is handed, against what the tables say: the same to the bit."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.artifacts import documents
from components.dataset import online
from components.dataset.laid_out import ARRAYS, DOCUMENT, open_online, save_online
from components.dataset.lookup import FeatureTables
from components.dataset.online import OnlineFeatures
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
LAST_HOUR = 40 * 24
N_USERS, N_ITEMS = 4, 6
happenings = st.lists(
    st.tuples(
        st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.integers(0, LAST_HOUR * 4).map(lambda quarter: quarter / 4),
        st.sampled_from(["impression", "impression", "click", "purchase"]), st.sampled_from([0.0, 0.0, 0.25, 30.0, 200.0]),
        st.sampled_from(["phone", "web", None]),
    ),
    min_size=1, max_size=60,
)  # fmt: skip
Rows = list[tuple[int, int, float, str, float, str | None]]


def build(rows: Rows, folder: Path, *, boundaries: list[int]) -> FeatureTables:
    events = tuple(
        worlds.Happening(f"u{user}", f"i{item}", hour, event, late, f"r{place}", None, None, {"device": device})
        for place, (user, item, hour, event, late, device) in enumerate(rows)
    )
    users, items = worlds.people(N_USERS), worlds.goods(N_ITEMS)
    users["u1"]["visits"], users["u2"]["plan"] = None, None
    items["i1"] |= {"price": None, "provider": None, "launched_at": None}
    items["i3"]["category"] = None
    world = worlds.World(worlds.contract_of(worlds.LOGGED), events, users, items)
    return worlds.build_features(world, folder, boundaries=boundaries)


def by_tables(tables: FeatureTables, user: int, items: list[int], context: dict[str, str]) -> np.ndarray:
    rows = len(items)
    return tables.matrix(
        np.full(rows, user, np.int32),
        np.array(items, np.int32),
        np.full(rows, tables.latest_bucket, np.int64),
        {name: [context.get(name)] * rows for name in ("device",)},
    )


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal to the bit, but that any NaN is NaN."""
    missing = np.isnan(left) & np.isnan(right)
    return left.dtype == right.dtype and bool((missing | (left.view(np.int32) == right.view(np.int32))).all())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=happenings,
    user=st.integers(-1, N_USERS - 1),
    items=st.lists(st.integers(-1, N_ITEMS - 1), min_size=1, max_size=9),
    context=st.sampled_from([{}, {"device": "phone"}, {"device": "fax"}]),
    boundaries=st.sampled_from([[], [24 * 7], [24 * 7, 24 * 30]]),
)
def test_a_service_is_handed_what_the_tables_say(
    rows: Rows, user: int, items: list[int], context: dict[str, str], boundaries: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tables = build(rows, Path(folder), boundaries=[worlds.bucket_at(hour) for hour in boundaries])
        laid = OnlineFeatures.of(tables)
        assert laid is not None
        asked = np.array(items, np.int32)
        wanted = by_tables(tables, user, items, context)
        assert differing(tables, laid.matrix(user, asked, context), wanted) == []
        if user < 0:
            assert differing(tables, OnlineFeatures.of_items(tables).matrix(-1, asked, context), wanted) == []
            return
        # The same of a user whose part was laid out among some others, and then came from elsewhere.
        few = laid.holding(tables, range(user, min(user + 2, N_USERS)))
        assert few.users == min(2, N_USERS - user)
        for held, number in ((laid, user), (few, 0)):
            alone = OnlineFeatures.of_items(tables).of_one(held.part(number))
            assert differing(tables, alone.matrix(0, asked, context), wanted) == []
        visitor = by_tables(tables, -1, items, context)
        assert differing(tables, alone.matrix(-1, asked, context), visitor) == []


def differing(tables: FeatureTables, found: np.ndarray, wanted: np.ndarray) -> list[str]:
    """Names of the features that are not the same to the bit."""
    return [
        name
        for name, left, right in zip(tables.names, found.T, wanted.T, strict=True)
        if not same(np.ascontiguousarray(left), np.ascontiguousarray(right))
    ]


def test_a_part_has_the_shape_that_its_layout_tells(tmp_path: Path) -> None:
    tables = build(some_rows(), tmp_path, boundaries=[worlds.bucket_at(24 * 20)])
    laid = OnlineFeatures.of(tables)
    assert laid is not None
    assert OnlineFeatures.of_items(tables).shape == laid.shape
    assert [entity for entity, _ in laid.shape.pairs] == ["user_category", "user_item", "user_provider"]
    part = laid.part(0)
    assert (len(part.row), len(part.usual)) == (laid.shape.user, laid.shape.prices)
    for (_, columns), (seconds, rows) in zip(laid.shape.pairs, part.pairs, strict=True):
        assert rows.shape == (len(seconds), columns)
        assert len(seconds) > 0
        assert (np.diff(seconds) > 0).all()
    assert len(part.taken) == sum(user == 0 and event == "click" for user, _, _, event, _, _ in some_rows())


def test_a_log_whose_last_users_did_nothing_is_laid_out_in_parts(tmp_path: Path) -> None:
    tables = build(some_rows()[:1], tmp_path, boundaries=[worlds.bucket_at(24 * 20)])
    for begin in range(N_USERS):
        held = OnlineFeatures.of_items(tables).holding(tables, range(begin, begin + 1))
        found = held.matrix(0, np.arange(N_ITEMS, dtype=np.int32), {})
        assert differing(tables, found, by_tables(tables, begin, list(range(N_ITEMS)), {})) == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=happenings, boundaries=st.sampled_from([[], [24 * 7, 24 * 30]]))
def test_what_was_laid_out_is_the_same_from_disk(rows: Rows, boundaries: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tables = build(rows, Path(folder), boundaries=[worlds.bucket_at(hour) for hour in boundaries])
        columns = np.arange(len(tables.features) - 1, -1, -1)
        laid = OnlineFeatures.of(tables, columns)
        assert laid is not None
        save_online(laid, tables, columns, Path(folder))
        opened = open_online(Path(folder), tables, columns)
        assert opened is not None
        every = np.arange(-1, N_ITEMS, dtype=np.int32)
        for user in range(-1, N_USERS):
            for context in ({}, {"device": "phone"}):
                assert same(opened.matrix(user, every, context), laid.matrix(user, every, context))


def test_features_of_other_tables_or_columns_or_a_cut_file_are_not_opened(tmp_path: Path) -> None:
    tables = build(some_rows(), tmp_path, boundaries=[])
    columns = np.arange(len(tables.features))
    laid = OnlineFeatures.of(tables, columns)
    assert laid is not None
    assert open_online(tmp_path, tables, columns) is None
    made = save_online(laid, tables, columns, tmp_path)
    with pytest.raises(InputError, match="laid out as of bucket"):
        open_online(tmp_path, tables, columns[1:])
    documents.save(replace(made, latest_bucket=1), tmp_path / DOCUMENT)
    with pytest.raises(InputError, match="laid out as of bucket 1"):
        open_online(tmp_path, tables, columns)
    documents.save(replace(made, arrays={name: made.arrays[name] for name in ("items", "users")}), tmp_path / DOCUMENT)
    with pytest.raises(InputError, match="cannot be opened"):
        open_online(tmp_path, tables, columns)
    documents.save(made, tmp_path / DOCUMENT)
    whole = (tmp_path / ARRAYS).read_bytes()
    (tmp_path / ARRAYS).write_bytes(whole[:-64])
    with pytest.raises(InputError, match="it ends at byte"):
        open_online(tmp_path, tables, columns)


def some_rows() -> Rows:
    return [
        (user, (user * 2 + step) % N_ITEMS, 24.0 * step + user, event, 0.0, "web")
        for user in range(N_USERS - 1)
        for step in range(1, 30)
        for event in ("impression", "click")
    ]


def test_every_family_is_served(tmp_path: Path) -> None:
    tables = build(some_rows(), tmp_path, boundaries=[worlds.bucket_at(24 * 20)])
    laid = OnlineFeatures.of(tables)
    assert laid is not None
    found = laid.matrix(0, np.arange(N_ITEMS, dtype=np.int32), {"device": "web"})
    families = {feature.family for feature in tables.features}
    assert families == {
        "count", "rate", "share", "recency", "tenure", "trend", "covisitation", "attribute", "context", "price",
    }  # fmt: skip
    near = [place for place, feature in enumerate(tables.features) if feature.family == "covisitation"]
    assert found[:, near].max() > 0


def test_columns_come_in_the_order_that_was_asked_for(tmp_path: Path) -> None:
    tables = build(some_rows(), tmp_path, boundaries=[])
    columns = [7, 3, len(tables.features) - 1, 0]
    laid = OnlineFeatures.of(tables, columns)
    assert laid is not None
    found = laid.matrix(1, np.array([2, 4], np.int32), {})
    assert found.flags.c_contiguous
    assert same(found, np.ascontiguousarray(by_tables(tables, 1, [2, 4], {})[:, columns]))


def test_what_would_take_too_much_memory_is_not_laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = build(some_rows(), tmp_path, boundaries=[])
    monkeypatch.setattr(online, "MOST_CELLS", 10)
    assert OnlineFeatures.of(tables) is None
