"""From a finished run to a release: the decision, its check, the bento and the manifests, on this machine's runs directory.

The approval of a run lies in its folder as `approval/`, its package as `package/`; each is replaced whole. A decision that
another took the place of stays in `approval/earlier/`, as it was signed, in the order in which they were taken.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.approval.contract import Release
from components.artifacts import documents
from components.artifacts.progress import Progress, silent
from components.errors import InputError, NotApprovedError
from components.package.contract import Package
from pipelines.local import locked
from pipelines.runs import Home, Run

_PROJECT = Path(__file__).resolve().parents[1]
_SIGNED = ("card", "verdict", "ranker", "policy")


def decide_release(
    run: Run,
    *,
    decision: str,
    key: str,
    approver: str,
    reason: str,
    trusted: Sequence[Path] = (),
    still_so: Callable[[], None] = lambda: None,
) -> Release:
    """Sign a person's decision over the run's card, verdict, ranker and policy.

    Args:
        run: The run.
        decision: `approved`, `refused` or `asked`.
        key: Private key: a file or a URI.
        approver: Who decides.
        reason: Why.
        trusted: Public keys of those whose waivers count; needed to approve a blocked run.
        still_so: Called when nobody else can decide or write the card anew any more; what it raises stops the decision.

    Raises:
        BlockedError: If a blocked run should be approved that trusted waivers do not lift.
        InputError: If the run has no card, the key cannot be used, the approver is the submitter, or another process goes
            on holding the run.
    """
    from components.approval import approve as approving

    with locked(run), _replacing_folder(run.folder / "approval") as folder:
        still_so()
        told: dict[str, Any] = {
            "run": run.name,
            **{role: run.artifact(role) for role in _SIGNED},
            "submitter": run.request.submitted_by,
            "approver": approver,
            "reason": reason,
            "key": key,
            "decided_at": datetime.now(UTC).replace(microsecond=0),
            "out": folder,
        }
        _carry_earlier(run.folder / "approval", folder / "earlier")
        if decision == "approved":
            return approving.approve(**told, waivers=run.waivers, trusted=trusted)
        if decision == "asked":
            return approving.ask(**told)
        if decision == "refused":
            return approving.refuse(**told)
        raise InputError(f"decision: found {decision!r}; needed approved, refused or asked.")


def earlier_decisions(run: Run) -> list[Path]:
    """Envelopes of the decisions that others took the place of, the oldest first."""
    return sorted((run.folder / "approval" / "earlier").glob("*.dsse.json"))


def _carry_earlier(before: Path, place: Path) -> None:
    """Keep the decision that lies in `before`, and those that it keeps, in `place`."""
    from components.approval.approve import APPROVAL_FILE

    last = before / APPROVAL_FILE
    if not last.exists():
        return
    place.mkdir()
    kept = [*sorted((before / "earlier").glob("*.dsse.json")), last]
    for number, path in enumerate(kept, start=1):
        shutil.copyfile(path, place / f"{number:04d}.dsse.json")


def verify_release(run: Run, trusted: Sequence[Path]) -> Release:
    """The release that the run's approval lets out.

    Raises:
        NotApprovedError: If there is no approval, or anything about it does not hold.
    """
    from components.approval.approve import APPROVAL_FILE, verify_approval

    envelope = run.folder / "approval" / APPROVAL_FILE
    if not envelope.exists():
        raise NotApprovedError(
            f"run {run.name}: found no approval; needed one by a trusted reviewer. "
            f"Have it read and signed: rankgate approve {run.name} --key KEY --as NAME"
        )
    return verify_approval(
        envelope,
        run=run.name,
        card=run.artifact("card"),
        verdict=run.artifact("verdict"),
        ranker=run.artifact("ranker"),
        policy=run.artifact("policy"),
        trusted=trusted,
        at=datetime.now(UTC),
        waivers=run.waivers,
    )


def package_release(
    run: Run, home: Home, trusted: Sequence[Path], *, progress: Progress = silent
) -> tuple[Package, Path]:
    """Build the bento of an approved run; returns its manifest and folder."""
    from components.approval.approve import APPROVAL_FILE
    from components.package.bento import build_package

    release = verify_release(run, trusted)
    lock = _PROJECT / "requirements.lock"
    if not lock.exists():
        raise InputError(
            f"lock: found none at {lock}; needed the project's requirements.lock. Package from a checkout."
        )
    place = run.folder / "package"
    with _replacing_folder(place) as folder:
        package = build_package(
            run.artifact("ranker"),
            run.folder / "approval" / APPROVAL_FILE,
            release,
            card=run.artifact("card"),
            lock=lock,
            bentoml_home=home.root / "bentoml",
            out=folder,
            progress=progress,
        )
    return package, place


def packaged(run: Run) -> Package:
    """The manifest of the run's package.

    Raises:
        InputError: If it was not packaged.
    """
    place = run.folder / "package" / "package.json"
    if not place.exists():
        raise InputError(f"run {run.name}: found no package; needed one. Build it: rankgate package {run.name}")
    return documents.load(Package, place)


def render_release(
    run: Run,
    trusted: Sequence[Path],
    *,
    image: str,
    namespace: str,
    stable: Run | None,
    stable_image: str,
    out: Path,
    environment: str = "",
) -> Path:
    """Render the manifests of an approved run, as the canary of `stable` where there is one; returns the overlay."""
    from components.rollout.contract import SCHEMA_VERSION, RolloutPlan
    from components.rollout.manifests import render

    if out.exists() and any(out.iterdir()):
        raise InputError(f"--out {out}: found files there; needed an empty folder.")
    plan = RolloutPlan(
        schema_version=SCHEMA_VERSION,
        run=run.name,
        release=verify_release(run, trusted).digest,
        image=image,
        namespace=namespace,
        stable_release=verify_release(stable, trusted).digest if stable else "",
        stable_image=stable_image,
    )
    with _replacing_folder(out) as folder:
        overlay = render(plan, manifests=_PROJECT / "manifests", out=folder, environment=environment).relative_to(
            folder
        )
    return out / overlay


@contextmanager
def _replacing_folder(place: Path) -> Iterator[Path]:
    """A new folder beside `place` that takes its place when the block ends well, and vanishes when not."""
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        yield folder
        folder.chmod(0o755)
        if place.exists():
            shutil.rmtree(place)
        folder.rename(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
