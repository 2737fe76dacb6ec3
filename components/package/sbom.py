"""The bill of materials of a release: CycloneDX 1.6 with its machine-learning part, as JSON.

What is in it: the bento; the model with its files, its card (settings, figures by group with their intervals, users, uses,
limits, foreseen harm) and licence; the dataset, the snapshot and the files that it was made from, by sha256; every library
that the bento installs, with the hashes of the lock, what its own metadata says of its licence, and who needs whom.

Nothing is measured here: figures are those of the approved card. The serial number follows from the release and the time is
the approval's, so that the same release has the same bytes wherever it is packaged from the same lock.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from components.approval.contract import Release
from components.artifacts.digests import canonical_json
from components.card.contract import Card
from components.evidence.contract import Estimate, Question
from components.package.requirements import LockedLibrary, licences_of
from components.ranker.contract import CANDIDATE
from components.verdict.contract import Outcome
from components.verdict.outcomes import deciding

SBOM_FILE = "sbom.cdx.json"

_MEASURED: tuple[Question, ...] = ("quality", "fairness-users", "calibration")
_JUDGED = ("fairness-users", "fairness-providers")
_SPDX = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.+-]*$")
_BENTO, _MODEL, _DATASET, _SNAPSHOT = "bento", "model", "data:dataset", "data:snapshot"

Json = dict[str, Any]


def sbom(
    card: Card,
    release: Release,
    *,
    tag: str,
    files: Mapping[str, str],
    libraries: Sequence[LockedLibrary],
    roots: Sequence[str],
) -> bytes:
    """The document as it is written.

    Args:
        card: The card that was approved.
        release: What the approval lets out.
        tag: Name and version of the bento.
        files: sha256 of each file of the ranker, by relative path.
        libraries: What the bento installs.
        roots: Names of those that its code imports.
    """
    name, _, number = tag.partition(":")
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, f"https://rankgate.dev/release/{release.digest}").urn,
        "version": 1,
        "metadata": {
            "timestamp": release.approval.decided_at,
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "rankgate", "version": version("rankgate")}]},
            "component": {
                "type": "application",
                "bom-ref": _BENTO,
                "name": name,
                "version": number,
                "description": f"Service that ranks with the ranker of run {card.run}.",
                "properties": _properties(
                    release=release.digest, approver=release.approval.approver, key=release.key_id,
                    card=release.approval.card, verdict=release.approval.verdict, policy=release.approval.policy,
                ),
            },
        },
        "components": [_model(card, release, files), *_data(card), *(_library(library) for library in libraries)],
        "dependencies": _dependencies(libraries, roots),
    }  # fmt: skip
    return canonical_json(document) + b"\n"


def _model(card: Card, release: Release, files: Mapping[str, str]) -> Json:
    said = card.purpose
    supplier = {"name": said.owner, **({"contact": [{"name": said.contact}]} if said.contact else {})}
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": card.name,
        "version": card.run,
        "description": said.intended_use or "Intended use: not yet written by the team.",
        **({"supplier": supplier} if said.owner else {}),
        **({"licenses": [_licence(said.licence)]} if said.licence else {}),
        "hashes": [_sha256(release.approval.ranker)],
        "components": [
            {"type": "file", "bom-ref": f"file:{path}", "name": path, "hashes": [_sha256(digest)]}
            for path, digest in sorted(files.items())
        ],
        "modelCard": {
            "bom-ref": "model-card",
            "modelParameters": _parameters(card),
            "quantitativeAnalysis": {"performanceMetrics": [_metric(e) for e in _measured(card)]},
            "considerations": _considerations(card),
            "properties": _properties(
                seed=card.ranker.seed, threads=card.ranker.threads, trees=card.ranker.trees,
                answer=card.verdict.answer, waived=", ".join(held.criterion for held in card.waivers) or "nothing",
                **{f"parameter:{name}": value for name, value in sorted(card.ranker.parameters.items())},
            ),
        },
        "properties": _properties(**{"hash-of": "the ranker's folder: sha256 over the paths and contents of its files"}),
    }  # fmt: skip


def _parameters(card: Card) -> Json:
    ranker = card.ranker
    return {
        "approach": {"type": "supervised"},
        "task": "learning to rank",
        "architectureFamily": "gradient-boosted decision trees",
        "modelArchitecture": f"LambdaMART ({ranker.objective}), {ranker.trees} trees",
        "datasets": [{"ref": _DATASET}],
        "inputs": [{"format": f"{len(ranker.features)} numbers an item: {', '.join(ranker.features)}"}],
        "outputs": [{"format": "a score an item; higher ranks earlier"}],
    }


def _measured(card: Card) -> Iterator[Estimate]:
    """The candidate's figures: all of everyone, and of groups the metrics that groups were compared by."""
    for question in _MEASURED:
        for e in card.evidence[question].estimates if question in card.evidence else ():
            if e.subject == CANDIDATE and e.value is not None and (not e.segment or question == "fairness-users"):
                yield e


def _metric(e: Estimate) -> Json:
    against = f" against {e.versus}" if e.versus else ""
    limits = {"lowerBound": f"{e.low:.6g}", "upperBound": f"{e.high:.6g}"} if None not in (e.low, e.high) else {}
    return {
        "type": e.metric if e.statistic == "value" else f"{e.metric}, {e.statistic}{against}",
        "value": f"{e.value:.6g}",
        "slice": f"{_slice(e.segment)}, {e.n_users} users",
        **({"confidenceInterval": limits} if limits else {}),
    }


def _slice(segment: Mapping[str, str]) -> str:
    return " and ".join(f"{attribute} = {value}" for attribute, value in sorted(segment.items())) or "everyone"


def _considerations(card: Card) -> Json:
    said = card.purpose
    held: Json = {
        "users": [*said.intended_users],
        "useCases": [said.intended_use] if said.intended_use else [],
        "technicalLimitations": [*card.limits, *(f"Out of scope: {use}" for use in said.out_of_scope)],
        "ethicalConsiderations": [
            {"name": risk.harm, "mitigationStrategy": risk.mitigation} for risk in said.risks if not risk.affected
        ],
        "fairnessAssessments": [
            *(
                {"groupAtRisk": risk.affected, "harms": risk.harm, "mitigationStrategy": risk.mitigation}
                for risk in said.risks
                if risk.affected
            ),
            *(found for outcome in card.verdict.outcomes if (found := _assessed(outcome, card))),
        ],
    }
    return {name: told for name, told in held.items() if told}


def _assessed(outcome: Outcome, card: Card) -> Json | None:
    """What a rule on groups found of the group that decided it; None for rules on anything else."""
    found = deciding(outcome)
    if outcome.evidence not in _JUDGED or outcome.not_applicable or not found:
        return None
    policy = card.verdict.policy
    effect = "can stop a release" if outcome.blocking else "gives advice"
    return {
        "groupAtRisk": _slice(found.segment) if found.segment else found.subject,
        "harms": f"{outcome.title}: {outcome.answer}. {found.message}",
        "mitigationStrategy": f"Rule {outcome.criterion} of policy {policy.name}@{policy.version} {effect}.",
    }


def _data(card: Card) -> tuple[Json, Json]:
    snapshot, dataset = card.snapshot, card.dataset
    window = {"log from": snapshot.first_ts, "log to": snapshot.last_ts, "judged as of": snapshot.as_of}
    read = [
        {"type": "file", "bom-ref": f"source:{name}", "name": name, "hashes": [_sha256(digest)]}
        for name, digest in sorted(snapshot.sources.items())
    ]
    made = {f"requests for {split}": number for split, number in sorted(dataset.requests.items())}
    return (
        _dataset(
            _DATASET, dataset.name, "requests and candidates with features and labels", card.lineage.dataset,
            {"users": dataset.users, "items": dataset.items, "seed": dataset.seed, **made}, dataset.sensitive,
        ),
        {
            **_dataset(
                _SNAPSHOT, f"{snapshot.name} snapshot", "the event log, checked and consented", card.lineage.snapshot,
                {"users": snapshot.users, "items": snapshot.items, **window,
                 **{f"rows of {event}": rows for event, rows in sorted(snapshot.event_counts.items())}},
                dataset.sensitive,
            ),
            **({"components": read} if read else {}),
        },
    )  # fmt: skip


def _dataset(ref: str, name: str, what: str, digest: str, facts: Json, sensitive: Sequence[str]) -> Json:
    about = {"type": "dataset", "name": name, "description": what, "contents": {"properties": _properties(**facts)}}
    return {
        "type": "data",
        "bom-ref": ref,
        "name": name,
        "version": digest[:16],
        "hashes": [_sha256(digest)],
        "data": [about | ({"sensitiveData": [*sensitive]} if sensitive else {})],
        "properties": _properties(**{"hash-of": "its folder: sha256 over the paths and contents of its files"}),
    }


def _library(library: LockedLibrary) -> Json:
    said = licences_of(library)
    licences = [{"expression": said.expression, "acknowledgement": "declared"}] if said.expression else [
        {"license": {"name": name, "acknowledgement": "declared"}} for name in said.names
    ]  # fmt: skip
    return {
        "type": "library",
        "bom-ref": library.purl,
        "name": library.name,
        "version": library.version,
        "purl": library.purl,
        **({"licenses": licences} if licences else {}),
        # One library, many files, one a platform: none of these hashes is that of the library as such.
        "externalReferences": [
            {
                "type": "distribution",
                "url": library.purl,
                "comment": "Files that the lock admits; the platform decides which of them is installed.",
                "hashes": [_sha256(digest) for digest in library.hashes],
            }
        ],
    }


def _dependencies(libraries: Sequence[LockedLibrary], roots: Sequence[str]) -> list[Json]:
    by_name = {library.name: library.purl for library in libraries}
    needs = {
        _BENTO: [_MODEL, *(by_name[root] for root in roots if root in by_name)],
        _MODEL: [_DATASET],
        _DATASET: [_SNAPSHOT],
        _SNAPSHOT: [],
        **{held.purl: [by_name[name] for name in held.requires if name in by_name] for held in libraries},
    }
    return [{"ref": ref, "dependsOn": sorted(set(on))} for ref, on in needs.items()]


def _licence(said: str) -> Json:
    """SPDX expressions have no blanks but between operators: one word is taken for one, anything else for a name."""
    if _SPDX.match(said):
        return {"expression": said, "acknowledgement": "declared"}
    return {"license": {"name": said, "acknowledgement": "declared"}}


def _sha256(digest: str) -> Json:
    return {"alg": "SHA-256", "content": digest}


def _properties(**values: object) -> list[Json]:
    return [{"name": f"rankgate:{name.replace(' ', '-')}", "value": str(value)} for name, value in values.items()]
