"""Where logs are cut."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.dataset.split import TimeSplit, split_by_time
from components.errors import InputError
from components.events.contract import DatasetContract

HOUR_US = 3_600_000_000


def contract(**split: object) -> DatasetContract:
    return DatasetContract.model_validate(
        {
            "schema": "rankgate/dataset/v1",
            "name": "cut",
            "tables": {"events": {"path": ["events.parquet"]}},
            "events": {"purchase": {}},
            "requests": {"mode": "sampled"},
            "split": split,
        }
    )


def cut(ts: np.ndarray, rules: DatasetContract, late: np.ndarray | None = None) -> TimeSplit:
    enter = ts // HOUR_US + 1 + (0 if late is None else late)
    order = np.lexsort((ts, enter))
    ts, enter = ts[order], enter[order]
    return split_by_time(
        ts, enter, first_us=int(ts.min()), last_us=int(ts.max()), latest_bucket=int(enter.max()), contract=rules,
        bucket_us=HOUR_US,
    )  # fmt: skip


def test_a_share_leaves_exactly_the_floor_of_its_rows_even_within_one_moment() -> None:
    ts = np.full(397_884, 5 * HOUR_US)
    ts[0] = 0
    split = cut(ts, contract(test={"fraction": 0.1}, validation={"fraction": 0.1}))
    assert split.test.rows == 358_096
    assert split.validation.rows == 358_096 - 35_809
    assert split.test.ts == 5 * HOUR_US


def test_days_are_counted_back_from_the_end_of_the_last_bucket() -> None:
    ts = np.arange(0, 20 * 24) * HOUR_US + HOUR_US // 2
    split = cut(ts, contract(test={"days": 2}, validation={"days": 3}))
    assert (split.test.bucket, split.validation.bucket, split.release.bucket) == (18 * 24, 15 * 24, 20 * 24)
    assert (split.test.rows, split.validation.rows, split.release.rows) == (18 * 24, 15 * 24, 20 * 24)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from([0, 0, 1, 30])), min_size=20, max_size=60),
    st.sampled_from([{"days": 1}, {"days": 4}, {"fraction": 0.1}, {"fraction": 0.34}]),
)
def test_splits_follow_each_other_and_no_cut_knows_what_arrived_after_it(
    rows: list[tuple[int, int]], rule: dict[str, float]
) -> None:
    hours, late = np.array(rows, np.int64).T
    ts = hours * HOUR_US + 60_000_000
    try:
        split = cut(ts, contract(test=rule, validation=rule), late)
    except InputError:
        return
    enter = np.sort(hours + 1 + late)
    for moment in (split.validation, split.test, split.release):
        # Rows before a cut had arrived in its bucket at the latest; the features of that bucket look at its start.
        assert (enter[: moment.rows] <= moment.bucket + 1).all()
        assert moment.bucket == moment.ts // HOUR_US
    assert split.validation.rows <= split.test.rows <= split.release.rows == len(rows)
    assert split.validation.bucket <= split.test.bucket <= split.release.bucket
    assert split.release.bucket == enter.max()


def test_a_log_that_is_all_held_out_is_bad_input() -> None:
    ts = np.arange(0, 10 * 24) * HOUR_US
    with pytest.raises(InputError, match=r"spans 10\.0 days, and test and validation take all of it"):
        cut(ts, contract(test={"days": 5}, validation={"days": 5}))


def test_a_gap_is_left_between_training_labels_and_validation() -> None:
    # Read by the requests: the split itself is where it would be without.
    ts = np.arange(0, 20 * 24) * HOUR_US
    with_gap = cut(ts, contract(test={"days": 2}, validation={"days": 2}, gap=timedelta(days=1)))
    assert with_gap == cut(ts, contract(test={"days": 2}, validation={"days": 2}))


def test_online_retail_is_cut_where_the_reference_cuts_it(shared_data: Path, tmp_path: Path) -> None:
    """Counts of the data's README: 358 096 training rows, 1 047 users with something unseen to find."""
    from components.dataset.build import build_dataset
    from components.dataset.reading import open_dataset
    from components.events.declaration import load_contract
    from components.events.importers.online_retail import import_online_retail
    from components.events.snapshot import take_snapshot

    shop, snapshot, out = tmp_path / "shop", tmp_path / "snapshot", tmp_path / "dataset"
    for folder in (shop, snapshot, out):
        folder.mkdir()
    declared = import_online_retail(shared_data / "online_retail" / "raw.parquet", out=shop)
    rules = load_contract(declared)
    assert rules.as_of
    take_snapshot(rules, base=declared.parent, as_of=rules.as_of, out=snapshot)
    manifest = build_dataset(snapshot, out=out, seed=0)
    (test,) = [each for each in manifest.cuts if each.name == "test"]
    assert (test.history_rows, manifest.cuts[-1].history_rows) == (358_096, 397_884)
    assert manifest.requests["test"] == 1_047
    data = open_dataset(out)
    relevance, requests = data.relevance, data.requests
    asked = requests["request"].to_numpy()[requests["split"].to_numpy(zero_copy_only=False) == "test"]
    relevant = np.isin(relevance["request"].to_numpy(), asked)
    eligible = relevance["eligible"].to_numpy(zero_copy_only=False)[relevant]
    taken = np.unique(data.history["item"].to_numpy()[: test.history_rows])
    np.testing.assert_array_equal(eligible, np.isin(relevance["item"].to_numpy()[relevant], taken))
    # The reference's 1 047 users are those with any such item, whether or not it could have been ranked.
    with_eligible = np.unique(relevance["request"].to_numpy()[relevant][eligible])
    assert len(with_eligible) == 1_041
