"""The component that gives a fleet a shared store: both arms alike, the password as a file, a way out to it and no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.rollout.contract import SCHEMA_VERSION, RolloutPlan
from components.rollout.manifests import render
from components.serving.shared_store_address import ADDRESS_VARIABLE, PASSWORD_FILE_VARIABLE

pytestmark = pytest.mark.integration

_PLAN = RolloutPlan(
    schema_version=SCHEMA_VERSION,
    run="shop-0123456789",
    release="c" * 64,
    image=f"registry.example.com/ranker@sha256:{'d' * 64}",
    namespace="home-feed",
    stable_release="a" * 64,
    stable_image=f"registry.example.com/ranker@sha256:{'b' * 64}",
)


@pytest.fixture(scope="module")
def objects(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    overlay = render(_PLAN, manifests=repository / "manifests", out=tmp_path_factory.mktemp("manifests"))
    file = overlay / "kustomization.yaml"
    said = yaml.safe_load(file.read_text())
    said["components"].append("../components/shared-store")
    file.write_text(yaml.safe_dump(said))
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", str(overlay)], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [held["spec"]["template"]["spec"] for held in objects if held["kind"] == "Deployment"]
    assert len(found) == 2
    return found


def test_both_arms_read_the_address_from_a_config_map_and_the_password_from_a_mounted_secret(
    objects: list[dict[str, Any]],
) -> None:
    for pod in pods(objects):
        (container,) = pod["containers"]
        said = {one["name"]: one for one in container["env"]}
        assert said[ADDRESS_VARIABLE]["valueFrom"] == {"configMapKeyRef": {"name": "ranker-store", "key": "address"}}
        file = Path(said[PASSWORD_FILE_VARIABLE]["value"])
        mounted = next(one for one in container["volumeMounts"] if one["mountPath"] == str(file.parent))
        assert mounted["readOnly"] is True
        volume = next(one for one in pod["volumes"] if one["name"] == mounted["name"])
        assert volume["secret"]["secretName"] == "ranker-store"
        assert volume["secret"]["items"] == [{"key": "password", "path": file.name}]
        # Of the group that the Pod's files belong to, and nobody else.
        assert volume["secret"]["defaultMode"] == 0o440
        assert "RANKGATE_STORE_PASSWORD" not in said


def test_no_secret_and_no_address_lies_in_the_manifests(objects: list[dict[str, Any]]) -> None:
    assert not [held for held in objects if held["kind"] in ("Secret", "ConfigMap")]


def test_rankers_may_reach_the_store_and_dns_and_nothing_else(objects: list[dict[str, Any]]) -> None:
    policies = {held["metadata"]["name"]: held["spec"] for held in objects if held["kind"] == "NetworkPolicy"}
    store = policies["ranker-store"]
    assert store["podSelector"] == policies["ranker"]["podSelector"]
    assert store["policyTypes"] == ["Egress"]
    out = [(sorted(to), [port["port"] for port in rule["ports"]]) for rule in store["egress"] for to in rule["to"]]
    assert out == [(["namespaceSelector", "podSelector"], [6379]), (["namespaceSelector"], [53, 53])]
    assert not policies["ranker"].get("egress")


def test_every_object_is_valid_against_the_kubernetes_schemas(objects: list[dict[str, Any]], tmp_path: Path) -> None:
    files = [tmp_path / f"{index}.yaml" for index in range(len(objects))]
    for file, held in zip(files, objects, strict=True):
        file.write_text(yaml.safe_dump(held))
    program = Path(sys.executable).with_name("kubernetes-validate")
    done = subprocess.run([program, "--strict", *files], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "WARN" not in said, said
