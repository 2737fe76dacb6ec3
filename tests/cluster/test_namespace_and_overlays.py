"""The namespace that guards itself, Pod Security, and whether the API server takes everything we ship."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import MERGE, Answer, ApiServer, Person, pod_template
from conftest import IMAGE, Gated, built, release

from components.rollout.contract import SCHEMA_VERSION, RolloutPlan
from components.rollout.manifests import environments, render

pytestmark = pytest.mark.cluster

OPS = Person("ops@shop.example")


@pytest.fixture
def operator(gated: Gated) -> Gated:
    """Somebody may change and delete this namespace, as many operators may, but not ungate it."""
    rules = [{"apiGroups": [""], "resources": ["namespaces", "namespaces/status", "namespaces/finalize"],
              "verbs": ["get", "update", "patch", "delete"]}]  # fmt: skip
    api = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{gated.name}"
    role = {"metadata": {"name": "operator"}, "rules": rules}
    binding = {
        "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": OPS.name}],
    }
    assert gated.server.ask("POST", f"{api}/roles", role).admitted
    assert gated.server.ask("POST", f"{api}/rolebindings", binding).admitted
    gated.until(lambda: _label(gated, "team", "search").admitted)
    return gated


def _label(gated: Gated, label: str, value: str | None, *, part: str = "", person: Person = OPS) -> Answer:
    path = f"/api/v1/namespaces/{gated.name}{part}"
    return gated.server.ask("PATCH", path, {"metadata": {"labels": {label: value}}}, person=person, content=MERGE)


@pytest.mark.parametrize("part", ["", "/status"])
@pytest.mark.parametrize(
    ("label", "value"),
    [("rankgate.dev/gated", None), ("rankgate.dev/gated", "false"),
     ("pod-security.kubernetes.io/enforce", None), ("pod-security.kubernetes.io/enforce", "privileged")],
)  # fmt: skip
def test_a_namespace_stays_gated_and_restricted(operator: Gated, part: str, label: str, value: str | None) -> None:
    answer = _label(operator, label, value, part=part)
    assert not answer.admitted
    assert f"{OPS.name} may not ungate namespace {operator.name}" in answer.message


def test_a_gated_namespace_is_not_deleted_and_its_ledger_with_it(operator: Gated) -> None:
    answer = operator.server.ask("DELETE", f"/api/v1/namespaces/{operator.name}", person=OPS)
    assert not answer.admitted
    assert f"{OPS.name} may not delete the gated namespace {operator.name}" in answer.message


def test_whoever_may_ungate_does(operator: Gated) -> None:
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{operator.name}/roles/operator"
    now = operator.server.ask("GET", path).body
    now["rules"].append({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["ungate"]})
    assert operator.server.ask("PUT", path, now).admitted
    operator.until(lambda: _label(operator, "rankgate.dev/gated", None).admitted)


def test_pod_security_refuses_what_is_not_restricted(gated: Gated) -> None:
    known = gated.approved()
    template = pod_template(known, IMAGE)
    template["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    answer = gated.create("Pod", template, dry=True)
    assert not answer.admitted
    assert 'violates PodSecurity "restricted:latest"' in answer.message


def test_the_policies_have_no_type_error(server: ApiServer) -> None:
    for name in ("ledger", "workloads", "namespaces"):
        path = f"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/{name}.rankgate.dev"
        status = server.ask("GET", path).body["status"]
        assert not status.get("typeChecking", {}).get("expressionWarnings"), status


def _elsewhere(overlay: Path, namespace: str, tmp_path: Path, repository: Path) -> list[dict[str, Any]]:
    """An overlay as it is built, in another namespace: cases run beside one another."""
    objects = built(overlay)
    names = {held["metadata"]["name"] for held in objects if held["kind"] == "Namespace"}
    text = yaml.safe_dump_all(objects)
    for name in names:
        text = text.replace(f"namespace: {name}\n", f"namespace: {namespace}\n")
    told = list(yaml.safe_load_all(text))
    for held in told:
        if held["kind"] == "Namespace":
            held["metadata"]["name"] = namespace
    return told


@pytest.mark.parametrize("overlay", ["kind", "staging", "production"])
def test_an_overlay_is_taken_by_the_api_server_whole(
    gated: Gated, overlay: str, repository: Path, tmp_path: Path
) -> None:
    objects = _elsewhere(repository / "manifests" / "overlays" / overlay, gated.name, tmp_path, repository)
    assert len(objects) > 15
    done = gated.server.apply(objects, "--dry-run=server")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    assert len(done.stdout.splitlines()) == len(objects)


@pytest.mark.parametrize("environment", ["", "kind", "staging", "production"])
def test_a_rendered_release_is_taken_once_both_arms_are_approved(
    gated: Gated, environment: str, repository: Path, tmp_path: Path
) -> None:
    assert not environment or environment in environments(repository / "manifests")
    images = [f"registry.example.com/ranker@sha256:{letter * 64}" for letter in "bd"]
    plan = RolloutPlan(
        schema_version=SCHEMA_VERSION, run="shop-0123456789", release=gated.approved(image=images[1]), image=images[1],
        namespace=gated.name, stable_release=gated.approved(image=images[0]), stable_image=images[0],
    )  # fmt: skip
    (tmp_path / "ours").mkdir()
    objects = built(render(plan, manifests=repository / "manifests", out=tmp_path / "ours", environment=environment))
    done = gated.server.apply(objects, "--dry-run=server", f"--as={gated.deployer.name}")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    (tmp_path / "theirs").mkdir()
    stranger = replace(plan, release=release())
    objects = built(render(stranger, manifests=repository / "manifests", out=tmp_path / "theirs"))
    done = gated.server.apply(objects, "--dry-run=server")
    assert f"release {stranger.release} is not in the ledger" in done.stderr
    assert "ranker-stable" not in done.stderr


def test_pod_security_admits_our_pods(gated: Gated, repository: Path, tmp_path: Path) -> None:
    image = f"registry.example.com/ranker@sha256:{'b' * 64}"
    plan = RolloutPlan(
        schema_version=SCHEMA_VERSION, run="shop-0123456789", release=gated.approved(image=image), image=image,
        namespace=gated.name, stable_release="", stable_image="",
    )  # fmt: skip
    objects = built(render(plan, manifests=repository / "manifests", out=tmp_path))
    (deployment,) = (held for held in objects if held["kind"] == "Deployment")
    (account,) = (held for held in objects if held["kind"] == "ServiceAccount")
    assert gated.server.apply([account]).returncode == 0
    answer = gated.create("Pod", copy.deepcopy(deployment["spec"]["template"]), dry=True)
    assert answer.admitted, answer.message
