"""A small run, made from the contracts: every artefact that a card is written from, and ways to break it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.artifacts import documents
from components.artifacts.digests import digest_bytes
from components.card.build import EVIDENCE_ROLES, CardSources, write_card
from components.card.contract import Card, Waived
from components.dataset.contract import Cut, Dataset, Feature
from components.events.contract import DatasetContract, Snapshot, TableCount
from components.evidence.contract import Estimate, Evidence
from components.ranker.contract import Importance, Ranker, Rankings, RerankRules, System
from components.verdict.contract import Finding, FrozenPolicy, Outcome, Verdict

HEX = "0123456789abcdef" * 4
RULES = """\
schema: rankgate/policy/v1
name: default
version: 1.0.0
description: For a small shop.
level: 0.95
first_release: excuse
criteria:
  - id: quality-popularity
    title: Better than the most popular items
    why: Popularity costs nothing to serve.
    evidence: quality
    metric: ndcg@10
    statistic: difference
    select: {versus: popularity}
    bound: {at_least: 0}
"""
WORDS = """\
schema: rankgate/model-card/v1
datasets: [small-shop]
owner: Shop team
licence: Apache-2.0
intended_use: The home feed of a small shop.
out_of_scope: [Search results, Prices]
risks:
  - {harm: New sellers are not seen., affected: Small sellers, mitigation: Exposure of each is measured.}
  - {harm: The feed repeats itself., mitigation: Caps by category.}
"""
FEATURES = ("item_click_7d", "item_age_days", "user_outcomes_7d")


def estimate(metric: str, value: float | None, **given: Any) -> Estimate:
    """An estimate of the candidate with an interval of 0.02 to either side."""
    about: dict[str, Any] = {
        "statistic": "value",
        "subject": "candidate",
        "versus": "",
        "segment": {},
        "low": None if value is None else round(value - 0.02, 6),
        "high": None if value is None else round(value + 0.02, 6),
        "level": 0.95,
        "n_users": 120,
        "n_requests": 300,
        "method": "user bootstrap, 1000 resamples",
        "mde": 0.03 if given.get("statistic") == "difference" and value is not None else None,
    }
    return Estimate(metric=metric, value=value, **(about | given))


def evidence(question: Any, *estimates: Estimate, **given: Any) -> Evidence:
    about: dict[str, Any] = {
        "conventions": {"unit": f"One row a user, in {question}."},
        "inputs": {"dataset": HEX},
        "tables": {},
        "reports": {},
        "libraries": {"numpy": "2.4.6"},
        "seed": 7,
        "sentences": (f"A sentence on {question}: 1,234 rows moved by -0.5.",),
    }
    return Evidence(schema_version=1, question=question, estimates=estimates, **(about | given))


def gap(attribute: str, value: str, difference: float | None, users: int, **given: Any) -> tuple[Estimate, ...]:
    """Value, difference and ratio of a group."""
    about = {"segment": {attribute: value}, "n_users": users} | given
    level = None if difference is None else 0.5 + difference
    ratio = None if difference is None else 1 + 2 * difference
    return (
        estimate("ndcg@10", level, family="ndcg@10 by group", **about),
        estimate("ndcg@10", difference, statistic="difference", versus="rest", family="gaps", **about),
        estimate("ndcg@10", ratio, statistic="ratio", versus="rest", family="ratios", **about),
    )


def finding(answer: Any = "pass", value: float | None = 0.1, **given: Any) -> Finding:
    about: dict[str, Any] = {
        "subject": "candidate",
        "versus": "popularity",
        "segment": {},
        "low": None if value is None else value - 0.02,
        "high": None if value is None else value + 0.02,
        "level": 0.95,
        "n_users": 120,
        "margin": 0.0,
        "more_users": None,
        "message": f"quality-popularity: found {value}. See quality.json.",
        "needed": "at least 0",
    }
    return Finding(answer=answer, value=value, **(about | given))


def outcome(*findings: Finding, **given: Any) -> Outcome:
    about: dict[str, Any] = {
        "criterion": "quality-popularity",
        "title": "Better than the most popular items",
        "evidence": "quality",
        "metric": "ndcg@10",
        "statistic": "difference",
        "blocking": True,
        "on_insufficient": "block",
        "answer": "pass",
        "blocks": False,
        "why": "Popularity costs nothing to serve.",
    }
    return Outcome(findings=findings, **(about | given))


def _outcomes() -> tuple[Outcome, ...]:
    group = {
        "criterion": "fairness-users",
        "title": "No group is served far worse",
        "evidence": "fairness-users",
        "why": "A group of users lives on what it is shown.",
    }
    bound = {"margin": -0.05, "needed": "at least -0.05", "versus": "rest"}
    return (
        outcome(finding()),
        outcome(finding(segment={"country": "DE"}, value=0.01, **bound), **group),
        outcome(
            criterion="quality-incumbent",
            title="Not worse than the incumbent",
            not_applicable="A first release has no incumbent.",
        ),
    )


_ROOMS = {"fairness-users": "groups", "drift": "groups", "leakage": "features", "proxies": "features",
          "servability": "serving"}  # fmt: skip


@dataclass
class Run:
    """A run's documents, to be changed by a test before the card is written."""

    contract: dict[str, Any]
    snapshot: Snapshot
    dataset: Dataset
    ranker: Ranker
    rankings: Rankings
    verdict: Verdict
    evidence: dict[str, Evidence]
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    waivers: tuple[Waived, ...] = ()
    rules: str = RULES
    words: str = WORDS
    """Text of model-card.yaml; none is frozen where it is empty."""

    def blocked(self, *outcomes: Outcome) -> None:
        """Make it a blocked run, by these outcomes."""
        self.verdict = replace(
            self.verdict,
            answer="blocked",
            outcomes=(*self.verdict.outcomes, *outcomes),
            summary="Blocked by 1 of 3 blocking criteria of policy default@1.0.0: it is broken.",
        )

    def sources(self, folder: Path) -> CardSources:
        """Write every document into `folder`."""
        names = ("snapshot", "dataset", "ranker", "rankings", "policy", "verdict", *EVIDENCE_ROLES)
        places = {name: folder / name for name in names}
        for place in places.values():
            place.mkdir(parents=True)
        documents.save(DatasetContract.model_validate(self.contract), places["snapshot"] / "contract.json")
        for name in ("snapshot", "dataset", "ranker", "rankings", "verdict"):
            documents.save(getattr(self, name), places[name] / f"{name}.json")
        for question, held in self.evidence.items():
            room = places[_ROOMS.get(question, "ranking")]
            documents.save(held, room / f"{question}.json")
            for name, file in held.tables.items():
                pq.write_table(pa.Table.from_pylist(self.tables[f"{question}.{name}"]), room / file)
        self._freeze(places["policy"])
        rooms = tuple(places.pop(role) for role in EVIDENCE_ROLES)
        digests = dict.fromkeys(names, HEX)
        sources = CardSources.of(**places, evidence=rooms, code=HEX, digests=digests, facts=self.facts)
        return replace(sources, waivers=self.waivers)

    def _freeze(self, place: Path) -> None:
        """The policy as a run's first step leaves it; its suite is of no interest to a card."""
        texts = {"policy.yaml": self.rules, **({"model-card.yaml": self.words} if self.words else {})}
        for name, text in texts.items():
            (place / name).write_text(text, encoding="utf-8")
        digests = {name: digest_bytes(text.encode()) for name, text in texts.items()}
        frozen = replace(
            self.verdict.policy, digest=digests["policy.yaml"], model_card=digests.get("model-card.yaml", "")
        )
        documents.save(frozen, place / "frozen.json")


@pytest.fixture
def run() -> Run:
    """A logged first release of a small shop that passed."""
    return small_run()


def small_run() -> Run:
    split = {"train": 800, "validation": 100, "test": 300}
    systems = (
        System("candidate", "candidate", HEX, "LambdaMART, 2 trees."),
        System("popularity", "baseline", "", "What most users took."),
    )
    bins = [
        {"bin": 0, "rows": 60, "users": 50, "positives": 6, "lowest": 0.05, "highest": 0.2, "predicted": 0.1,
         "observed": 0.12, "observed_low": 0.05, "observed_high": 0.2},
        {"bin": 1, "rows": 60, "users": 50, "positives": 24, "lowest": 0.2, "highest": 0.6, "predicted": 0.4,
         "observed": 0.38, "observed_low": 0.3, "observed_high": 0.46},
    ]  # fmt: skip
    providers = [
        {"system": "candidate", "provider": name, "exposure_share": exposure, "relevance_share": gains,
         "catalogue_share": 0.5}
        for name, exposure, gains in (("north", 0.6, 0.55), ("south", 0.4, 0.45))
    ]  # fmt: skip
    return Run(
        contract={
            "schema": "rankgate/dataset/v1",
            "name": "small-shop",
            "owner": "data-team",
            "tables": {"events": {"path": ["events.parquet"]}},
            "events": {"impression": {"role": "impression"}, "click": {"role": "outcome", "gain": 1.0}},
            "attributes": {"users": {"country": {"role": "segment"}}},
            "requests": {"mode": "logged"},
            "consent": {"column": "consent", "values": ["granted"]},
            "retention": "P365D",
        },
        snapshot=Snapshot(
            schema_version=1,
            digest=HEX,
            name="small-shop",
            as_of="2026-05-10T00:00:00+00:00",
            first_ts="2026-03-01T00:04:44+00:00",
            last_ts="2026-05-09T23:57:50+00:00",
            users=400,
            items=80,
            event_counts={"click": 900, "impression": 9000},
            tables=(TableCount("events", 10_000, 9_900, {"duplicate row": 60}, {"no consent": 40}),),
            id_types={"user_id": "string", "item_id": "string"},
            sources={"events: events.parquet": HEX},
        ),
        dataset=Dataset(
            schema_version=1,
            snapshot=HEX,
            name="small-shop",
            mode="logged",
            bucket_seconds=3600,
            features=tuple(
                Feature(name, "item", "count", "click", 7.0, "number", f"How often {name} happened.")
                for name in FEATURES
            ),
            cuts=(
                Cut("start", "2026-03-01T00:00:00+00:00", 1, 0),
                Cut("validation", "2026-04-19T00:00:00+00:00", 2, 10),
                Cut("test", "2026-04-26T00:00:00+00:00", 3, 20),
                Cut("release", "2026-05-10T00:00:00+00:00", 4, 30),
            ),
            outcomes=("click",),
            context=(),
            segments=("country",),
            sensitive=("gender",),
            intersections=(),
            category="",
            provider="provider",
            price="",
            cutoffs=(5, 10),
            exclude_seen=False,
            users=400,
            items=80,
            requests=split,
            rows={name: number * 10 for name, number in split.items()},
            positives=split,
            seed=7,
        ),
        ranker=Ranker(
            schema_version=1,
            dataset=HEX,
            name="small-shop",
            mode="logged",
            objective="rank:ndcg",
            parameters={"eta": 0.1, "max_depth": 6},
            features=FEATURES,
            trees=2,
            validation_metric="ndcg@10",
            validation_curve=(0.5, 0.55, 0.54),
            importance=(Importance("item_click_7d", 0.75), Importance("item_age_days", 0.25)),
            position_bias=(1.0, 0.8, 0.6),
            candidate_sources={"popularity": 100},
            rerank=RerankRules(2, 0, 10, False),
            seed=7,
            threads=2,
            training_rows=8000,
            training_requests=800,
            files={"model.ubj": HEX},
        ),
        rankings=Rankings(1, HEX, HEX, "logged", systems, 12, (5, 10), 300, 120, 80),
        verdict=Verdict(
            schema_version=1,
            answer="passed",
            policy=FrozenPolicy(1, "default", "1.0.0", HEX, "2026-05-10T01:00:00+00:00", HEX, 12),
            evidence={"quality": HEX},
            outcomes=_outcomes(),
            first_release=True,
            summary="Passed: nothing stops the release under the 2 blocking criteria of policy default@1.0.0.",
        ),
        evidence={
            "data": evidence("data", estimate("rejected_share", 0.006, subject="events", low=0.006, high=0.006)),
            "quality": evidence(
                "quality",
                estimate("ndcg@10", 0.58),
                estimate("ndcg@10", 0.49, subject="popularity"),
                estimate("ndcg@10", 0.09, statistic="difference", versus="popularity"),
                estimate("map@10", 0.41),
                conventions={"main metric": "ndcg@10"},
            ),
            "calibration": evidence("calibration", estimate("ece", 0.02), tables={"bins": "calibration-bins.parquet"}),
            "fairness-users": evidence(
                "fairness-users",
                *gap("country", "DE", 0.01, 80),
                *gap("country", "LU", -0.04, 12),
                estimate("unknown_share", 0.1, subject="gender"),
            ),
            "fairness-providers": evidence(
                "fairness-providers",
                *(
                    estimate("exposure@10", value, statistic="ratio", subject=name, versus="relevance", family="providers")
                    for name, value in (("north", 1.09), ("south", 0.89))
                ),
                tables={"providers": "fairness-providers.parquet"},
            ),
            "leakage": evidence(
                "leakage",
                *(
                    replace(estimate("changed_without_future", 0.0, subject=name, low=0.0, high=0.0), detail={"values": 4000.0})
                    for name in ("item_click_7d", "item_age_days")
                ),
                estimate("power@test", 0.64, subject="item_click_7d"),
                estimate("power@test", 0.52, subject="item_age_days"),
                estimate("power@train", 0.62, subject="item_click_7d"),
                estimate("model_power@test", 0.7),
                estimate("told@test", 0.06, subject="item_click_7d"),
                estimate("overlap", 0.0, subject="requests", low=0.0, high=0.0),
                estimate("returning_users", 0.8, subject="test", low=0.8, high=0.8),
            ),
            "proxies": evidence(
                "proxies",
                *(
                    estimate(metric, auc, versus="rest", segment={"gender": "female"}, family=f"{metric} of gender")
                    for metric, auc in (("inputs_auc", 0.52), ("lists_auc", 0.49))
                ),
                *(
                    estimate("feature_auc", auc, subject=name, versus="gender", detail={"importance": weight})
                    for name, auc, weight in (("item_click_7d", 0.515, 0.75), ("item_age_days", 0.5, 0.25))
                ),
                estimate("proxied_importance", 0.0, subject="gender", low=0.0, high=0.0),
            ),
            "servability": evidence(
                "servability",
                estimate("skewed_share", 0.0, subject="item_click_7d", versus="training", low=0.0, high=0.0),
                estimate("latency_p50", 6.6, low=6.4, high=6.9),
                estimate("latency_p99", 17.2, low=14.1, high=31.0),
                estimate("order_parity", 1.0, low=1.0, high=1.0),
                estimate("malformed_refused", 1.0, low=1.0, high=1.0),
                estimate("memory_mb", 860.0, low=860.0, high=860.0),
            ),
            "drift": evidence(
                "drift",
                *(
                    estimate("distance", value, subject=name, versus="reference",
                             detail={"importance": weight, "threshold": 0.1})
                    for name, value, weight in (("score", 0.03, 0.0), ("item_click_7d", 0.2, 0.75))
                ),
            ),
        },
        tables={"calibration.bins": bins, "fairness-providers.providers": providers},
        facts={
            "run": "small-shop-0123456789",
            "request": HEX,
            "created_at": "2026-05-10T01:00:00+00:00",
            "submitted_by": "ada@example.org",
            "incumbent": "",
            "libraries": {"xgboost": "3.2.0", "numpy": "2.4.6"},
        },
    )  # fmt: skip


@dataclass(frozen=True)
class Written:
    """A written card."""

    card: Card
    folder: Path
    html: str
    markdown: str


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Run], Written]:
    """Write a run's card; each call has a folder of its own."""
    made: list[Path] = []

    def written(run: Run) -> Written:
        made.append(tmp_path / str(len(made)))
        out = made[-1] / "card"
        sources = run.sources(made[-1])
        out.mkdir()
        card = write_card(sources, out=out)
        texts = ((out / name).read_text(encoding="utf-8") for name in ("card.html", "card.md"))
        return Written(card, out, *texts)

    return written


@pytest.fixture
def golden(repository: Path) -> Callable[[str, str], None]:
    """Hold a text against its golden file; `RANKGATE_GOLDEN_UPDATE=1` writes the file instead."""

    def held(name: str, text: str) -> None:
        file = repository / "tests" / "golden" / "card" / name
        if os.environ.get("RANKGATE_GOLDEN_UPDATE") == "1":
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8")

    return held
