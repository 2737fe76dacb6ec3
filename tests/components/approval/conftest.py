"""A finished run's artefacts and the people who decide on it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.approval.approve import APPROVAL_FILE, approve, verify_approval
from components.approval.contract import Release
from components.approval.envelope import seal
from components.approval.keys import new_key, open_signer
from components.artifacts import documents
from components.artifacts.digests import canonical_json, digest_file, digest_tree
from components.card.contract import SCHEMA_VERSION as CARD_VERSION
from components.card.contract import Card, Lineage
from components.dataset.contract import Dataset
from components.events.contract import Snapshot
from components.ranker.contract import Ranker, Rankings, RerankRules
from components.verdict.contract import Finding, FrozenPolicy, Outcome, Purpose, Verdict

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = "demo-shop-0123456789"


@dataclass(frozen=True)
class FinishedRun:
    """Where the artefacts of a run lie."""

    root: Path
    name: str = RUN

    @property
    def places(self) -> dict[str, Path]:
        return {role: self.root / role for role in ("card", "verdict", "ranker", "policy")}

    @property
    def files(self) -> list[Path]:
        return sorted(path for place in self.places.values() for path in place.rglob("*") if path.is_file())


@dataclass(frozen=True)
class People:
    """Keys of reviewers; `trusted` is the folder of public keys that whoever packages trusts."""

    private: Path
    trusted: Path
    stranger: Path


@pytest.fixture
def people(tmp_path: Path) -> People:
    public = new_key(tmp_path / "keys" / "reviewer")
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "reviewer.pub").write_bytes(public.read_bytes())
    new_key(tmp_path / "keys" / "stranger")
    return People(tmp_path / "keys" / "reviewer", trusted, tmp_path / "keys" / "stranger")


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., FinishedRun]:
    def make(name: str = RUN, *, submitted_by: str = "sam@shop.example", **how: Any) -> FinishedRun:
        place = tmp_path / "runs" / f"{name}-{how.get('blocked', False)}"
        return write_run(place, name, submitted_by=submitted_by, **how)

    return make


@pytest.fixture
def signed(make_run: Callable[..., FinishedRun], people: People) -> tuple[FinishedRun, Path, Release]:
    """A passed run with a good approval."""
    run = make_run()
    release = approve(**decision(run, people))
    return run, run.root / "approval" / APPROVAL_FILE, release


def decision(finished: FinishedRun, people: People, **changes: Any) -> dict[str, Any]:
    """Arguments of a good approval of a run, with some changed."""
    out = finished.root / "approval"
    out.mkdir(exist_ok=True)
    return {
        "run": finished.name,
        **finished.places,
        "submitter": "sam@shop.example",
        "approver": "rita@shop.example",
        "reason": "read it all",
        "key": people.private,
        "decided_at": NOON,
        "out": out,
        **changes,
    }


def outcome(criterion: str = "quality", *found: Finding, **changes: Any) -> Outcome:
    """A blocking criterion on quality."""
    told: dict[str, Any] = {
        "title": "Quality",
        "evidence": "quality",
        "metric": "ndcg@10",
        "statistic": "difference",
        "blocking": True,
        "on_insufficient": "block",
        "answer": "pass",
        "blocks": False,
        "findings": found,
        "why": "because",
    }
    return Outcome(criterion, **(told | changes))


def write_run(
    root: Path, name: str, *, submitted_by: str, blocked: bool = False, outcomes: tuple[Outcome, ...] = ()
) -> FinishedRun:
    """Artefacts that belong together; blocked by `outcomes` where some are given."""
    run = FinishedRun(root, name)
    for place in run.places.values():
        place.mkdir(parents=True)
    ranker, policy, verdict = run.places["ranker"], run.places["policy"], run.places["verdict"]
    (ranker / "model.ubj").write_bytes(bytes(range(200)))
    (ranker / "tables").mkdir()
    (ranker / "tables" / "item.arrow").write_bytes(b"table")
    (policy / "policy.yaml").write_text("name: default\n")
    frozen = FrozenPolicy(1, "default", "1.0.0", digest_file(policy / "policy.yaml"), NOON.isoformat(), "0" * 64, 3)
    documents.save(frozen, policy / "frozen.json")
    blocked = blocked or bool(outcomes)
    outcomes = outcomes or (outcome(answer="fail" if blocked else "pass", blocks=blocked),)
    found = Verdict(1, "blocked" if blocked else "passed", frozen, {}, outcomes, True, "One sentence.")
    documents.save(found, verdict / "verdict.json")
    card = _card(run, found, submitted_by)
    (run.places["card"] / "card.html").write_text("<h1>card</h1>")
    (run.places["card"] / "card.md").write_text("# card")
    documents.save(card, run.places["card"] / "card.json")
    return run


def rewrite_card(run: FinishedRun, **changes: Any) -> None:
    """Change fields of a run's card.json; its lineage follows the artefacts unless it is among the changes."""
    path = run.places["card"] / "card.json"
    card = documents.load(Card, path)
    documents.save(replace(card, **{"lineage": lineage(run), **changes}), path)


def lineage(run: FinishedRun) -> Lineage:
    """Digests of a run's artefacts as they are now."""
    own = {role: digest_tree(run.places[role]) for role in ("ranker", "policy", "verdict")}
    return Lineage(
        request="0" * 64,
        code="0" * 64,
        snapshot="0" * 64,
        dataset="0" * 64,
        rankings="0" * 64,
        evidence={},
        incumbent="",
        **own,
    )


def _card(run: FinishedRun, verdict: Verdict, submitted_by: str) -> Card:
    return Card(
        schema_version=CARD_VERSION,
        run=run.name,
        name="demo-shop",
        created_at=NOON.isoformat(),
        submitted_by=submitted_by,
        purpose=Purpose(),
        snapshot=Snapshot(
            schema_version=1,
            digest="0" * 64,
            name="demo-shop",
            as_of=NOON.isoformat(),
            first_ts=NOON.isoformat(),
            last_ts=NOON.isoformat(),
            users=1,
            items=1,
            event_counts={},
            tables=(),
            id_types={},
            sources={},
        ),
        dataset=Dataset(
            schema_version=1,
            snapshot="0" * 64,
            name="demo-shop",
            mode="logged",
            bucket_seconds=3600,
            features=(),
            cuts=(),
            outcomes=(),
            context=(),
            segments=(),
            sensitive=(),
            intersections=(),
            category="",
            provider="",
            price="",
            cutoffs=(10,),
            exclude_seen=False,
            users=1,
            items=1,
            requests={},
            rows={},
            positives={},
            seed=0,
        ),
        ranker=Ranker(
            schema_version=1,
            dataset="0" * 64,
            name="demo-shop",
            mode="logged",
            objective="rank:ndcg",
            parameters={},
            features=(),
            trees=1,
            validation_metric="ndcg@10",
            validation_curve=(),
            importance=(),
            position_bias=(),
            candidate_sources={},
            rerank=RerankRules(0, 0, 0, False),
            seed=0,
            threads=1,
            training_rows=1,
            training_requests=1,
            files={},
        ),
        rankings=Rankings(1, "0" * 64, "0" * 64, "logged", (), 10, (10,), 1, 1, 1),
        evidence={},
        verdict=verdict,
        lineage=lineage(run),
        libraries={},
        rights=(),
        limits=(),
        changes=(),
        before=None,
        unwritten=(),
        obligations=(),
    )


def verify(run: FinishedRun, envelope: Path, people: People, **changes: Any) -> Release:
    return verify_approval(
        envelope, **{"run": run.name, **run.places, "trusted": [people.trusted], "at": NOON, **changes}
    )


def resign(envelope: Path, key: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the statement inside and sign it again: what an insider with a key could write."""
    statement = json.loads(base64.b64decode(json.loads(envelope.read_bytes())["payload"]))
    change(statement)
    envelope.write_bytes(seal(canonical_json(statement), open_signer(key)))
