"""The component that lets a fleet take up published features: both arms alike, read-only but for a place for checked copies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.rollout.contract import SCHEMA_VERSION, RolloutPlan
from components.rollout.manifests import render
from components.serving.features_settings import FeatureSettings

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def objects(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    plan = RolloutPlan(
        schema_version=SCHEMA_VERSION,
        run="shop-0123456789",
        release="c" * 64,
        image=f"registry.example.com/ranker@sha256:{'d' * 64}",
        namespace="home-feed",
        stable_release="a" * 64,
        stable_image=f"registry.example.com/ranker@sha256:{'b' * 64}",
    )
    overlay = render(plan, manifests=repository / "manifests", out=tmp_path_factory.mktemp("manifests"))
    file = overlay / "kustomization.yaml"
    said = yaml.safe_load(file.read_text())
    said["components"].append("../components/features")
    file.write_text(yaml.safe_dump(said))
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", str(overlay)], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def test_both_arms_read_what_is_published_and_write_only_their_own_copies(objects: list[dict[str, Any]]) -> None:
    pods = [held["spec"]["template"]["spec"] for held in objects if held["kind"] == "Deployment"]
    assert len(pods) == 2
    for pod in pods:
        (container,) = pod["containers"]
        settings = FeatureSettings.of({one["name"]: one.get("value", "") for one in container["env"]})
        assert settings is not None
        mounts = {one["mountPath"]: one for one in container["volumeMounts"]}
        volumes = {one["name"]: one for one in pod["volumes"]}
        published, keys, copies = (mounts[str(path)] for path in (settings.root, settings.trust, settings.local))
        assert published["readOnly"] is True
        assert keys["readOnly"] is True
        assert "readOnly" not in copies
        assert volumes[published["name"]]["persistentVolumeClaim"] == {"claimName": "ranker-features", "readOnly": True}
        assert volumes[keys["name"]]["configMap"] == {"name": "ranker-feature-publishers"}
        assert volumes[copies["name"]] == {"name": copies["name"], "emptyDir": {"sizeLimit": "1Gi"}}
        # All that may lie in the Pod's own folders together stays below what it is evicted at.
        room = sum(_mebibytes(one["emptyDir"]["sizeLimit"]) for one in volumes.values() if "emptyDir" in one)
        assert room <= _mebibytes(container["resources"]["limits"]["ephemeral-storage"])


def _mebibytes(said: str) -> int:
    return int(said.removesuffix("Mi")) if said.endswith("Mi") else 1024 * int(said.removesuffix("Gi"))


def test_every_object_is_valid_against_the_kubernetes_schemas(objects: list[dict[str, Any]], tmp_path: Path) -> None:
    files = [tmp_path / f"{index}.yaml" for index in range(len(objects))]
    for file, held in zip(files, objects, strict=True):
        file.write_text(yaml.safe_dump(held))
    program = Path(sys.executable).with_name("kubernetes-validate")
    done = subprocess.run([program, "--strict", *files], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "WARN" not in said, said
