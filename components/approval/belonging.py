"""Whether a run's artefacts belong together: a card, a verdict, a ranker and a policy that speak of one another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from components.approval.people import name_of
from components.approval.statement import Files, files_of, tree_digest
from components.artifacts import documents
from components.artifacts.digests import digest_file
from components.card.contract import Card
from components.errors import InputError
from components.verdict.contract import FrozenPolicy, Verdict


def artifact_files(**places: Path) -> dict[str, Files]:
    """sha256 of every file of each artefact, by role.

    Raises:
        InputError: If an artefact is missing or unreadable.
    """
    return {role: files_of(place, role=role) for role, place in places.items()}


def judged(run: str, *, verdict: Path, policy: Path) -> Verdict:
    """The verdict, if it was reached under this very policy.

    Raises:
        InputError: If it was not, or a file cannot be read.
    """
    found = documents.load(Verdict, verdict / "verdict.json")
    frozen = documents.load(FrozenPolicy, policy / "frozen.json")
    if found.policy != frozen or digest_file(policy / "policy.yaml") != frozen.digest:
        raise InputError(
            f"run {run}: its verdict was reached under policy {found.policy.name}@{found.policy.version} "
            f"({found.policy.digest[:12]}); found the policy {frozen.name}@{frozen.version} ({frozen.digest[:12]})."
        )
    return found


def belonging(
    run: str, artifacts: Mapping[str, Files], *, card: Path, verdict: Path, policy: Path, submitter: str
) -> tuple[Card, Verdict]:
    """Card and verdict, if they, ranker and policy speak of one another and of this run.

    Raises:
        InputError: If they do not; says which of them is of something else.
    """
    read = documents.load(Card, card / "card.json")
    pairs = [
        ("run", read.run, run),
        ("submitter", name_of(read.submitted_by), name_of(submitter)),
        *(
            (role, getattr(read.lineage, role), tree_digest(artifacts[role]))
            for role in ("ranker", "verdict", "policy")
        ),
    ]
    for what, told, needed in pairs:
        if told != needed:
            raise InputError(
                f"run {run}: its card speaks of the {what} {told[:40]}; found {needed[:40]}. "
                "The card is of another run, or something changed it: run again, and have the new card read."
            )
    if read.verdict != documents.load(Verdict, verdict / "verdict.json"):
        raise InputError(f"run {run}: its card shows another verdict than verdict.json holds; run again.")
    return read, judged(run, verdict=verdict, policy=policy)
