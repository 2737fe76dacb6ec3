"""Build the bento of an approved ranker with `bentoml build`, and keep it exported beside its manifest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from components.approval.contract import Release
from components.artifacts import documents
from components.artifacts.digests import digest_bytes, digest_file, digest_tree, tree_files
from components.artifacts.files import write_atomically
from components.artifacts.progress import Progress, silent
from components.card.contract import Card
from components.errors import NotApprovedError, RankgateError
from components.package.contract import SCHEMA_VERSION, Package
from components.package.release import APPROVAL_FILE, RANKER_FOLDER, RELEASE_FILE
from components.package.requirements import cut_lock, locked_libraries
from components.package.sbom import SBOM_FILE, sbom

SERVICE = "bentos.ranker.service:RankerService"
_ROOTS = (
    "bentoml", "cryptography", "numpy", "opentelemetry-api", "opentelemetry-sdk", "prometheus-client", "pyarrow", "pydantic",
    "pyyaml", "scipy", "securesystemslib", "xgboost",
)  # fmt: skip
# The rooms that serving needs. The rest of rankgate, and the libraries it imports, stay out of the image.
_ROOMS = ("artifacts", "events", "dataset", "ranker", "approval", "serving", "package")
_SERVED_ELSEWHERE = {"component.py"}


def build_package(
    ranker: Path,
    approval: Path,
    release: Release,
    *,
    card: Path,
    lock: Path,
    bentoml_home: Path,
    out: Path,
    progress: Progress = silent,
) -> Package:
    """Build and export the bento of a release.

    Args:
        ranker: The approved ranker.
        approval: The signed envelope (verified by the caller with `verify_approval`, whose result is `release`).
        release: What the approval lets out; required, so that nothing can be packaged without one.
        card: The approved card, which the bill of materials tells of.
        lock: The project's lock, which the service's requirements are cut from.
        bentoml_home: BentoML's store to build into.
        out: Empty folder; receives package.json, the exported bento and its bill of materials.
        progress: Told what is being done.

    Raises:
        NotApprovedError: If the ranker or the card is not the one that was approved.
        RankgateError: If `bentoml build` fails; its last words are in the message.
    """
    for role, place, approved in (
        ("ranker", ranker, release.approval.ranker),
        ("card", card, release.approval.card),
    ):
        if (found := digest_tree(place)) != approved:
            raise NotApprovedError(
                f"run {release.approval.run}: its {role} is {found[:12]}; "
                f"the approval is for {approved[:12]}. Have this one reviewed."
            )
    told = documents.load(Card, card / "card.json")
    cut = cut_lock(lock.read_text(encoding="utf-8"), _ROOTS)
    name = f"rankgate-{release.approval.run.rpartition('-')[0] or release.approval.run}"
    tag = f"{name}:{release.digest[:16]}"
    built = bentoml_home / "bentos" / name / release.digest[:16]
    environment = {**os.environ, "BENTOML_HOME": str(bentoml_home), "BENTOML_DO_NOT_TRACK": "true"}
    bentoml_home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rankgate-bento-") as folder:
        context = Path(folder)
        progress("collecting the service")
        _collect(context, ranker, approval, release, requirements=cut, name=name)
        progress("bentoml build")
        # BentoML refuses to build what its store has; what is there may be of another lock.
        shutil.rmtree(built, ignore_errors=True)
        _bentoml(environment, context, "build", "--version", release.digest[:16], "--output", "tag", str(context))
        _pin_installation(built, context / "requirements.txt")
    progress("bill of materials")
    files = {relative: digest_file(path) for relative, path in tree_files(ranker)}
    materials = sbom(told, release, tag=tag, files=files, libraries=locked_libraries(cut), roots=_ROOTS)
    write_atomically(out / SBOM_FILE, materials)
    # Not compressed: xz and gzip take half a minute over sorted arrays, to save what a registry compresses anyway.
    bento = out / "ranker.tar"
    progress("bentoml export")
    _bentoml(environment, out, "export", tag, str(bento))
    package = Package(
        schema_version=SCHEMA_VERSION,
        run=release.approval.run,
        release=release.digest,
        ranker=release.approval.ranker,
        bento_tag=tag,
        service=SERVICE,
        size_bytes=bento.stat().st_size,
        files=files,
        sbom=digest_bytes(materials),
    )
    documents.save(package, out / "package.json")
    return package


def _collect(context: Path, ranker: Path, approval: Path, release: Release, *, requirements: str, name: str) -> None:
    """Lay out the build context: code, release, requirements, build file."""
    import bentos
    import components

    rooms, services = Path(components.__file__).parent, Path(bentos.__file__).parent
    (context / "components").mkdir()
    for file in ("__init__.py", "errors.py"):
        shutil.copyfile(rooms / file, context / "components" / file)
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", *_SERVED_ELSEWHERE)
    for room in _ROOMS:
        shutil.copytree(rooms / room, context / "components" / room, ignore=ignore)
    # A bento serves what was approved and nothing else: the service that opens a bare ranker stays out of it.
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc", "measuring.py")
    shutil.copytree(services, context / "bentos", ignore=ignore)
    served = context / "release"
    shutil.copytree(ranker, served / RANKER_FOLDER)
    shutil.copyfile(approval, served / APPROVAL_FILE)
    documents.save(release, served / RELEASE_FILE)
    (context / "requirements.txt").write_text(requirements, encoding="utf-8")
    build = {
        "service": SERVICE,
        "name": name,
        "description": f"Release {release.digest[:12]} of run {release.approval.run}.",
        "labels": {"rankgate/run": release.approval.run, "rankgate/release": release.digest[:63]},
        "include": ["components/**", "bentos/**", "release/**", "requirements.txt"],
        # What is installed is pinned below, in `_pin_installation`: resolving again could only loosen it.
        "python": {"lock_packages": False},
        "docker": {"distro": "debian", "python_version": "3.11"},
        "envs": [{"name": "BENTOML_DO_NOT_TRACK", "value": "true"}],
    }
    (context / "bentofile.yaml").write_text(yaml.safe_dump(build, sort_keys=True), encoding="utf-8")


def _pin_installation(bento: Path, requirements: Path) -> None:
    """Make the bento's image install exactly the cut of the lock.

    `bentoml build` 1.4 adds an unhashed `bentoml` to what it is given, takes 20 s to parse hashes, and drops `pip_args`;
    its Dockerfile runs `uv --directory env/python pip install`, which reads the settings there.
    """
    place = bento / "env" / "python"
    shutil.copyfile(requirements, place / "requirements.txt")
    (place / "uv.toml").write_text("[pip]\nno-deps = true\nrequire-hashes = true\n", encoding="utf-8")


def _bentoml(environment: dict[str, str], where: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", *words],
        cwd=where,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-12:])
        raise RankgateError(f"bentoml {words[0]}: ended with {done.returncode}; its last words:\n{tail}")
