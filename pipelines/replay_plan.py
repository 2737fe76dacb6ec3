"""Which steps a replay does again, and from what: the wiring of the very pipeline, the digests of the run's own records.

Every step is replayed from what was recorded as its inputs, not from what another replayed step has just made. So a
difference is the step's own and never one that it was handed; and if every step gives what it gave, the chain does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from components.artifacts.digests import digest_tree
from components.artifacts.store import StepRecord, Store
from components.errors import Fault, FaultyInputError, InputError, nearest
from pipelines.candidate_steps import STEPS
from pipelines.request import RunRequest, pipeline_arguments
from pipelines.runs import Run

Depth = Literal["decisions", "train", "all"]

# `enforce` makes nothing: it only reads the verdict, which is compared.
_REPLAYED = STEPS[:-1]
FAILURES_FOLDER = "failures"
"""Below a replay's scratch folder: why a step made nothing, by step."""
_FROM = {"decisions": "measure-ranking", "train": "ranker", "all": "policy"}


@dataclass(frozen=True, slots=True)
class Wiring:
    """How the pipeline wires one step."""

    component: str
    """Name that kfp gives the component, such as `write-card`."""
    inputs: Mapping[str, tuple[str, str]]
    """Step and output that an argument takes its artefact from."""
    parameters: Mapping[str, str]
    """Pipeline parameter that an argument takes its value from."""
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Planned:
    """One step to do again."""

    step: str
    component: str
    inputs: Mapping[str, str]
    """Tree digest by argument."""
    parameters: Mapping[str, Any]
    outputs: tuple[str, ...]


def replayed_steps(depth: Depth, only: Collection[str] = ()) -> tuple[str, ...]:
    """The steps of a replay, in the order of the data's flow: all of that depth, or only those that are named.

    Raises:
        InputError: If a name is no step that makes something.
    """
    if unknown := [step for step in only if step not in _REPLAYED]:
        raise InputError(f"--step {unknown[0]}: is no step that can be replayed. {nearest(unknown[0], _REPLAYED)}")
    return tuple(step for step in _REPLAYED if step in only) or _REPLAYED[_REPLAYED.index(_FROM[depth]) :]


def needed_records(run: Run) -> dict[str, StepRecord]:
    """The run's step records in the order of the flow, if they tell of every step that makes something.

    Raises:
        InputError: If one is missing.
    """
    records = run.step_records()
    if missing := [step for step in _REPLAYED if step not in records]:
        raise InputError(
            f"run {run.name}: has no record of {', '.join(missing)}; needed a run that went to its end. "
            f"Finish it by the command it was started by, then: rankgate replay {run.name}"
        )
    return {step: records[step] for step in _REPLAYED}


def wiring() -> dict[str, Wiring]:
    """Each step of the `candidate` pipeline as the compiled pipeline wires it: there is no second drawing of it to go stale."""
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]  # has no stubs

    from pipelines.candidate import COMPONENTS, candidate_pipeline

    drawn = MessageToDict(candidate_pipeline().pipeline_spec)
    step_of = {component.name: step for step, component in COMPONENTS.items()}
    found = {}
    for task in drawn["root"]["dag"]["tasks"].values():
        name = task["componentRef"]["name"].removeprefix("comp-")
        if name not in step_of:
            continue
        taken = task.get("inputs", {})
        found[step_of[name]] = Wiring(
            component=name,
            inputs={
                argument: (step_of[source["producerTask"]], source["outputArtifactKey"])
                for argument, given in taken.get("artifacts", {}).items()
                for source in [given["taskOutputArtifact"]]
            },
            parameters={
                argument: given["componentInputParameter"] for argument, given in taken.get("parameters", {}).items()
            },
            outputs=tuple(drawn["components"][f"comp-{name}"].get("outputDefinitions", {}).get("artifacts", {})),
        )
    return found


def plan(run: Run, steps: Sequence[str]) -> tuple[Planned, ...]:
    """The steps to do again with the digest of each input, after every byte of these was compared with its digest.

    Raises:
        FaultyInputError: If the store lacks an input that no earlier step of this replay makes, or its bytes have changed.
        InputError: If the run has no record of some step.
    """
    records, wired, request = needed_records(run), wiring(), run.request
    incumbent = str(run.store.object_path(request.incumbent)) if request.incumbent else ""
    arguments = pipeline_arguments(request, incumbent=incumbent)
    planned = tuple(
        Planned(
            step=step,
            component=wired[step].component,
            inputs={argument: records[source].outputs[role] for argument, (source, role) in wired[step].inputs.items()},
            parameters={argument: arguments[name] for argument, name in wired[step].parameters.items()},
            outputs=wired[step].outputs,
        )
        for step in steps
    )
    _check_store(run, planned, records, request)
    return planned


def _check_store(
    run: Run, planned: tuple[Planned, ...], records: Mapping[str, StepRecord], request: RunRequest
) -> None:
    named = {digest: f"{step}/{role}" for step, record in records.items() for role, digest in record.outputs.items()}
    made: set[str] = set()
    needed: dict[str, str] = {}
    for step in planned:
        for digest in step.inputs.values():
            if digest not in made or run.store.object_path(digest).exists():
                needed[digest] = named[digest]
        made |= set(records[step.step].outputs.values())
        if step.parameters.get("incumbent"):
            needed[request.incumbent] = "the incumbent's ranker"
    if faults := [fault for digest, name in needed.items() for fault in _faults(run.store, digest, name)]:
        raise FaultyInputError(f"run {run.name}: what it was made from", faults)


def _faults(store: Store, digest: str, name: str) -> list[Fault]:
    place = store.object_path(digest)
    if not place.exists():
        return [
            Fault(
                name,
                "no such artefact in the store",
                f"objects/{digest[:2]}/{digest}",
                f"Restore that folder into {store.root}; or, if it can be made again from what is there, replay from "
                "further up with --train or --all.",
            )
        ]
    if (found := digest_tree(place)) != digest:
        return [
            Fault(
                name,
                f"files with the digest {found[:12]} in objects/{digest[:2]}/{digest}",
                f"those with the digest {digest[:12]}",
                "Something changed them after the run: restore the folder from a copy.",
            )
        ]
    return []


def changed_sources(request: RunRequest) -> tuple[str, ...]:
    """What has become of the tables that the run read: a phrase for each that is gone, new, or another.

    Raises:
        InputError: If a table cannot be reached.
    """
    from components.events.declaration import parse_contract
    from components.events.snapshot import source_digests

    contract = parse_contract(request.contract, subject="dataset contract")
    now = source_digests(contract, base=Path("/"))
    return tuple(
        f"{place} ({request.sources.get(place, 'none')[:12]} then, {now.get(place, 'none')[:12]} now)"
        for place in sorted({*request.sources, *now})
        if request.sources.get(place) != now.get(place)
    )


def artifact_name(step: str, role: str) -> str:
    """What a run calls an output: four steps give evidence, and are told apart by their names."""
    return f"evidence-{step.removeprefix('measure-')}" if role == "evidence" else role
