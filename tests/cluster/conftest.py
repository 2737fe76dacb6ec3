"""A namespace of its own for each case, gated and with a ledger, on the cluster that KUBECONFIG names."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from api_server import ADMIN, APPLY, KUBECTL, LEDGERS, Answer, ApiServer, Person, place_of, pod_template, workload

ANA = Person("ana@shop.example", "rankgate:reviewers")
BEN = Person("ben@shop.example", "rankgate:reviewers")
SAM = Person("sam@shop.example", "rankgate:submitters")
PAT = Person("pat@shop.example", "rankgate:platform")

IMAGE = f"registry.example.com/ranker@sha256:{'b' * 64}"
PROXY = f"registry.example.com/proxy@sha256:{'e' * 64}"


@dataclass(frozen=True)
class Gated:
    """A gated namespace."""

    server: ApiServer
    name: str

    @property
    def ledger(self) -> str:
        return f"{LEDGERS.format(self.name)}/releases"

    @property
    def deployer(self) -> Person:
        return Person(f"system:serviceaccount:{self.name}:deployer", "system:serviceaccounts")

    def approve(self, person: Person = ANA, digest: str = "", **said: Any) -> Answer:
        """Apply an entry, the person's own unless `said` says otherwise."""
        digest = digest or release()
        entry = entry_said(digest, approver=person.name) | said
        return self.apply({digest: entry}, person)

    def apply(self, releases: dict[str, Any], person: Person, *, manager: str = "") -> Answer:
        patch = {"apiVersion": "rankgate.dev/v1", "kind": "ReleaseLedger", "metadata": {"name": "releases"}}
        manager = manager or f"tried-{secrets.token_hex(4)}"
        return self.server.ask(
            "PATCH", self.ledger, patch | {"spec": {"releases": releases}}, person=person, content=APPLY,
            query=[("fieldManager", manager), ("force", "true")],
        )  # fmt: skip

    def revoke(self, digest: str, person: Person = ANA, **said: Any) -> Answer:
        revoked = {"by": person.name, "at": "2026-11-23T12:00:00Z", "reason": "shows nobody anything new"} | said
        return self.apply({digest: {"revoked": revoked}}, person)

    def approved(self, *, image: str = IMAGE) -> str:
        """Digest of a release that is in the ledger, and that admission knows of by now."""
        digest = release()
        answer = self.approve(ANA, digest, image=image)
        assert answer.admitted, answer.message
        self.until(lambda: self.try_pod(digest, image).admitted)
        return digest

    def revoked(self, digest: str, image: str = IMAGE) -> None:
        answer = self.revoke(digest)
        assert answer.admitted, answer.message
        self.until(lambda: "was revoked by" in self.try_pod(digest, image).message)

    def create(self, kind: str, template: dict[str, Any], *, dry: bool = False, **how: Any) -> Answer:
        person = how.pop("person", ADMIN)
        query = [("dryRun", "All")] if dry else []
        return self.server.ask(
            "POST", place_of(kind, self.name), workload(kind, template, **how), person=person, query=query
        )

    def try_pod(self, digest: str, *images: str) -> Answer:
        return self.create("Pod", pod_template(digest, *images), dry=True, name=f"tried-{secrets.token_hex(4)}")

    @staticmethod
    def until(holds: Callable[[], bool], *, seconds: float = 30) -> None:
        """Admission reads the ledger from a copy that follows it within moments."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "the cluster did not come to know of it"
            time.sleep(0.1)


def release() -> str:
    return secrets.token_hex(32)


def entry_said(digest: str, *, approver: str) -> dict[str, Any]:
    return {
        "digest": digest,
        "run": "shop-0123456789",
        "image": IMAGE,
        "approver": approver,
        "submitter": SAM.name,
        "approvedAt": "2026-11-23T10:00:00+00:00",
        "card": "c" * 64,
    }


@pytest.fixture(scope="session")
def server(repository: Path) -> ApiServer:
    """The cluster's API server, with the gate as this checkout has it."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("needs a Kubernetes cluster: set KUBECONFIG to whose administrator you are")
    found = ApiServer()
    gate = built(repository / "manifests" / "base" / "gate")
    kinds = [held for held in gate if held["kind"] == "CustomResourceDefinition"]
    for objects in (kinds, gate):
        done = found.apply(objects)
        if done.returncode:
            # Another process made the same at the same moment.
            done = found.apply(objects)
        assert done.returncode == 0, done.stderr
    done = found.kubectl("wait", "--for=condition=Established", "crd/releaseledgers.rankgate.dev", "--timeout=30s")
    assert done.returncode == 0, done.stderr
    return found


def built(overlay: Path) -> list[dict[str, Any]]:
    done = subprocess.run([KUBECTL, "kustomize", str(overlay)], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="session")
def access(repository: Path) -> list[dict[str, Any]]:
    return built(repository / "manifests" / "base" / "access")


@pytest.fixture
def make_namespace(server: ApiServer, access: list[dict[str, Any]]) -> Iterator[Callable[[], Gated]]:
    made: list[Gated] = []

    def make() -> Gated:
        gated = Gated(server, f"rankgate-test-{secrets.token_hex(5)}")
        made.append(gated)
        objects = yaml.safe_load_all(
            yaml.safe_dump_all(access).replace("namespace: ranking\n", f"namespace: {gated.name}\n")
        )
        told = [
            held | {"metadata": held["metadata"] | {"name": gated.name}} if held["kind"] == "Namespace" else held
            for held in objects
        ]
        done = server.apply(told)
        assert done.returncode == 0, done.stderr
        # Until the ledger and the policies have come through to admission.
        gated.until(lambda: "names no release" in gated.try_pod("", IMAGE).message)
        return gated

    yield make
    for gated in made:
        answer = server.ask("DELETE", f"/api/v1/namespaces/{gated.name}")
        assert answer.admitted or answer.status == 404, answer.message


@pytest.fixture
def gated(make_namespace: Callable[[], Gated]) -> Gated:
    return make_namespace()
