"""What a run was asked to do, fixed before its first step: the same request is the same run."""

from __future__ import annotations

import getpass
import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from components.artifacts.digests import digest_file, digest_json
from components.artifacts.documents import as_json
from components.card.contract import Description

SCHEMA_VERSION = 2
"""1 knew nothing of the incumbent but its ranker, and took what the ranker is for from the dataset contract."""

_LIBRARIES = (
    "duckdb",
    "evidently",
    "fairlearn",
    "kfp",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "scipy",
    "xgboost",
)
_PACKAGE_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Everything a run depends on, and who asked for it when (which its digest leaves out)."""

    schema_version: int
    name: str
    contract: str
    """Resolved dataset contract, JSON text with absolute or s3:// paths."""
    policy_files: dict[str, str]
    sources: dict[str, str]
    as_of: str
    as_of_is_declared: bool
    """False where the contract names no moment and the run's start stands in."""
    incumbent: str
    """Tree digest of the incumbent's ranker; empty for a first release."""
    incumbent_run: str
    seed: int
    threads: int
    code: str
    libraries: dict[str, str]
    before: Description | None
    """What the incumbent's run was made of, for the change log; None for a first release, or where it cannot be read."""
    submitted_by: str
    asked_at: str
    """ISO 8601, UTC."""

    @property
    def digest(self) -> str:
        """sha256 of all that can change a result."""
        meaning = as_json(self)
        for key in ("submitted_by", "asked_at", *(() if self.as_of_is_declared else ("as_of",))):
            del meaning[key]
        return digest_json(meaning)

    @property
    def run(self) -> str:
        """The run's name: the contract's name and the first ten digits of the digest."""
        return f"{self.name}-{self.digest[:10]}"


@cache
def code_files() -> dict[str, str]:
    """sha256 of each file of rankgate's own source, by relative path."""
    return {
        path.relative_to(_PACKAGE_ROOT).as_posix(): digest_file(path)
        for package in ("components", "pipelines")
        for path in sorted((_PACKAGE_ROOT / package).rglob("*"))
        if path.is_file() and path.suffix in {".py", ".html", ".css", ".md", ".js", ".j2"}
    }


@cache
def code_digest() -> str:
    """sha256 over rankgate's own source and the versions of the libraries its figures come from."""
    return digest_json({"files": code_files(), "libraries": library_versions()})


@cache
def library_versions() -> dict[str, str]:
    """Installed version of each library that a figure may come from."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def default_submitter() -> str:
    """RANKGATE_USER, or the account that runs the command."""
    if name := os.environ.get("RANKGATE_USER"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def make_request(
    contract_path: Path,
    policy: Path,
    *,
    incumbent: str = "",
    incumbent_run: str = "",
    before: Description | None = None,
    seed: int = 0,
    threads: int = 2,
    submitted_by: str = "",
) -> RunRequest:
    """Read and check the contract and the policy, and fix all that the run will depend on.

    Raises:
        InputError: If the contract, a source or the policy cannot be used.
    """
    from components.events.declaration import load_contract
    from components.events.snapshot import source_digests
    from components.ranker.declared_rules import check_declared
    from components.verdict.bundle import pack
    from components.verdict.suite import check_suite

    contract = load_contract(contract_path)
    base = contract_path.absolute().parent
    policy_files = pack(policy, dataset=contract.name)
    check_suite(policy)
    check_declared(policy, contract)
    now = datetime.now(UTC).replace(microsecond=0)
    resolved = contract.model_dump(mode="json", by_alias=True)
    for table in resolved["tables"].values():
        if table:
            table["path"] = [place if "://" in place else str(base / place) for place in table["path"]]
    return RunRequest(
        schema_version=SCHEMA_VERSION,
        name=contract.name,
        contract=json.dumps(resolved, sort_keys=True, ensure_ascii=False),
        policy_files=policy_files,
        sources=source_digests(contract, base=base),
        as_of=(contract.as_of or now).astimezone(UTC).isoformat(),
        as_of_is_declared=contract.as_of is not None,
        incumbent=incumbent,
        incumbent_run=incumbent_run,
        seed=seed,
        threads=threads,
        code=code_digest(),
        libraries=library_versions(),
        before=before,
        submitted_by=submitted_by or default_submitter(),
        asked_at=now.isoformat(),
    )


def pipeline_arguments(request: RunRequest, *, incumbent: str) -> dict[str, Any]:
    """Arguments of the `candidate` pipeline for a request; `incumbent` is where the incumbent's ranker lies."""
    return {
        "contract": request.contract,
        "policy_files": request.policy_files,
        "asked_at": request.asked_at,
        "as_of": request.as_of,
        "facts": {
            "run": request.run,
            "request": request.digest,
            "created_at": request.asked_at,
            "submitted_by": request.submitted_by,
            "incumbent": request.incumbent,
            "before": as_json(request.before) if request.before else {},
            "libraries": request.libraries,
        },
        "sources": request.sources,
        "incumbent": incumbent,
        "first_release": not request.incumbent,
        "seed": request.seed,
        "threads": request.threads,
        "code": request.code,
    }


def resumed(request: RunRequest, earlier: RunRequest) -> RunRequest:
    """The request under its first asking: who asked, when, and from when the log is judged stay as they were."""
    return replace(request, submitted_by=earlier.submitted_by, asked_at=earlier.asked_at, as_of=earlier.as_of)
