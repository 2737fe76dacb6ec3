"""Leakage measured on a generated shop: nothing in the honest one, and what was planted in the others."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.artifacts import documents
from components.dataset.build import build_dataset
from components.dataset.contract import Dataset
from components.dataset.covisitation import Takings
from components.dataset.kernel import Trail
from components.dataset.lookup import FeatureTables
from components.errors import EvidenceError, FaultyInputError, InputError
from components.events.declaration import load_contract
from components.events.shop import generate_shop
from components.events.snapshot import take_snapshot
from components.evidence.contract import Estimate, Evidence
from components.evidence.leakage import FEATURES_TABLE, MOMENTS_TABLE, measure_leakage
from components.ranker.ranking import rank
from components.ranker.train import train_ranker
from components.verdict.judging import judge
from components.verdict.policy import load_policy

SCALE = 0.05
LEAKED = "item_price"
"""An attribute that says little about a click, to plant a leak in."""


@dataclass(frozen=True)
class Run:
    """Folders of one run."""

    snapshot: Path
    dataset: Path
    rankings: Path


def honest(folder: Path, *, seed: int) -> Run:
    (folder / "shop").mkdir()
    return trained(generate_shop(folder / "shop", seed=seed, scale=SCALE), folder, seed=seed)


def trained(path: Path, folder: Path, *, seed: int) -> Run:
    """Everything from the contract to rankings."""
    for name in ("snapshot", "dataset", "ranker", "rankings"):
        (folder / name).mkdir()
    contract = load_contract(path)
    assert contract.as_of is not None
    take_snapshot(contract, base=path.parent, as_of=contract.as_of, out=folder / "snapshot")
    build_dataset(folder / "snapshot", out=folder / "dataset", seed=seed)
    train_ranker(folder / "dataset", out=folder / "ranker", seed=seed, threads=1)
    rank(folder / "dataset", folder / "ranker", incumbent=None, out=folder / "rankings", seed=seed, threads=1)
    return Run(folder / "snapshot", folder / "dataset", folder / "rankings")


def bought(folder: Path) -> Run:
    """A log that only knows purchases: forty users of two tastes."""
    rng = np.random.default_rng(0)
    end = datetime(2026, 3, 1, tzinfo=UTC)
    users = rng.integers(0, 40, 1500)
    items = (rng.integers(0, 15, users.size) * 2 + users % 2) % 30
    table = {
        "user_id": [f"u{user:02d}" for user in users],
        "item_id": [f"i{item:02d}" for item in items],
        "ts": pa.array(
            [end - timedelta(days=float(d)) for d in rng.uniform(0.1, 70, users.size)], pa.timestamp("us", tz="UTC")
        ),
        "event": ["purchase"] * users.size,
    }
    pq.write_table(pa.table(table), folder / "events.parquet")
    (folder / "dataset.yaml").write_text(
        """
schema: rankgate/dataset/v1
name: bought
tables: {events: {path: [events.parquet]}}
events: {purchase: {gain: 1}}
requests: {mode: sampled, horizon: P7D, cuts: 2, negatives: 10}
bucket: day
as_of: "2026-03-01T00:00:00Z"
split: {test: {days: 7}, validation: {days: 7}}
evaluation: {cutoffs: [3, 10]}
""",
        encoding="utf-8",
    )
    return trained(folder / "dataset.yaml", folder, seed=0)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return honest(tmp_path_factory.mktemp("leakage"), seed=0)


@pytest.fixture(scope="session")
def found(shop: Run, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return measure(shop, tmp_path_factory.mktemp("found"))


@pytest.fixture
def copied(shop: Run, tmp_path: Path) -> Run:
    """The shop's run, to be spoiled."""
    for place in (shop.dataset, shop.rankings):
        shutil.copytree(place, tmp_path / place.name)
    return replace(shop, dataset=tmp_path / "dataset", rankings=tmp_path / "rankings")


@pytest.fixture
def answers(repository: Path) -> Callable[[Evidence], dict[str, str]]:
    """What each leakage rule of the default policy answers."""
    policy = load_policy(repository / "policies" / "default")
    rules = policy.model_copy(update={"criteria": tuple(c for c in policy.criteria if c.evidence == "leakage")})

    def judged(evidence: Evidence) -> dict[str, str]:
        outcomes = judge(rules, {"leakage": evidence}, {}, first_release=True)
        return {held.criterion: "not applicable" if held.not_applicable else held.answer for held in outcomes}

    return judged


def measure(run: Run, out: Path, *, seed: int = 0) -> Evidence:
    out.mkdir(exist_ok=True)
    return measure_leakage(run.snapshot, run.dataset, run.rankings, out=out, seed=seed)


def pick(evidence: Evidence, metric: str, subject: str, versus: str = "") -> Estimate:
    (held,) = (e for e in evidence.estimates if (e.metric, e.subject, e.versus) == (metric, subject, versus))
    return held


def changed_features(evidence: Evidence) -> set[str]:
    return {e.subject for e in evidence.estimates if e.metric == "changed_without_future" and e.value}


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def put(name: str, values: Callable[[pa.Table], np.ndarray]) -> Callable[[pa.Table], pa.Table]:
    """Replaces a column by what is made of the table."""

    def change(table: pa.Table) -> pa.Table:
        held = pa.array(values(table), type=table.schema.field(name).type)
        return table.set_column(table.column_names.index(name), name, held)

    return change


def label(table: pa.Table) -> np.ndarray:
    return table["positive"].to_numpy(zero_copy_only=False).astype(np.float32)


def leak(run: Run, power: float) -> None:
    """The label through noise, so many standard deviations apart, in all rows that are trained on and ranked."""
    rng = np.random.default_rng(1)

    def values(table: pa.Table) -> np.ndarray:
        noise = rng.standard_normal(table.num_rows) / power if np.isfinite(power) else 0.0
        return (label(table) + noise).astype(np.float32)

    for path in (run.dataset / "rows.parquet", run.rankings / "features.parquet"):
        rewrite(path, put(LEAKED, values))


def test_an_honest_shop_passes_every_rule(found: Evidence, answers: Callable[[Evidence], dict[str, str]]) -> None:
    assert set(answers(found).values()) == {"pass"}
    assert not changed_features(found)
    assert any("none of" in sentence and "values changed" in sentence for sentence in found.sentences)


@pytest.mark.integration
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_honest_shops_of_other_seeds_pass_every_rule(
    seed: int, tmp_path: Path, answers: Callable[[Evidence], dict[str, str]]
) -> None:
    assert set(answers(measure(honest(tmp_path, seed=seed), tmp_path / "out")).values()) == {"pass"}


@pytest.mark.parametrize(
    ("power", "seen_by"),
    [
        (
            np.inf,
            {"leakage-power", "leakage-power-training", "leakage-label", "leakage-label-training", "leakage-model"},
        ),
        (3.0, {"leakage-power", "leakage-power-training", "leakage-label", "leakage-label-training", "leakage-model"}),
        (0.5, set()),
    ],
    ids=["a copy of the label", "with noise", "as weak as an honest feature"],
)
def test_a_leak_is_caught_at_every_strength_and_by_its_power_where_it_is_strong(
    copied: Run, tmp_path: Path, answers: Callable[[Evidence], dict[str, str]], power: float, seen_by: set[str]
) -> None:
    leak(copied, power)
    evidence = measure(copied, tmp_path / "out")
    assert changed_features(evidence) == {LEAKED}
    failed = {rule for rule, answer in answers(evidence).items() if answer == "fail"}
    assert failed == {"leakage-future"} | seen_by


def test_a_copy_of_the_label_has_limits_although_users_do_not_differ(copied: Run, tmp_path: Path) -> None:
    leak(copied, np.inf)
    evidence = measure(copied, tmp_path / "out")
    for metric in ("power@test", "power@train", "told@test", "told@train"):
        estimate = pick(evidence, metric, LEAKED)
        assert estimate.low is not None
        assert estimate.high is not None
        assert 0.85 < estimate.low <= (estimate.value or 0) <= estimate.high <= 1


def test_a_leak_in_training_alone_is_caught_by_its_hindsight(
    copied: Run, tmp_path: Path, answers: Callable[[Evidence], dict[str, str]]
) -> None:
    rewrite(copied.dataset / "rows.parquet", put(LEAKED, label))
    evidence = measure(copied, tmp_path / "out")
    change = pick(evidence, "power@test", LEAKED, "train")
    assert change.value is not None
    assert change.value < -0.3
    failed = {rule for rule, answer in answers(evidence).items() if answer == "fail"}
    assert failed == {"leakage-future", "leakage-power-training", "leakage-label-training", "leakage-hindsight"}


def test_a_feature_that_looks_one_bucket_ahead_is_caught(copied: Run, tmp_path: Path) -> None:
    tables = FeatureTables.open(copied.dataset / "tables")
    requests = pq.read_table(copied.dataset / "requests.parquet").sort_by("request")
    name = "item_impression_7d"

    def ahead(table: pa.Table) -> np.ndarray:
        asked = requests.take(table["request"])
        made = tables.matrix(asked["user"].to_numpy(), table["item"].to_numpy(), asked["bucket"].to_numpy() + 1)
        return made[:, tables.names.index(name)]

    rewrite(copied.dataset / "rows.parquet", put(name, ahead))
    evidence = measure(copied, tmp_path / "out")
    assert changed_features(evidence) == {name}
    estimate = pick(evidence, "changed_without_future", name)
    assert estimate.low == estimate.value == estimate.high
    assert estimate.detail["values"] > (estimate.value or 0) > 0
    assert estimate.detail["largest"] >= 1


def _ahead(kind: type, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a look back end a bucket later: what it is asked for is `(keys, buckets, ...)`."""
    honest_one = getattr(kind, method)
    monkeypatch.setattr(kind, method, lambda held, keys, buckets, *rest: honest_one(held, keys, buckets + 1, *rest))


@pytest.mark.parametrize(
    ("kind", "method", "changed"),
    [
        (Trail, "counts", {"item_impression_7d", "user_impression_7d", "user_item_shown_all"}),
        (Trail, "last", {"user_recency_days", "user_item_shown_recency_days"}),
        (Takings, "_end", {"covisitation_all", "covisitation_last_3"}),
    ],
    ids=["counts", "recency", "co-visitation"],
)
def test_tables_that_know_the_requests_own_bucket_are_caught_although_they_are_made_again_with_the_same_fault(
    copied: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, method: str, changed: set[str]
) -> None:
    _ahead(kind, method, monkeypatch)
    built = tmp_path / "built"
    built.mkdir()
    build_dataset(copied.snapshot, out=built, seed=0)
    # What is ranked has the fault as well; here its honest rows would show it even to a check that misses the future.
    rewrite(copied.rankings / "features.parquet", lambda table: table.slice(0, 0))
    found = changed_features(measure(replace(copied, dataset=built), tmp_path / "out"))
    assert changed <= found
    assert LEAKED not in found


def test_one_value_that_differs_in_its_last_bit_is_counted(copied: Run, tmp_path: Path) -> None:
    moments = pq.read_table(_moments(copied, tmp_path)).to_pylist()
    cut = next(
        row["as_of"] for row in moments if row["moment"] == "the busiest bucket of test" and row["table"] == "rows"
    )
    requests = pq.read_table(copied.dataset / "requests.parquet").sort_by("request")
    asked = next(
        row["request"] for row in requests.to_pylist() if row["split"] == "test" and row["ts"].isoformat() >= cut
    )

    def nudge(table: pa.Table) -> np.ndarray:
        values = table["item_age_days"].to_numpy().copy()
        place = int(np.flatnonzero(table["request"].to_numpy() == asked)[0])
        values[place] = np.nextafter(values[place], np.float32(np.inf))
        return values

    rewrite(copied.dataset / "rows.parquet", put("item_age_days", nudge))
    evidence = measure(copied, tmp_path / "out")
    assert pick(evidence, "changed_without_future", "item_age_days").value == 1


def _moments(run: Run, folder: Path) -> Path:
    measure(run, folder / "before")
    return folder / "before" / MOMENTS_TABLE


def test_single_features_stand_beside_the_model_and_every_baseline_on_the_same_rows(found: Evidence) -> None:
    systems = {e.subject: e for e in found.estimates if e.metric == "model_power@test"}
    assert set(systems) == {"candidate", "random", "popularity", "item-knn"}
    rates = pick(found, "power@test", "user_category_rate_all")
    gap = pick(found, "power@test", "user_category_rate_all", "candidate")
    assert gap.value == pytest.approx((rates.value or 0) - (systems["candidate"].value or 0))
    assert gap.detail["best_baseline"] == max(e.value or 0 for name, e in systems.items() if name != "candidate")
    assert abs((systems["random"].value or 0) - 0.5) < 0.05


def test_what_is_the_same_for_a_whole_request_orders_nothing_and_is_asked_about_its_success(found: Evidence) -> None:
    device = pick(found, "power@test", "context_device")
    assert (device.value, device.low, device.high) == (0.5, 0.5, 0.5)
    asked = {e.subject for e in found.estimates if e.metric == "outcome_told@test"}
    assert {"context_device", "user_outcomes_7d"} <= asked
    assert "item_price" not in asked


def test_nothing_is_shared_between_the_splits_of_an_honest_shop(found: Evidence) -> None:
    overlap = {e.subject: e.value for e in found.estimates if e.metric == "overlap"}
    assert overlap == {"requests": 0, "rows": 0, "labels of train": 0, "labels of validation": 0}
    returning = pick(found, "returning_users", "test")
    assert 0 < (returning.value or 0) < 1


def test_a_request_id_in_two_splits_is_counted(copied: Run, tmp_path: Path) -> None:
    def repeated(table: pa.Table) -> list[str]:
        ids = table["request_id"].to_pylist()
        return [ids[0] if place == len(ids) - 1 else held for place, held in enumerate(ids)]

    rewrite(copied.dataset / "requests.parquet", put("request_id", repeated))
    assert pick(measure(copied, tmp_path / "out"), "overlap", "requests").value == 1


def test_rows_of_one_user_item_and_moment_in_two_splits_are_counted(copied: Run, tmp_path: Path) -> None:
    requests = pq.read_table(copied.dataset / "requests.parquet").sort_by("request")
    rows = pq.read_table(copied.dataset / "rows.parquet")
    last = requests.num_rows - 1
    items = rows.filter(pa.array(rows["request"].to_numpy() == 0))["item"].to_pylist()
    for name in ("user", "ts"):
        held = requests[name].to_pylist()
        held[last] = held[0]
        requests = requests.set_column(requests.column_names.index(name), name, pa.array(held, requests[name].type))
    pq.write_table(requests, copied.dataset / "requests.parquet")

    def same_items(table: pa.Table) -> np.ndarray:
        held = table["item"].to_numpy().copy()
        place = np.flatnonzero(table["request"].to_numpy() == last)
        held[place[: len(items)]] = items[: place.size]
        return held

    rewrite(copied.dataset / "rows.parquet", put("item", same_items))
    shared = pick(measure(copied, tmp_path / "out"), "overlap", "rows")
    assert shared.value == min(len(items), 12)


def test_a_training_request_of_the_test_weeks_is_counted_with_its_rows(copied: Run, tmp_path: Path) -> None:
    def late(table: pa.Table) -> list[object]:
        held = table["ts"].to_pylist()
        held[0] = held[-1]
        return held

    rewrite(copied.dataset / "requests.parquet", put("ts", late))
    rows = pq.read_table(copied.dataset / "rows.parquet")["request"].to_numpy()
    assert pick(measure(copied, tmp_path / "out"), "overlap", "labels of train").value == (rows == 0).sum()


def test_where_the_catalogue_is_ranked_features_are_measured_on_training_rows(tmp_path: Path) -> None:
    run = bought(tmp_path)
    evidence = measure(run, tmp_path / "out")
    assert not changed_features(evidence)
    metrics = {e.metric for e in evidence.estimates}
    assert {"power@train", "told@train", "changed_without_future", "overlap"} <= metrics
    assert not {"power@test", "told@test", "outcome_told@train"} & metrics
    for e in evidence.estimates:
        if e.metric == "changed_without_future":
            assert e.value == 0
            assert e.detail["moments"] == 3
    rewrite(run.dataset / "rows.parquet", put("item_purchase_7d", label))
    spoiled = measure(run, tmp_path / "spoiled")
    assert changed_features(spoiled) == {"item_purchase_7d"}
    assert pick(spoiled, "power@train", "item_purchase_7d").value == 1


def test_the_same_run_gives_the_same_bytes(shop: Run, tmp_path: Path) -> None:
    names = ("leakage.json", FEATURES_TABLE, MOMENTS_TABLE)
    for attempt in ("one", "two"):
        measure(shop, tmp_path / attempt, seed=5)
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_table_holds_a_row_a_feature_with_what_the_estimates_say(
    shop: Run, found: Evidence, tmp_path: Path
) -> None:
    measure(shop, tmp_path)
    table = pq.read_table(tmp_path / FEATURES_TABLE).to_pylist()
    manifest = documents.load(Dataset, shop.dataset / "dataset.json")
    assert [row["feature"] for row in table] == [feature.name for feature in manifest.features]
    for row in table:
        power = pick(found, "power@test", row["feature"])
        assert (row["power_test"], row["power_test_low"], row["power_test_high"]) == (
            power.value,
            power.low,
            power.high,
        )
        assert row["changed_without_future"] == 0


def test_a_log_whose_test_rows_are_gone_has_figures_without_a_value(
    copied: Run, tmp_path: Path, answers: Callable[[Evidence], dict[str, str]]
) -> None:
    rewrite(copied.rankings / "features.parquet", lambda table: table.slice(0, 0))
    judged = answers(measure(copied, tmp_path / "out"))
    assert judged["leakage-power"] == judged["leakage-label"] == "insufficient"


@pytest.mark.parametrize("kind", [True, False], ids=["only positives", "no positive"])
def test_rows_of_one_kind_alone_leave_the_order_without_a_value(
    copied: Run, tmp_path: Path, answers: Callable[[Evidence], dict[str, str]], kind: bool
) -> None:
    rewrite(copied.rankings / "features.parquet", put("positive", lambda table: np.full(table.num_rows, kind)))
    rewrite(copied.rankings / "rankings.parquet", put("positive", lambda table: np.full(table.num_rows, kind)))
    evidence = measure(copied, tmp_path / "out")
    judged = answers(evidence)
    assert {pick(evidence, "power@test", name).value for name in (LEAKED, "item_click_7d")} == {None}
    assert judged["leakage-power"] == judged["leakage-model"] == judged["leakage-hindsight"] == "insufficient"


def test_rows_of_requests_that_there_are_not_are_refused_with_every_table(copied: Run, tmp_path: Path) -> None:
    for path in (copied.dataset / "rows.parquet", copied.rankings / "features.parquet"):
        rewrite(path, put("request", lambda table: table["request"].to_numpy() + 10**6))
    with pytest.raises(FaultyInputError, match=r"2 faults[\s\S]*rows.parquet, request[\s\S]*features.parquet, request"):
        measure(copied, tmp_path / "out")


def test_a_feature_without_its_column_is_named(copied: Run, tmp_path: Path) -> None:
    rewrite(copied.dataset / "rows.parquet", lambda table: table.drop_columns([LEAKED]))
    with pytest.raises(EvidenceError, match=rf"rows.parquet: found no column {LEAKED}"):
        measure(copied, tmp_path / "out")


def test_a_snapshot_of_another_dataset_is_refused(shop: Run, tmp_path: Path) -> None:
    other = tmp_path / "snapshot"
    shutil.copytree(shop.snapshot, other)
    (other / "quarantine.parquet").unlink()
    with pytest.raises(EvidenceError, match="Measure with the snapshot that it was built from"):
        measure(replace(shop, snapshot=other), tmp_path / "out")


@pytest.mark.parametrize(("part", "file"), [("dataset", "rows.parquet"), ("rankings", "features.parquet")])
def test_a_table_that_is_missing_or_lacks_a_column_is_named(copied: Run, tmp_path: Path, part: str, file: str) -> None:
    path = getattr(copied, part) / file
    rewrite(path, lambda table: table.drop_columns(["positive"]))
    with pytest.raises(InputError, match=rf"{re.escape(file)}: found columns .* needed also positive"):
        measure(copied, tmp_path / "out")
    path.unlink()
    with pytest.raises(InputError, match=re.escape(file)):
        measure(copied, tmp_path / "out")


def test_the_reference_lists_the_metrics_of_leakage(found: Evidence, documented: dict[str, set[str]]) -> None:
    assert {re.sub(r"@\w+", "@k", e.metric) for e in found.estimates} == documented["leakage"]


def test_every_figure_fits_its_interval(found: Evidence) -> None:
    for e in found.estimates:
        if e.value is not None and e.low is not None and e.high is not None:
            assert e.low <= e.value <= e.high, (e.metric, e.subject)
