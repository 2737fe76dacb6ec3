"""The gate without a cluster: that it fails closed, covers what makes Pods, and that all its parts are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.integration

ENVIRONMENTS = ("kind", "staging", "production")
MAKE_PODS = {
    "": {"pods", "pods/ephemeralcontainers", "replicationcontrollers"},
    "apps": {"deployments", "replicasets", "statefulsets", "daemonsets"},
    "batch": {"jobs", "cronjobs"},
}


def _built(place: Path) -> list[dict[str, Any]]:
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", str(place)], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def overlays(repository: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: _built(repository / "manifests" / "overlays" / name) for name in ENVIRONMENTS}


@pytest.fixture(scope="module")
def gate(overlays: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return overlays["production"]


def _policies(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {held["metadata"]["name"]: held["spec"] for held in objects if held["kind"] == "ValidatingAdmissionPolicy"}


def test_every_environment_has_the_same_gate(overlays: dict[str, list[dict[str, Any]]]) -> None:
    kinds = ("CustomResourceDefinition", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ClusterRole")
    gates = [[held for held in objects if held["kind"] in kinds] for objects in overlays.values()]
    assert gates[0] == gates[1] == gates[2]
    assert len(gates[0]) == 1 + 3 + 3 + 4
    # kustomize puts policies into an overlay's namespace, which they have none of.
    assert not [held for held in gates[0] if "namespace" in held["metadata"]]


def test_every_policy_fails_closed_and_is_bound_to_deny(gate: list[dict[str, Any]]) -> None:
    policies = _policies(gate)
    bound = {
        held["spec"]["policyName"]: held["spec"] for held in gate if held["kind"] == "ValidatingAdmissionPolicyBinding"
    }
    assert set(bound) == set(policies) == {"ledger.rankgate.dev", "workloads.rankgate.dev", "namespaces.rankgate.dev"}
    assert all(policy["failurePolicy"] == "Fail" for policy in policies.values())
    assert all(binding["validationActions"] == ["Deny", "Audit"] for binding in bound.values())
    assert bound["workloads.rankgate.dev"]["paramRef"] == {"name": "releases", "parameterNotFoundAction": "Deny"}


def test_all_that_makes_pods_is_asked_about_when_made_and_when_changed(gate: list[dict[str, Any]]) -> None:
    rules = _policies(gate)["workloads.rankgate.dev"]["matchConstraints"]["resourceRules"]
    assert {group: set(rule["resources"]) for rule in rules for group in rule["apiGroups"]} == MAKE_PODS
    assert all(rule["operations"] == ["CREATE", "UPDATE"] for rule in rules)


def test_policies_name_only_variables_that_come_before(gate: list[dict[str, Any]]) -> None:
    for name, policy in _policies(gate).items():
        known: set[str] = set()
        for variable in policy["variables"]:
            assert set(re.findall(r"variables\.(\w+)", variable["expression"])) <= known, name
            known.add(variable["name"])
        said = [
            text
            for check in policy["validations"]
            for text in (check["expression"], check.get("messageExpression", ""))
        ]
        used = {word for text in said for word in re.findall(r"variables\.(\w+)", text)}
        noted = {
            word
            for note in policy.get("auditAnnotations", ())
            for word in re.findall(r"variables\.(\w+)", note["valueExpression"])
        }
        inner = {word for held in policy["variables"] for word in re.findall(r"variables\.(\w+)", held["expression"])}
        assert used | noted | inner == known, name


def test_every_refusal_has_words(gate: list[dict[str, Any]]) -> None:
    for policy in _policies(gate).values():
        assert all(check.get("message") or check.get("messageExpression") for check in policy["validations"])


def test_the_images_that_a_ledger_takes_are_those_that_rendering_takes(gate: list[dict[str, Any]]) -> None:
    """A rule in three places: the kind, `rankgate manifests`, `rankgate approve --cluster`."""
    from components.approval import ledger
    from components.rollout import manifests

    (kind,) = (held for held in gate if held["kind"] == "CustomResourceDefinition")
    spec = kind["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    entry = spec["releases"]["additionalProperties"]["properties"]
    assert (
        entry["image"]["pattern"]
        == spec["infrastructure"]["additionalProperties"]["pattern"]
        == manifests._BY_DIGEST.pattern
    )
    assert entry["image"]["pattern"] == f"^{ledger._IMAGE.pattern}$"


def test_only_reviewers_approve_and_revoke_and_only_the_platform_permits(gate: list[dict[str, Any]]) -> None:
    ours = {"approve": set(), "revoke": set(), "permit": set(), "ungate": set()}  # type: dict[str, set[str]]
    for role in (held for held in gate if held["kind"] == "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            for verb in set(rule["verbs"]) & set(ours):
                ours[verb].add(role["metadata"]["name"])
    assert ours == {
        "approve": {"rankgate-reviewer"},
        "revoke": {"rankgate-reviewer"},
        "permit": {"rankgate-platform"},
        "ungate": set(),
    }


def test_a_deployer_makes_no_pods_reads_no_secrets_and_writes_no_ledger(gate: list[dict[str, Any]]) -> None:
    (role,) = (
        held for held in gate if held["metadata"]["name"] == "rankgate-deployer" and held["kind"] == "ClusterRole"
    )
    verbs = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"] for group in rule["apiGroups"] for resource in rule["resources"]
    }  # fmt: skip
    read = {"get", "list", "watch"}
    assert verbs["", "pods"] == verbs["rankgate.dev", "releaseledgers"] == verbs["apps", "replicasets"] == read
    assert not {("", "secrets"), ("", "namespaces"), ("", "serviceaccounts/token"), ("", "pods/exec")} & set(verbs)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_namespace_is_gated_restricted_and_closed(
    environment: str, overlays: dict[str, list[dict[str, Any]]]
) -> None:
    objects = overlays[environment]
    (namespace,) = (held["metadata"] for held in objects if held["kind"] == "Namespace")
    assert namespace["labels"]["rankgate.dev/gated"] == "true"
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    (closed,) = (held["spec"] for held in objects if held["kind"] == "NetworkPolicy")
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert all(held["automountServiceAccountToken"] is False for held in objects if held["kind"] == "ServiceAccount")
    placed = {held["metadata"]["namespace"] for held in objects if "namespace" in held["metadata"]}
    assert placed == {namespace["name"]}
    accounts = [
        subject["namespace"]
        for held in objects if held["kind"] == "RoleBinding"
        for subject in held["subjects"] if subject["kind"] == "ServiceAccount"
    ]  # fmt: skip
    assert accounts == [namespace["name"]]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_object_is_valid_against_the_kubernetes_schemas(
    environment: str, overlays: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    # Of our own kind there is no schema but the one that we bring.
    objects = [held for held in overlays[environment] if held["kind"] != "ReleaseLedger"]
    files = [tmp_path / f"{index}.yaml" for index in range(len(objects))]
    for file, held in zip(files, objects, strict=True):
        file.write_text(yaml.safe_dump(held))
    program = Path(sys.executable).with_name("kubernetes-validate")
    done = subprocess.run([program, "--strict", *map(str, files)], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert said.count("passed for resource") == len(objects), said
    assert "WARN" not in said, said
