"""Why a replay may have given other bytes: what is recorded of then and can be seen now, likeliest first.

A cause is never proven here. It is a recorded difference that can explain the first artefact that differs; where nothing
that is recorded differs, that is said, because it means that the step itself does not repeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from components.artifacts.store import StepRecord
from pipelines.environment import TOPICS, Changed, Environment, changes, read_environments
from pipelines.replay_plan import artifact_name
from pipelines.request import RunRequest, code_digest
from pipelines.runs import Run

Topic = Literal["records", "data", "library", "python", "threads", "machine", "code", "lock", "unknown"]

# Rooms whose code makes a step's artefacts; a change elsewhere is a less likely cause.
_ROOMS = {
    "policy": ("verdict",),
    "snapshot": ("events",),
    "dataset": ("dataset",),
    "ranker": ("ranker",),
    "measure-ranking": ("evidence", "statistics"),
    "measure-groups-and-drift": ("evidence", "statistics"),
    "measure-features": ("evidence", "statistics"),
    "measure-serving": ("evidence", "ranker", "dataset"),
    "verdict": ("verdict",),
    "card": ("card",),
}
_LIBRARIES = {
    "snapshot": ("duckdb", "pyarrow"),
    "dataset": ("duckdb", "numpy", "pyarrow"),
    "ranker": ("xgboost", "numpy", "pyarrow"),
    "measure-ranking": ("numpy", "pyarrow", "scipy"),
    "measure-groups-and-drift": ("evidently", "fairlearn", "pandas", "numpy", "pyarrow", "scikit-learn", "scipy", "plotly"),
    "measure-features": ("numpy", "pyarrow", "scikit-learn", "scipy", "xgboost"),
    "measure-serving": ("numpy", "pyarrow", "scipy", "xgboost"),
    "verdict": ("pydantic", "pyyaml"),
    "card": ("jinja2", "markdown-it-py"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cause:
    """One recorded thing that is otherwise now."""

    topic: Topic
    sentence: str


def causes(
    run: Run,
    now: Environment,
    records: Mapping[str, StepRecord],
    again: Mapping[str, StepRecord],
    *,
    step: str,
    failed: bool,
) -> tuple[Cause, ...]:
    """What is recorded to be otherwise, likeliest first.

    Args:
        run: The run.
        now: Where the replay ran.
        records: The run's step records.
        again: Those of the replay.
        step: The first step whose artefact differs; empty where none does.
        failed: Whether that step made nothing now.
    """
    found = [*_in_records(run, records, again)]
    if failed and step == "snapshot":
        found.append(Cause("data", "the tables that the snapshot was taken from have changed, or are gone"))
    found += _in_environment(run, now, step)
    if step and not found:
        found.append(
            Cause(
                "unknown",
                "nothing that is recorded differs: the same code, libraries, interpreter, threads, kind of machine and "
                f"data. Then the step {step} does not repeat itself; replay again, and report it with both artefacts",
            )
        )
    return tuple(found)


def _in_records(run: Run, records: Mapping[str, StepRecord], again: Mapping[str, StepRecord]) -> list[Cause]:
    """Where the run's own records contradict one another: its result, each step's record, and the key of each step.

    The key of a step is the digest of its inputs and parameters. Where what the records before a step name does not give
    its key, it was made from something else, or one of these records was changed.
    """
    told = run.result.artifacts if run.result else {}
    found = []
    for name, record in records.items():
        for role, digest in record.outputs.items():
            artefact = artifact_name(name, role)
            if told.get(artefact, digest) != digest:
                found.append(
                    f"steps/{name}.json names the {artefact} {digest[:12]}, result.json {told[artefact][:12]}: "
                    "one of the two was changed after the run"
                )
    for name, record in again.items():
        if record.key != records[name].key:
            found.append(
                f"steps/{name}.json is of other inputs or parameters (its key is {records[name].key[:12]}; what request.json "
                f"and the records before it name gives {record.key[:12]}): one of these was changed after the run"
            )
    return [Cause("records", sentence) for sentence in found]


def _in_environment(run: Run, now: Environment, step: str) -> list[Cause]:
    held = read_environments(run.folder)
    if held is None:
        return _in_request(run.request, now)
    changed = changes(held.starts[-1], now)
    told: list[Cause] = []
    if any(timed.step == step and timed.restored for timed in (run.result.timing.steps if run.result else ())):
        told.append(
            Cause(
                "unknown",
                f"the step {step} was restored from an earlier run, whose environment is in that run's folder",
            )
        )
    grouped = {topic: [one for one in changed if one.topic == topic] for topic in TOPICS}
    grouped["library"].sort(key=lambda one: one.name not in _LIBRARIES.get(step, ()))
    grouped["code"].sort(key=lambda one: not _is_of(one, step))
    order = sorted(TOPICS, key=lambda topic: not any(_likely(one, step) for one in grouped[topic]))
    return [_cause(topic, grouped[topic]) for topic in order if grouped[topic]] + told


def _likely(one: Changed, step: str) -> bool:
    if one.topic == "library":
        return one.name in _LIBRARIES.get(step, ())
    if one.topic == "code":
        return _is_of(one, step)
    return one.topic in ("threads", "python")


def _is_of(one: Changed, step: str) -> bool:
    return any(one.name.startswith(f"components/{room}/") for room in _ROOMS.get(step, ()))


def _cause(topic: str, changed: list[Changed]) -> Cause:
    if topic == "code":
        names = [one.name for one in changed]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return Cause("code", f"rankgate's own code is another: {', '.join(names[:3])}{more}")
    return Cause(topic, "; ".join(map(str, changed)))  # type: ignore[arg-type]  # one of TOPICS


def _in_request(request: RunRequest, now: Environment) -> list[Cause]:
    """What a run tells that is older than the record of its environment."""
    found = []
    for name in sorted({*request.libraries} & {*now.libraries}):
        if request.libraries[name] != now.libraries[name]:
            found.append(Cause("library", f"{name}: {request.libraries[name]} then, {now.libraries[name]} now"))
    if request.code != code_digest() and not found:
        found.append(Cause("code", f"rankgate's code: {request.code[:12]} then, {code_digest()[:12]} now"))
    found.append(
        Cause("unknown", "the run is older than environment.json: machine, interpreter and threads are not known")
    )
    return found
