"""Fixes a policy at a run's first step: its suite must pass, and from then on its bytes are what judges the run.

The re-rank rules beside it are fixed too: what is measured is the list as it will be shown. So are the team's words for the
card: what a ranker is for is said before its figures are seen.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from components.artifacts import documents
from components.artifacts.digests import digest_bytes
from components.artifacts.files import write_atomically
from components.errors import InputError
from components.ranker.declared_rules import RERANK_FILE, read_rules
from components.verdict.contract import SCHEMA_VERSION, FrozenPolicy
from components.verdict.model_card import MODEL_CARD_FILE, read_declared
from components.verdict.policy import POLICY_FILE, Policy, parse_policy, policy_folder
from components.verdict.suite import check_suite

FROZEN_FILE = "frozen.json"


def freeze_policy(policy: Path, *, at: datetime, out: Path) -> FrozenPolicy:
    """Run a policy's suite and write policy.yaml, rerank.yaml and model-card.yaml where there are, frozen.json into `out`.

    Args:
        policy: The policy's folder or its policy.yaml, with suite and samples beside it.
        at: When the run was asked for; must know its time zone.
        out: An existing, empty directory.

    Raises:
        InputError: If the policy, its suite, its re-rank rules or the team's words cannot be used, or a case of the suite
            does not come out as it says.
    """
    if at.tzinfo is None:
        raise InputError(f"freezing a policy: found the time {at.isoformat()} without a time zone; needed one.")
    folder = policy_folder(policy)
    content = (folder / POLICY_FILE).read_bytes()
    result = check_suite(folder)
    if result.policy_digest != digest_bytes(content):
        raise InputError(f"policy {folder}: changed while its suite ran; freeze it again.")
    rules = read_rules(folder)
    declared = {
        name: (folder / name).read_bytes()
        for name, given in ((RERANK_FILE, rules), (MODEL_CARD_FILE, read_declared(folder)))
        if given
    }
    frozen = FrozenPolicy(
        schema_version=SCHEMA_VERSION,
        name=result.policy.name,
        version=result.policy.version,
        digest=result.policy_digest,
        frozen_at=at.astimezone(UTC).isoformat(),
        suite=result.suite_digest,
        suite_cases=result.cases,
        rerank=rules.declared if rules else "",
        model_card=digest_bytes(declared[MODEL_CARD_FILE]) if MODEL_CARD_FILE in declared else "",
    )
    if rules and digest_bytes(declared[RERANK_FILE]) != rules.declared:
        raise InputError(f"policy {folder}: {RERANK_FILE} changed while it was read; freeze it again.")
    for name, bytes_given in declared.items():
        write_atomically(out / name, bytes_given)
    write_atomically(out / POLICY_FILE, content)
    documents.save(frozen, out / FROZEN_FILE)
    return frozen


def open_frozen(place: Path) -> tuple[FrozenPolicy, Policy]:
    """A frozen policy whose bytes are still those that were frozen.

    Raises:
        InputError: If a file is missing or unreadable, or the policy is not the one that was frozen.
    """
    frozen = documents.load(FrozenPolicy, place / FROZEN_FILE)
    try:
        content = (place / POLICY_FILE).read_bytes()
    except OSError as error:
        raise InputError(f"frozen policy {place.name}: {POLICY_FILE} cannot be read ({error.strerror}).") from error
    found = digest_bytes(content)
    if found != frozen.digest:
        raise InputError(
            f"policy {frozen.name}@{frozen.version}: {POLICY_FILE} now has digest {found[:12]}, but {frozen.digest[:12]} "
            f"was frozen at {frozen.frozen_at}. A policy that changed since cannot judge this run: start a new run."
        )
    rules = read_rules(place)
    if (rules.declared if rules else "") != frozen.rerank:
        found = rules.declared[:12] if rules else "absent"
        raise InputError(
            f"policy {frozen.name}@{frozen.version}: {RERANK_FILE} is {found}, but {frozen.rerank[:12] or 'none'} was frozen "
            f"at {frozen.frozen_at}. Re-rank rules that changed since are not those that were measured: start a new run."
        )
    words = place / MODEL_CARD_FILE
    told = digest_bytes(words.read_bytes()) if words.exists() else ""
    if told != frozen.model_card:
        raise InputError(
            f"policy {frozen.name}@{frozen.version}: {MODEL_CARD_FILE} is {told[:12] or 'absent'}, but "
            f"{frozen.model_card[:12] or 'none'} was frozen at {frozen.frozen_at}. What the team says of this run's ranker "
            "was fixed then: start a new run."
        )
    policy = parse_policy(content.decode("utf-8", errors="strict"), subject=f"policy {frozen.name}@{frozen.version}")
    if (policy.name, policy.version) != (frozen.name, frozen.version):
        raise InputError(f"policy {policy.label}: was frozen as {frozen.name}@{frozen.version}; start a new run.")
    return frozen, policy
