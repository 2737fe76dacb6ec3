"""Rendered manifests: what kubectl builds from them, and what Kubernetes' own schemas say of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import FaultyInputError
from components.rollout.contract import SCHEMA_VERSION, RolloutPlan
from components.rollout.manifests import render
from components.serving.exposures import BYTES_VARIABLE, FOLDER_VARIABLE

_FIRST = RolloutPlan(
    schema_version=SCHEMA_VERSION,
    run="shop-0123456789",
    release="a" * 64,
    image=f"registry.example.com/ranker@sha256:{'b' * 64}",
    namespace="home-feed",
    stable_release="",
    stable_image="",
)
_SECOND = replace(
    _FIRST,
    release="c" * 64,
    image=f"registry.example.com/ranker@sha256:{'d' * 64}",
    stable_release=_FIRST.release,
    stable_image=_FIRST.image,
)


def _rendered(plan: RolloutPlan, repository: Path, out: Path) -> Path:
    out.mkdir()
    return render(plan, manifests=repository / "manifests", out=out)


def _built(overlay: Path) -> list[dict[str, Any]]:
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", str(overlay)], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def _deployments(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {held["metadata"]["name"]: held for held in objects if held["kind"] == "Deployment"}


def _container(deployment: dict[str, Any]) -> dict[str, Any]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


@pytest.mark.integration
def test_a_first_release_is_the_stable_arm_alone(repository: Path, tmp_path: Path) -> None:
    deployments = _deployments(_built(_rendered(_FIRST, repository, tmp_path / "out")))
    assert set(deployments) == {"ranker-stable"}
    stable = deployments["ranker-stable"]
    assert _container(stable)["image"] == _FIRST.image
    assert stable["spec"]["template"]["metadata"]["annotations"]["rankgate.dev/release"] == _FIRST.release


@pytest.mark.integration
def test_a_second_release_is_a_canary_beside_the_stable_one(repository: Path, tmp_path: Path) -> None:
    deployments = _deployments(_built(_rendered(_SECOND, repository, tmp_path / "out")))
    found = {
        name: (_container(held)["image"], held["metadata"]["annotations"]["rankgate.dev/release"])
        for name, held in deployments.items()
    }
    assert found == {
        "ranker-stable": (_SECOND.stable_image, _SECOND.stable_release),
        "ranker-canary": (_SECOND.image, _SECOND.release),
    }


@pytest.mark.integration
def test_both_arms_are_the_same_pod_but_for_arm_image_and_spread(repository: Path, tmp_path: Path) -> None:
    """A canary that differs from the stable arm in anything else would be judged for that difference."""
    deployments = _deployments(_built(_rendered(_SECOND, repository, tmp_path / "out")))
    pods = []
    for held in deployments.values():
        pod = held["spec"]["template"]["spec"]
        pod.pop("topologySpreadConstraints", None)
        _container(held).pop("image")
        pods.append(pod)
    assert pods[0] == pods[1]


@pytest.mark.integration
def test_a_release_is_all_in_the_plans_namespace_and_brings_nothing_that_guards_it(
    repository: Path, tmp_path: Path
) -> None:
    """Whoever deploys holds no right to the namespace, the ledger, the policies or the roles."""
    objects = _built(_rendered(_SECOND, repository, tmp_path / "out"))
    assert {held["metadata"]["namespace"] for held in objects} == {"home-feed"}
    assert {held["kind"] for held in objects} == {
        "Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy",
    }  # fmt: skip


@pytest.mark.integration
@pytest.mark.parametrize(
    ("environment", "replicas", "scaled"),
    [("kind", {"ranker-stable": 1, "ranker-canary": 1}, None),
     ("staging", {"ranker-stable": None, "ranker-canary": 1}, (1, 2)),
     ("production", {"ranker-stable": None, "ranker-canary": 1}, (3, 24)),
     ("", {"ranker-stable": None, "ranker-canary": 1}, (2, 8))],
)  # fmt: skip
def test_an_environment_says_sizes_and_nothing_of_the_release(
    environment: str,
    replicas: dict[str, int | None],
    scaled: tuple[int, int] | None,
    repository: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "out").mkdir()
    overlay = render(_SECOND, manifests=repository / "manifests", out=tmp_path / "out", environment=environment)
    objects = _built(overlay)
    deployments = _deployments(objects)
    assert {name: held["spec"].get("replicas") for name, held in deployments.items()} == replicas
    assert [_container(deployments[f"ranker-{arm}"])["image"] for arm in ("stable", "canary")] == [
        _SECOND.stable_image,
        _SECOND.image,
    ]
    found = [held["spec"] for held in objects if held["kind"] == "HorizontalPodAutoscaler"]
    assert [(held["minReplicas"], held["maxReplicas"]) for held in found] == ([scaled] if scaled else [])


def test_an_environment_that_is_none_is_refused_with_the_nearest(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FaultyInputError, match="Did you mean 'production'"):
        render(_FIRST, manifests=repository / "manifests", out=tmp_path / "out", environment="prodction")
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.integration
def test_pods_meet_the_restricted_level(repository: Path, tmp_path: Path) -> None:
    for held in _deployments(_built(_rendered(_SECOND, repository, tmp_path / "out"))).values():
        pod, container = held["spec"]["template"]["spec"], _container(held)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.integration
def test_what_is_shown_is_logged_into_a_volume_that_its_bound_fits_into(repository: Path, tmp_path: Path) -> None:
    for held in _deployments(_built(_rendered(_SECOND, repository, tmp_path / "out"))).values():
        pod, container = held["spec"]["template"]["spec"], _container(held)
        said = {one["name"]: one.get("value", "") for one in container["env"]}
        mounted = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
        volume = next(one for one in pod["volumes"] if one["name"] == mounted[said[FOLDER_VARIABLE]])
        room = {"Mi": 1 << 20, "Gi": 1 << 30}
        limit = volume["emptyDir"]["sizeLimit"]
        stored = container["resources"]["limits"]["ephemeral-storage"]
        assert 1 << 24 <= int(said[BYTES_VARIABLE]) < int(limit[:-2]) * room[limit[-2:]]
        assert int(limit[:-2]) * room[limit[-2:]] < int(stored[:-2]) * room[stored[-2:]]


@pytest.mark.integration
def test_pods_are_scraped_at_their_own_port_from_namespaces_that_may(repository: Path, tmp_path: Path) -> None:
    objects = _built(_rendered(_SECOND, repository, tmp_path / "out"))
    for held in _deployments(objects).values():
        annotations = held["spec"]["template"]["metadata"]["annotations"]
        (port,) = _container(held)["ports"]
        assert annotations["prometheus.io/scrape"] == "true"
        assert annotations["prometheus.io/port"] == str(port["containerPort"])
        assert annotations["prometheus.io/path"] == "/metrics"
    policy = next(held for held in objects if held["kind"] == "NetworkPolicy")
    (ingress,) = policy["spec"]["ingress"]
    assert {"namespaceSelector": {"matchLabels": {"rankgate.dev/scrapes": "true"}}} in ingress["from"]
    assert "Egress" in policy["spec"]["policyTypes"]
    assert not policy["spec"].get("egress")


@pytest.mark.integration
@pytest.mark.parametrize("plan", [_FIRST, _SECOND], ids=["first", "second"])
def test_every_object_is_valid_against_the_kubernetes_schemas(
    plan: RolloutPlan, repository: Path, tmp_path: Path
) -> None:
    objects = _built(_rendered(plan, repository, tmp_path / "out"))
    for index, held in enumerate(objects):
        (tmp_path / f"{index}.yaml").write_text(yaml.safe_dump(held))
    program = Path(sys.executable).with_name("kubernetes-validate")
    files = [str(tmp_path / f"{index}.yaml") for index in range(len(objects))]
    done = subprocess.run([program, "--strict", *files], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    # An unknown kind is only warned about, with exit code 0.
    assert said.count("INFO") >= len(objects) or "passed" in said.lower(), said
    assert "WARN" not in said, said


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"image": "registry.example.com/ranker:latest"}, "pinned by digest"),
        ({"image": ""}, "pinned by digest"),
        ({"stable_image": "ranker:1", "stable_release": "e" * 64}, "pinned by digest"),
        ({"namespace": "Home_Feed"}, "DNS label"),
        ({"release": "abc"}, "release digest"),
        ({"stable_release": "e" * 64}, "both its digest and its image"),
    ],
)
def test_what_could_move_or_be_refused_later_is_refused_now(
    changes: dict[str, str], needed: str, repository: Path, tmp_path: Path
) -> None:
    with pytest.raises(FaultyInputError, match=needed):
        _rendered(replace(_FIRST, **changes), repository, tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())
