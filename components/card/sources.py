"""What a card is written from: the run's artefacts, opened and checked, and the facts that only the run knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from components.artifacts import documents
from components.artifacts.digests import canonical_json
from components.card.contract import Description, Lineage, Waived
from components.dataset.contract import Dataset
from components.errors import InputError
from components.events.contract import DatasetContract, Snapshot
from components.evidence.contract import QUESTIONS, Evidence
from components.ranker.contract import Ranker, Rankings
from components.verdict.contract import Purpose, Verdict
from components.verdict.freezing import open_frozen
from components.verdict.model_card import read_purpose
from components.verdict.policy import Policy

EVIDENCE_ROLES = ("ranking", "groups", "features", "serving")
"""What a run calls its folders of evidence."""


@dataclass(frozen=True, slots=True)
class CardSources:
    """Folders of the artefacts, and facts."""

    snapshot: Path
    dataset: Path
    ranker: Path
    rankings: Path
    policy: Path
    verdict: Path
    evidence: tuple[Path, ...]
    lineage: Lineage
    before: Description | None
    """The incumbent; None for a first release, or where its run was not at hand."""
    run: str
    created_at: str
    """ISO 8601, UTC."""
    submitted_by: str
    libraries: Mapping[str, str]
    waivers: tuple[Waived, ...]
    """Ordered by criterion. Given after the run, which ends without any."""

    @classmethod
    def of(
        cls,
        *,
        evidence: tuple[Path, ...],
        code: str,
        digests: Mapping[str, str],
        facts: Mapping[str, Any],
        **places: Path,
    ) -> Self:
        """From a pipeline step's inputs: folders by role, their digests, and the run's facts."""
        before = facts.get("before")
        lineage = Lineage(
            request=facts["request"],
            code=code,
            snapshot=digests["snapshot"],
            dataset=digests["dataset"],
            ranker=digests["ranker"],
            rankings=digests["rankings"],
            evidence={role: digests[role] for role in EVIDENCE_ROLES if role in digests},
            policy=digests["policy"],
            verdict=digests["verdict"],
            incumbent=facts["incumbent"],
        )
        return cls(
            **places,
            evidence=evidence,
            lineage=lineage,
            before=documents.parse(Description, canonical_json(before), subject="the incumbent") if before else None,
            run=facts["run"],
            created_at=facts["created_at"],
            submitted_by=facts["submitted_by"],
            libraries=dict(facts["libraries"]),
            waivers=(),
        )


@dataclass(frozen=True, slots=True)
class Opened:
    """Every document a card speaks of. Evidence that is absent or unreadable is absent here: the verdict says so."""

    contract: DatasetContract
    snapshot: Snapshot
    dataset: Dataset
    ranker: Ranker
    rankings: Rankings
    verdict: Verdict
    policy: Policy | None
    """The rules as they were frozen; None where they cannot be read: the verdict was decided by them, the card asks again."""
    purpose: Purpose
    """What the team said when the rules were frozen."""
    evidence: dict[str, Evidence]
    tables: dict[str, list[dict[str, Any]]]
    """Rows of each table that evidence names, as `question.table`."""


_READ_TABLES = {"calibration.bins", "fairness-providers.providers"}


def open_sources(sources: CardSources) -> Opened:
    """Read all documents.

    Raises:
        InputError: If a manifest or the verdict cannot be read; broken evidence does not stop a card.
    """
    evidence: dict[str, Evidence] = {}
    tables: dict[str, list[dict[str, Any]]] = {}
    for question in QUESTIONS:
        for folder in sources.evidence:
            path = folder / f"{question}.json"
            if not path.exists():
                continue
            try:
                held = documents.load(Evidence, path)
            except InputError:
                continue
            if held.question != question:
                continue
            evidence[question] = held
            for name, file in evidence[question].tables.items():
                if f"{question}.{name}" in _READ_TABLES and (rows := _rows(folder / file)) is not None:
                    tables[f"{question}.{name}"] = rows
    dataset = documents.load(Dataset, sources.dataset / "dataset.json")
    policy, purpose = _frozen(sources.policy, dataset.name)
    return Opened(
        contract=documents.load(DatasetContract, sources.snapshot / "contract.json"),
        snapshot=documents.load(Snapshot, sources.snapshot / "snapshot.json"),
        dataset=dataset,
        ranker=documents.load(Ranker, sources.ranker / "ranker.json"),
        rankings=documents.load(Rankings, sources.rankings / "rankings.json"),
        verdict=documents.load(Verdict, sources.verdict / "verdict.json"),
        policy=policy,
        purpose=purpose,
        evidence=evidence,
        tables=tables,
    )


def _frozen(place: Path, dataset: str) -> tuple[Policy | None, Purpose]:
    """The rules and the team's words, where they are still those that were frozen."""
    try:
        return open_frozen(place)[1], read_purpose(place, dataset)
    except InputError:
        return None, Purpose()


def _rows(file: Path) -> list[dict[str, Any]] | None:
    """A small table's rows; None where it cannot be read: the verdict has judged the evidence, the card only shows it."""
    try:
        rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    except (OSError, pa.ArrowException):
        return None
    return rows
