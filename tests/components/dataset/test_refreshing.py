"""Features refreshed from newer tables, against what training's own tables say of the same moment: the same to the bit."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from components.artifacts import documents
from components.dataset.contract import SCHEMA_VERSION, Dataset
from components.dataset.features import declare, outcomes_of
from components.dataset.lookup import FeatureTables
from components.dataset.refreshing import (
    check_same_meaning,
    closed_bucket,
    contract_digest,
    refresh_dataset,
)
from components.errors import InputError
from components.events.contract import DatasetContract


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
LOGGED = documents.parse(DatasetContract, documents.to_bytes(worlds.contract_of(worlds.LOGGED)), subject="contract")
"""As a snapshot holds it: its keys in canonical order, which is that of the features too."""
LAST_HOUR = 40 * 24
N_USERS, N_ITEMS = 4, 6
TEXTS = {
    "user_plan": ("free", "plus"),
    "item_category": ("c0", "c1", "c2"),
    "item_provider": ("p0", "p1"),
    "context_device": ("phone", "web"),
}
happenings = st.lists(
    st.tuples(
        st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.integers(0, LAST_HOUR * 4).map(lambda quarter: quarter / 4),
        st.sampled_from(["impression", "impression", "click", "purchase"]), st.sampled_from([0.0, 0.0, 0.25, 30.0, 200.0]),
        st.sampled_from(["phone", "web", None]),
    ),
    min_size=1, max_size=60,
)  # fmt: skip
Rows = list[tuple[int, int, float, str, float, str | None]]


def world_of(rows: Rows, *, as_of_hour: float = 24.0 * 365) -> Any:
    events = tuple(
        worlds.Happening(f"u{user}", f"i{item}", hour, event, late, f"r{place}", None, None, {"device": device})
        for place, (user, item, hour, event, late, device) in enumerate(rows)
    )
    users, items = worlds.people(N_USERS), worlds.goods(N_ITEMS)
    users["u1"]["visits"], users["u2"]["plan"] = None, None
    items["i1"] |= {"price": None, "provider": None, "launched_at": None}
    items["i3"]["category"] = None
    return worlds.World(LOGGED, events, users, items, as_of_hour)


def approved_of(world: Any) -> Dataset:
    contract = world.contract
    return Dataset(
        schema_version=SCHEMA_VERSION,
        snapshot="0" * 64,
        name=contract.name,
        mode="logged",
        bucket_seconds=3_600,
        features=declare(contract),
        cuts=(),
        outcomes=outcomes_of(contract),
        context=("device",),
        segments=("country",),
        sensitive=("gender",),
        intersections=(),
        category="category",
        provider="provider",
        price="price",
        cutoffs=(2, 3),
        exclude_seen=False,
        users=N_USERS,
        items=N_ITEMS,
        requests={},
        rows={},
        positives={},
        seed=0,
    )


def refreshed(world: Any, work: Path, *, texts: dict[str, tuple[str, ...]] | None = None) -> tuple[Any, FeatureTables]:
    snapshot, out = worlds.write_snapshot(world, work / "newer"), work / "features"
    out.mkdir()
    made = refresh_dataset(snapshot, approved=approved_of(world), texts=TEXTS if texts is None else texts, out=out)
    return made, FeatureTables.open(out / "tables")


def every_row(tables: FeatureTables, bucket: int) -> np.ndarray:
    """Each known user and a visitor with each known item and an unknown one, in each context."""
    grid = np.array([(u, i, d) for u in range(-1, N_USERS) for i in range(-1, N_ITEMS) for d in (0, 1, 2)])
    devices = [("phone", "web", None)[device] for device in grid[:, 2]]
    return tables.matrix(
        grid[:, 0].astype(np.int32), grid[:, 1].astype(np.int32), np.full(len(grid), bucket, np.int64), {"device": devices}
    )  # fmt: skip


def differing(tables: FeatureTables, found: np.ndarray, wanted: np.ndarray) -> list[str]:
    """Features that are not equal to the bit; any NaN is NaN."""
    assert found.dtype == wanted.dtype == np.float32
    same = (np.isnan(found) & np.isnan(wanted)) | (found.view(np.int32) == wanted.view(np.int32))
    return [name for name, column in zip(tables.names, same.T, strict=True) if not column.all()]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(rows=happenings, hour=st.integers(1, LAST_HOUR * 4 + 300).map(lambda quarter: quarter / 4))
def test_what_is_published_as_of_a_bucket_is_what_tables_of_the_whole_log_say_of_it(rows: Rows, hour: float) -> None:
    bucket = worlds.bucket_at(hour)
    known = [row for row in rows if worlds.bucket_at(row[2] + row[4]) < bucket]
    assume(any(event != "impression" for _, _, _, event, _, _ in known))
    with tempfile.TemporaryDirectory() as folder:
        made, tables = refreshed(world_of(rows, as_of_hour=hour), Path(folder))
        (Path(folder) / "whole").mkdir()
        whole = worlds.build_features(world_of(rows), Path(folder) / "whole", boundaries=[bucket])
        assert (tables.latest_bucket, made.dataset.cuts[0].bucket) == (bucket, bucket)
        assert (made.events, made.open_events) == (len(known), len(rows) - len(known))
        # The whole log may know fewer devices than the model does, and has codes of its own for them.
        devices = [place for place, feature in enumerate(tables.features) if feature.family == "context"]
        found, wanted = every_row(tables, bucket), every_row(whole, bucket)
        codes = {value: code for code, value in enumerate(whole.context_values["device"])}
        in_its_codes = np.array([codes.get("phone", -1), codes.get("web", -1), -1], np.float32)
        recoded = in_its_codes[found[:, devices].astype(int)]
        found[:, devices] = recoded
        assert not differing(tables, found, wanted)


def some_rows() -> Rows:
    return [
        (user, (user * 2 + step) % N_ITEMS, 24.0 * step + user, event, 0.0, "web")
        for user in range(N_USERS - 1)
        for step in range(1, 30)
        for event in ("impression", "click")
    ]


def test_nothing_of_the_bucket_that_is_not_over_is_known(tmp_path: Path) -> None:
    hour = 24.0 * 30 + 0.75
    world = world_of([*some_rows(), (0, 0, 24.0 * 30 + 0.5, "click", 0.0, "web")], as_of_hour=hour)
    made, tables = refreshed(world, tmp_path)
    assert made.open_events == 1
    assert made.dataset.cuts[0].ts == "2026-04-01T00:00:00+00:00"
    assert datetime.fromisoformat(made.events_until) < datetime(2026, 4, 1, tzinfo=UTC)
    assert made.dataset.cuts[0].history_rows == len(some_rows()) // 2
    assert tables.latest_bucket == closed_bucket(datetime(2026, 4, 1, 0, 45, tzinfo=UTC), 3_600)


def test_hours_without_an_event_make_features_older_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "quiet").mkdir()
    _, busy = refreshed(world_of(some_rows(), as_of_hour=24.0 * 30), tmp_path)
    _, quiet = refreshed(world_of(some_rows(), as_of_hour=24.0 * 33), tmp_path / "quiet")
    place = busy.names.index("item_recency_days")
    assert quiet.latest_bucket == busy.latest_bucket + 72
    item = np.arange(N_ITEMS, dtype=np.int32)
    since = [
        tables.matrix(np.full_like(item, -1), item, np.full(N_ITEMS, tables.latest_bucket, np.int64))[:, place]
        for tables in (busy, quiet)
    ]
    assert (since[1] - since[0] == 3.0).all()


def test_codes_are_those_of_the_approved_texts_and_what_came_later_is_unknown_to_the_model(tmp_path: Path) -> None:
    world = world_of(some_rows(), as_of_hour=24.0 * 30)
    world.items["i0"]["category"] = "b-new"
    _, tables = refreshed(world, tmp_path)
    matrix = tables.matrix(
        np.full(N_ITEMS, 0, np.int32),
        np.arange(N_ITEMS, dtype=np.int32),
        np.full(N_ITEMS, tables.latest_bucket, np.int64),
    )
    category = matrix[:, tables.names.index("item_category")].tolist()
    assert category == [-1, 1, 2, -1, 1, 2]
    # It is counted for all that: what the user did with the new category is known.
    counted = matrix[:, tables.names.index("user_category_outcomes_all")]
    assert counted[0] > 0


def test_a_text_that_the_model_knows_and_no_row_has_any_more_keeps_its_code(tmp_path: Path) -> None:
    world = world_of(some_rows(), as_of_hour=24.0 * 30)
    _, tables = refreshed(world, tmp_path, texts=TEXTS | {"item_provider": ("a-gone", "p0", "p1")})
    matrix = tables.matrix(
        np.full(2, -1, np.int32), np.array([0, 5], np.int32), np.full(2, tables.latest_bucket, np.int64)
    )
    assert matrix[:, tables.names.index("item_provider")].tolist() == [1, 2]


def test_what_a_reviewer_measures_by_is_not_among_the_features_and_the_users_table_is_whole(tmp_path: Path) -> None:
    made, tables = refreshed(world_of(some_rows(), as_of_hour=24.0 * 30), tmp_path)
    assert not {feature.attribute for feature in tables.features} & {"country", "gender"}
    assert pq.read_table(tmp_path / "features" / "users.parquet").num_rows == made.dataset.users == N_USERS


def test_another_kind_of_data_is_refused_by_all_that_differs(tmp_path: Path) -> None:
    world = world_of(some_rows(), as_of_hour=24.0 * 30)
    other = replace(
        approved_of(world), bucket_seconds=86_400, outcomes=("click",), features=declare(world.contract)[1:]
    )
    snapshot, out = worlds.write_snapshot(world, tmp_path / "newer"), tmp_path / "features"
    out.mkdir()
    with pytest.raises(InputError) as raised:
        refresh_dataset(snapshot, approved=other, texts=TEXTS, out=out)
    assert all(word in str(raised.value) for word in ("bucket", "86400", "outcomes", "features", "item_impression_7d"))


def test_a_feature_that_is_told_in_other_words_is_the_same_feature(tmp_path: Path) -> None:
    world = world_of(some_rows(), as_of_hour=24.0 * 30)
    reworded = tuple(replace(feature, meaning="Otherwise.") for feature in declare(world.contract))
    snapshot, out = worlds.write_snapshot(world, tmp_path / "newer"), tmp_path / "features"
    out.mkdir()
    refresh_dataset(snapshot, approved=replace(approved_of(world), features=reworded), texts=TEXTS, out=out)
    assert FeatureTables.open(out / "tables").features == reworded


def test_a_column_that_lost_all_its_values_is_refused(tmp_path: Path) -> None:
    world = world_of(some_rows(), as_of_hour=24.0 * 30)
    for user in world.users.values():
        user["plan"] = None
    with pytest.raises(InputError, match=r"users\.plan"):
        refreshed(world, tmp_path)


def test_tables_that_hold_only_what_is_new_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the log's past"):
        refreshed(world_of([(0, 0, 48.5, "click", 0.0, "web")], as_of_hour=48.75), tmp_path)


def test_a_contract_means_the_same_wherever_its_tables_lie_and_as_of_when_it_is_judged() -> None:
    contract = worlds.contract_of(worlds.LOGGED)
    moved = worlds.contract_of(
        worlds.LOGGED.replace("events.parquet", "s3://log/*.parquet")
        + "as_of: 2026-05-10T00:00:00Z\nowner: feed team\n"
    )
    assert contract_digest(moved) == contract_digest(contract)
    check_same_meaning(moved, contract)
    changed = worlds.contract_of(
        worlds.LOGGED.replace("purchase: {gain: 4}", "purchase: {gain: 5}") + "retention: 90d\n"
    )
    assert contract_digest(changed) != contract_digest(contract)
    with pytest.raises(InputError) as raised:
        check_same_meaning(changed, contract)
    assert "events" in str(raised.value)
    assert "retention" in str(raised.value)
