"""Each harm does what it says to the run, and nothing to the honest run that it starts from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from components.artifacts.digests import digest_tree
from components.evidence.contract import Evidence
from components.verdict.policy import load_policy
from pipelines.trials.harms import BURIED, HARMS, Harm, Planting
from pipelines.trials.measuring import measure
from pipelines.trials.planting import features, rankings, scores
from pipelines.trials.planting.rankings import users_where
from pipelines.trials.worlds import Parts


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def quality(parts: Parts, out: Path) -> Evidence:
    out.mkdir()
    return measure(parts, ("quality",), out=out, seed=0)["quality"]


def ndcg(found: Evidence, subject: str = "candidate", **segment: str) -> float:
    return next(
        held.value
        for held in found.estimates
        if (held.metric, held.statistic, held.subject, held.segment) == ("ndcg@10", "value", subject, segment)
        and held.value is not None
    )


def rows(parts: Parts, system: str) -> pa.Table:
    table = pq.read_table(parts.rankings / "rankings.parquet")
    return table.filter(pc.equal(table["system"].cast(pa.string()), system))


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.name)
def test_planting_leaves_the_honest_run_as_it_was(harm: Harm, base: Path, parts: Parts, out: Path) -> None:
    before = digest_tree(base)
    strength = 1.0 if harm.scaled_by else harm.strengths[-1].value
    planted = harm.plant(Planting(base, parts, out, strength, rng(), 0))
    assert planted != parts
    assert digest_tree(base) == before


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.name)
def test_planting_is_a_function_of_its_seed(harm: Harm, base: Path, parts: Parts, out: Path) -> None:
    if harm.costly:
        pytest.skip("it trains: what it trains on is compared in the other tests, and training in the ranker's own")
    strength = 0.5 if harm.scaled_by else harm.strengths[-1].value
    digests = []
    for number in (1, 2):
        place = out / str(number)
        place.mkdir()
        harm.plant(Planting(base, parts, place, strength, rng(), 0))
        digests.append(digest_tree(place))
    assert digests[0] == digests[1]


def test_lists_turned_round_lose_quality_in_proportion(parts: Parts, out: Path) -> None:
    everyone = users_where(parts, {})
    values = [ndcg(quality(parts, out / "honest"))]
    for number, share in enumerate((0.5, 1.0)):
        place = out / str(number)
        place.mkdir()
        turned = rankings.turned_round(parts, place, users=everyone, share=share, rng=rng())
        values.append(ndcg(quality(turned, out / f"evidence-{number}")))
    assert values[0] > values[1] > values[2]
    assert values[0] - values[1] == pytest.approx(values[1] - values[2], abs=0.05)


def test_only_the_lists_of_the_chosen_users_are_spoiled(parts: Parts, out: Path) -> None:
    french = users_where(parts, {"country": "FR"})
    turned = rankings.turned_round(parts, out, users=french, share=1.0, rng=rng())
    honest, spoiled = quality(parts, out / "a"), quality(turned, out / "b")
    assert ndcg(spoiled, country="FR") < ndcg(honest, country="FR") - 0.1
    assert ndcg(spoiled, country="DE") == ndcg(honest, country="DE")
    assert ndcg(spoiled, subject="popularity") == ndcg(honest, subject="popularity")


def test_a_buried_provider_stands_below_everyone_else(parts: Parts, out: Path) -> None:
    items = rankings.items_of(parts, "provider", BURIED)
    assert items.any()
    done = rankings.buried(parts, out, items=items, share=1.0, rng=rng())
    table = rows(done, "candidate")
    test = pq.read_table(done.rankings / "requests.parquet")
    wanted = test["request"].to_numpy()[
        pc.equal(test["split"].cast(pa.string()), "test").to_numpy(zero_copy_only=False)
    ]
    request, rank, item = (table[name].to_numpy() for name in ("request", "rank", "item"))
    for number in wanted[:50]:
        own = items[item[request == number]][np.argsort(rank[request == number])]
        assert not (np.diff(own.astype(int)) < 0).any(), "one of the provider's items stands above another's"


def test_dealt_lists_are_the_same_lists_under_other_names(parts: Parts, out: Path) -> None:
    done = rankings.dealt(parts, out, rng=rng())

    def pairs(run: Parts) -> NDArray[np.int64]:
        both = pa.concat_tables([rows(run, name) for name in ("candidate", "incumbent")])
        columns = [both[name].to_numpy().astype(np.int64) for name in ("request", "rank", "item")]
        return np.sort(columns[0] * 10**9 + columns[1] * 10**6 + columns[2])

    assert np.array_equal(pairs(done), pairs(parts))
    assert not rows(done, "candidate").equals(rows(parts, "candidate"))


@pytest.mark.parametrize("by", [0.015, 0.06])
def test_miscalibrated_scores_promise_that_much_more(parts: Parts, out: Path, by: float) -> None:
    done = scores.miscalibrated(parts, out, by=by)
    gaps = []
    for number, run in enumerate((parts, done)):
        place = out / f"evidence-{number}"
        place.mkdir()
        found = measure(run, ("calibration",), out=place, seed=0)["calibration"]
        gaps.append(
            next(held.value for held in found.estimates if held.metric == "calibration_gap" and not held.segment)
        )
    assert gaps[0] is not None
    assert gaps[1] == pytest.approx(gaps[0] - by, abs=0.002)


def test_a_moved_column_moves_test_rows_and_their_scores_alone(parts: Parts, out: Path) -> None:
    name = features.by_importance(parts)[0]
    done = features.column_moved(parts, out, name=name, by=3.0)
    before, after = (pq.read_table(run.rankings / "features.parquet") for run in (parts, done))
    test = pc.equal(before["split"].cast(pa.string()), "test").to_numpy(zero_copy_only=False)
    for column in (name, "score"):
        changed = before[column].to_numpy() != after[column].to_numpy()
        assert changed[test].mean() > 0.5
        assert not changed[~test & ~np.isnan(before[column].to_numpy())].any()


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.name)
def test_what_a_harm_should_break_is_a_rule_of_the_policy(harm: Harm, repository: Path) -> None:
    for world, targets in harm.targets.items():
        policy = load_policy(repository / "policies" / {"shop": "default", "online_retail": "retail"}[world])
        assert set(targets) <= {criterion.id for criterion in policy.criteria if criterion.effect == "blocking"}
