from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import ndcg_score

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.dataset.contract import Dataset
from components.errors import InputError
from components.evidence.contract import Estimate, Evidence
from components.evidence.quality import measure_quality
from components.evidence.segments import history_groups
from components.ranker.contract import Rankings

METRICS = ("ndcg", "map", "recall", "mrr", "hit_rate")


@pytest.fixture(scope="module")
def measured(world: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Path]:
    out = tmp_path_factory.mktemp("evidence")
    return measure_quality(world.dataset, world.rankings, out=out, seed=3), out


def pick(evidence: Evidence, metric: str, statistic: str = "value", **wanted: object) -> list[Estimate]:
    wanted = {"segment": {}} | wanted
    return [
        estimate
        for estimate in evidence.estimates
        if estimate.metric == metric
        and estimate.statistic == statistic
        and all(getattr(estimate, name) == value for name, value in wanted.items())
    ]


def candidate_gains(world: Any) -> dict[int, np.ndarray]:
    """Gains of the candidate's test lists in served order, straight from the file."""
    table = pq.read_table(world.rankings / "rankings.parquet").to_pandas()
    rows = table[(table.system == "candidate") & (world.truth["split"][table.request] == "test")]
    return {request: group.sort_values("rank").gain.to_numpy() for request, group in rows.groupby("request")}


def user_ndcg(world: Any, k: int) -> np.ndarray:
    """Mean NDCG of each user who has a request with a positive, by scikit-learn."""
    per_user: dict[int, list[float]] = {}
    for request, gains in candidate_gains(world).items():
        if gains.max() > 0:
            found = ndcg_score(gains[None, :], -np.arange(gains.size)[None, :].astype(float), k=k)
            per_user.setdefault(int(world.truth["user"][request]), []).append(found)
    return np.array([np.mean(values) for _, values in sorted(per_user.items())])


def test_the_evidence_is_written_whole_with_its_table(measured: tuple[Evidence, Path], world: Any) -> None:
    evidence, out = measured
    assert documents.load(Evidence, out / "quality.json") == evidence
    assert evidence.inputs == {"dataset": "0" * 64, "rankings": digest_tree(world.rankings)}
    assert {path.name for path in out.iterdir()} == {"quality.json", *evidence.tables.values()}


def test_equal_inputs_and_seed_give_equal_bytes(world: Any, measured: tuple[Evidence, Path], tmp_path: Path) -> None:
    measure_quality(world.dataset, world.rankings, out=tmp_path, seed=3)
    assert digest_tree(tmp_path) == digest_tree(measured[1])


def test_the_estimate_is_the_mean_over_users_of_scikit_learns_ndcg(measured: tuple[Evidence, Path], world: Any) -> None:
    for k in (5, 10):
        (found,) = pick(measured[0], f"ndcg@{k}", subject="candidate")
        expected = user_ndcg(world, k)
        assert found.value == pytest.approx(expected.mean(), abs=1e-6)
        assert found.n_users == expected.size
        assert found.low < found.value < found.high
        assert found.mde == pytest.approx(2.8 * expected.std(ddof=1) / math.sqrt(expected.size), rel=0.15)


def test_every_system_has_every_metric_and_the_candidate_a_difference_to_each_other(
    measured: tuple[Evidence, Path],
) -> None:
    evidence, _ = measured
    systems = {"candidate", "incumbent", "item-knn", "popularity", "random"}
    for metric in METRICS:
        for k in (5, 10):
            values = {estimate.subject: estimate for estimate in pick(evidence, f"{metric}@{k}")}
            differences = {estimate.versus: estimate for estimate in pick(evidence, f"{metric}@{k}", "difference")}
            assert set(values) == systems
            assert set(differences) == systems - {"candidate"}
            for other, difference in differences.items():
                assert difference.subject == "candidate"
                assert difference.value == pytest.approx(values["candidate"].value - values[other].value, abs=1e-9)
                assert difference.detail["ratio"] == pytest.approx(values["candidate"].value / values[other].value)


def test_differences_are_paired(measured: tuple[Evidence, Path]) -> None:
    evidence, _ = measured
    (candidate,) = pick(evidence, "ndcg@10", subject="candidate")
    (incumbent,) = pick(evidence, "ndcg@10", "difference", versus="incumbent")
    # The incumbent's lists are nearly the same: an unpaired interval would be as wide as that of the value itself.
    assert incumbent.high - incumbent.low < 0.6 * (candidate.high - candidate.low)


def test_each_group_and_the_unknown_are_measured_and_hold_together(measured: tuple[Evidence, Path], world: Any) -> None:
    evidence, _ = measured
    grouped = [e for e in evidence.estimates if e.segment and e.subject == "candidate" and e.statistic == "value"]
    assert [e.segment for e in grouped] == [
        *({"country": name} for name in ("DE", "FR", "IT", "unknown")),
        {"history": "none"},
        {"history": "1 to 4"},
    ]
    assert {e.family for e in grouped} == {"ndcg@10 of candidate by group"}
    (overall,) = pick(evidence, "ndcg@10", subject="candidate")
    for name in ("country", "history"):
        parts = [e for e in grouped if name in e.segment]
        assert sum(e.n_users for e in parts) == overall.n_users
        assert sum(e.n_requests for e in parts) == overall.n_requests
        assert sum(e.n_users * e.value for e in parts) == pytest.approx(overall.n_users * overall.value)
    changes = [e for e in evidence.estimates if e.segment and e.statistic == "difference" and e.versus == "incumbent"]
    assert len(changes) == 6
    assert all("max-t over 6" in e.method for e in changes)


def test_what_is_known_of_users_is_what_was_known_at_the_test_cut(measured: tuple[Evidence, Path], world: Any) -> None:
    built = documents.load(Dataset, world.dataset / "dataset.json")
    known = pq.read_table(world.dataset / "history.parquet")["user"].to_numpy()[: built.cuts[-2].history_rows]
    taken = Counter(known.tolist())
    table = pq.read_table(measured[1] / "quality-users.parquet").to_pandas()
    counted = table[table["ndcg@10:candidate"].notna()]
    expected = {
        "none": sum(taken[user] == 0 for user in counted["user"]),
        "1 to 4": sum(0 < taken[user] <= 4 for user in counted["user"]),
    }
    found = {
        e.segment["history"]: e.n_users
        for e in measured[0].estimates
        if "history" in e.segment and (e.subject, e.statistic) == ("candidate", "value")
    }
    assert found == expected


def test_a_declared_attribute_called_history_keeps_its_name() -> None:
    taken = np.array([0, 3, 9])
    assert [group.segment for group in history_groups(taken, attributes=("history",))] == [
        {"history before the test": value} for value in ("none", "1 to 4", "more than 4")
    ]


def test_requests_without_a_positive_are_counted_and_left_out(measured: tuple[Evidence, Path], world: Any) -> None:
    evidence, _ = measured
    gains = candidate_gains(world)
    empty = sum(values.max() == 0 for values in gains.values())
    assert empty > 0
    (count,), (share,) = pick(evidence, "empty_requests"), pick(evidence, "empty_request_share")
    assert (count.value, count.low, count.high, count.method) == (empty, empty, empty, "exact")
    assert share.value == pytest.approx(empty / len(gains))
    (found,) = pick(evidence, "ndcg@10", subject="candidate")
    assert found.n_requests == len(gains) - empty
    table = pq.read_table(measured[1] / "quality-users.parquet").to_pandas()
    assert int(table.n_empty_requests.sum()) == empty
    as_zero = (
        table["ndcg@10:candidate"].fillna(0) * table.n_requests / (table.n_requests + table.n_empty_requests)
    ).mean()
    assert found.detail["empty_as_zero"] == pytest.approx(as_zero)


def test_the_table_has_one_row_a_user_and_a_column_a_metric_and_system(
    measured: tuple[Evidence, Path], world: Any
) -> None:
    table = pq.read_table(measured[1] / "quality-users.parquet")
    assert table["user"].to_pylist() == sorted(set(world.truth["user"].tolist()))
    assert table.schema.field("n_requests").type == pa.int32()
    for name in METRICS:
        assert f"{name}@5:random" in table.column_names
    expected = user_ndcg(world, 10)
    assert np.sort(table["ndcg@10:candidate"].drop_null().to_numpy()) == pytest.approx(np.sort(expected), abs=1e-6)


def test_lists_are_described_beyond_accuracy(measured: tuple[Evidence, Path], world: Any) -> None:
    evidence, _ = measured
    table = pq.read_table(world.rankings / "rankings.parquet").to_pandas()
    table = table[(world.truth["split"][table.request] == "test") & (table["rank"] <= 10)]
    users = world.truth["user"]
    category = pq.read_table(world.dataset / "items.parquet")["category"].fill_null("none").to_pylist()
    popularity = world.truth["popularity"]
    information = -np.log2((popularity + 1) / (popularity + 1).sum())
    top = set(range(5))  # a tenth of 48 eligible items, rounded up, in a world whose first items are the most popular
    diversity, novelty, share, overlap = {}, {}, {}, {}
    by_system = {system: rows.groupby("request").item.agg(list) for system, rows in table.groupby("system")}
    for request, items in by_system["candidate"].items():
        pairs = [(a, b) for i, a in enumerate(items) for b in items[i + 1 :]]
        diversity.setdefault(users[request], []).append(np.mean([category[a] != category[b] for a, b in pairs]))
        novelty.setdefault(users[request], []).append(np.mean(information[items]))
        weight = 1 / np.log2(np.arange(2, 12))
        share.setdefault(users[request], []).append(
            sum(w for w, i in zip(weight, items, strict=True) if i in top) / weight.sum()
        )
        overlap.setdefault(users[request], []).append(len(set(items) & set(by_system["incumbent"][request])) / 10)
    for metric, values in {
        "category_diversity": diversity,
        "novelty": novelty,
        "popular_share": share,
        "overlap": overlap,
    }.items():
        (found,) = pick(evidence, f"{metric}@10", subject="candidate")
        assert found.value == pytest.approx(np.mean([np.mean(v) for v in values.values()]), abs=1e-8), metric
        assert found.low <= found.value <= found.high
        assert found.n_requests == len(by_system["candidate"])
    (coverage,) = pick(evidence, "coverage@10", subject="candidate")
    shown = {item for items in by_system["candidate"] for item in items}
    assert coverage.value == pytest.approx(len(shown & set(range(48))) / 48)


def test_popularity_is_held_against_the_users_own_history_before_the_test(
    measured: tuple[Evidence, Path], world: Any
) -> None:
    (found,) = pick(measured[0], "popularity@10", "ratio", subject="candidate")
    truth = world.truth
    owner, taken = truth["history_user"], truth["popularity"][truth["history_item"]]
    before = {user: taken[owner == user].mean() for user in np.unique(owner).tolist()}
    table = pq.read_table(world.rankings / "rankings.parquet").to_pandas()
    table = table[(table.system == "candidate") & (truth["split"][table.request] == "test") & (table["rank"] <= 10)]
    table["user"] = truth["user"][table.request]
    shown = table.assign(popularity=truth["popularity"][table.item]).groupby(["user", "request"]).popularity.mean()
    shown = shown.groupby("user").mean()
    known = [user for user in shown.index if user in before]
    assert found.n_users == len(known) < shown.size
    assert found.value == pytest.approx(shown[known].mean() / np.mean([before[user] for user in known]))


def test_a_spoiled_group_is_shown_to_be_worse_off(write_world: Callable[..., Any], tmp_path: Path) -> None:
    world = write_world(users=300, requests_per_user=2, seed=5)
    path = world.rankings / "rankings.parquet"
    table = pq.read_table(path).to_pandas()
    spoiled = (table.system == "candidate") & (world.truth["country"][world.truth["user"][table.request]] == "FR")
    # Upside down for one country: the first becomes the last.
    for column in ("item", "gain", "positive"):
        reversed_lists = table[spoiled].groupby("request")[column].transform(lambda values: values.to_numpy()[::-1])
        table.loc[spoiled, column] = reversed_lists
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), path)
    found = measure_quality(world.dataset, world.rankings, out=tmp_path, seed=1)
    compared = [e for e in found.estimates if e.segment and e.statistic == "difference" and e.versus == "incumbent"]
    changes = {e.segment["country"]: e for e in compared if "country" in e.segment}
    assert changes["FR"].high < 0
    assert changes["DE"].high > 0
    assert any("of 6 shown to be worse off" in sentence for sentence in found.sentences), found.sentences


def test_an_identical_retrain_differs_by_nothing_and_has_an_honest_interval(
    write_world: Callable[..., Any], tmp_path: Path
) -> None:
    world = write_world(skills={"candidate": 1.0, "incumbent": 1.0})
    found = measure_quality(world.dataset, world.rankings, out=tmp_path, seed=1)
    (difference,) = pick(found, "ndcg@10", "difference", versus="incumbent")
    (overlap,) = pick(found, "overlap@10")
    assert difference.value == 0
    assert -0.06 < difference.low < 0 < difference.high < 0.06
    assert difference.mde is None
    assert overlap.value == 1


def test_without_any_positive_every_accuracy_is_missing_and_nothing_crashes(
    write_world: Callable[..., Any], tmp_path: Path
) -> None:
    world = write_world(bias=-60.0)
    found = measure_quality(world.dataset, world.rankings, out=tmp_path, seed=1)
    for metric in METRICS:
        for estimate in pick(found, f"{metric}@10") + pick(found, f"{metric}@10", "difference"):
            assert (estimate.value, estimate.low, estimate.high, estimate.n_users) == (None, None, None, 0)
    (share,) = pick(found, "empty_request_share")
    assert share.value == 1
    assert "could not be measured" in found.sentences[0]


def test_one_user_and_no_category_or_segment_are_measured(write_world: Callable[..., Any], tmp_path: Path) -> None:
    world = write_world(users=1, segments=(), category="", cutoffs=(3,), skills={"candidate": 1.0, "random": 0.0})
    found = measure_quality(world.dataset, world.rankings, out=tmp_path, seed=1)
    assert not [e for e in found.estimates if "diversity" in e.metric or "overlap" in e.metric]
    assert {tuple(e.segment) for e in found.estimates} == {(), ("history",)}
    assert found.conventions["main metric"] == "ndcg@3"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("rankings.parquet", lambda t: t.drop_columns(["gain"]), "needed also gain"),
        ("rankings.parquet", lambda t: t.slice(1), "out of sequence"),
        (
            "rankings.parquet",
            lambda t: with_column(t, "score", [math.nan, *t["score"].to_pylist()[1:]]),
            "NaN or infinity",
        ),
        (
            "rankings.parquet",
            lambda t: with_column(t, "item", [999, *t["item"].to_pylist()[1:]]),
            "999; needed 0 to 49",
        ),
        ("rankings.parquet", lambda t: with_column(t, "system", ["other"] * t.num_rows), "rankings.parquet, system"),
        ("rankings.parquet", lambda t: pa.concat_tables([t, t.slice(0, 12)]), "rows ordered by system"),
        ("requests.parquet", lambda t: t.slice(0, t.num_rows - 1), "1 that requests.parquet lacks"),
        ("requests.parquet", lambda t: pa.concat_tables([t, t.slice(0, 1)]), "the same request twice"),
        ("requests.parquet", lambda t: with_column(t, "user", [None, *t["user"].to_pylist()[1:]]), "1 nulls"),
        (
            "catalogue.parquet",
            lambda t: with_column(t, "popularity", [math.inf] * t.num_rows),
            "catalogue.parquet, popularity",
        ),
    ],
)
def test_broken_tables_are_refused_by_name(
    world: Any, tmp_path: Path, name: str, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    rankings, out = tmp_path / "rankings", tmp_path / "out"
    copytree(world.rankings, rankings)
    out.mkdir()
    pq.write_table(change(pq.read_table(rankings / name)), rankings / name)
    with pytest.raises(InputError, match=message):
        measure_quality(world.dataset, rankings, out=out, seed=1)
    assert not list(out.iterdir())


def with_column(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, name, pa.array(values, table.schema.field(name).type))


def test_an_unreadable_table_and_a_missing_attribute_are_refused(
    world: Any, tmp_path: Path, changed_manifest: Callable[..., None]
) -> None:
    for part in ("dataset", "rankings"):
        copytree(getattr(world, part), tmp_path / part)
    (tmp_path / "rankings" / "catalogue.parquet").write_bytes(b"not parquet")
    with pytest.raises(InputError, match=r"catalogue.parquet: cannot be read as Parquet"):
        measure_quality(world.dataset, tmp_path / "rankings", out=tmp_path, seed=1)
    changed_manifest(Dataset, tmp_path / "dataset" / "dataset.json", segments=("plan",))
    with pytest.raises(InputError, match="needed also plan"):
        measure_quality(tmp_path / "dataset", world.rankings, out=tmp_path, seed=1)
    changed_manifest(Rankings, tmp_path / "rankings" / "rankings.json", systems=())
    pq.write_table(pq.read_table(world.rankings / "catalogue.parquet"), tmp_path / "rankings" / "catalogue.parquet")
    with pytest.raises(InputError, match="one called candidate"):
        measure_quality(world.dataset, tmp_path / "rankings", out=tmp_path, seed=1)
