"""Render the manifests of one release: a folder that `kubectl apply -k FOLDER/overlay` takes as it is.

The rendered folder holds its own copy of `manifests/` as it was, so that what was reviewed is what is applied later.
A first release becomes the stable arm. With a stable release in service, the new one becomes the canary arm beside it.
The namespace, its ledger and who may do what in it are there before any release, and are none of a release's
(`manifests/overlays`, docs/cluster.md): whoever deploys needs no right to any of them.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from components.artifacts import documents
from components.errors import Fault, FaultyInputError, nearest
from components.rollout.contract import RolloutPlan

_BY_DIGEST = re.compile(r"^[a-z0-9][a-z0-9._/:-]*@sha256:[0-9a-f]{64}$")
_NAMESPACE = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
_DIGEST = re.compile(r"^[0-9a-f]{64}$")
RELEASE_ANNOTATION = "rankgate.dev/release"
RUN_ANNOTATION = "rankgate.dev/run"


def render(plan: RolloutPlan, *, manifests: Path, out: Path, environment: str = "") -> Path:
    """Write the overlay of a plan and the bases it stands on; returns the overlay's folder.

    Args:
        plan: Which release, as which image, where, beside which stable release.
        manifests: The project's `manifests` folder.
        out: Empty folder.
        environment: Whose sizes the release takes, a folder of `manifests/overlays`; the base's where empty.

    Raises:
        FaultyInputError: If an image is not pinned by digest, a name is none that Kubernetes takes, or there is no such
            environment.
    """
    _check(plan, environment, known=environments(manifests))
    for part in ("base/ranker", "components", *([_sizes(environment)] if environment else [])):
        shutil.copytree(manifests / part, out / part)
    overlay = out / "overlay"
    overlay.mkdir()
    _write(overlay / "kustomization.yaml", _kustomization(plan, environment))
    documents.save(plan, out / "rollout.json")
    return overlay


def environments(manifests: Path) -> tuple[str, ...]:
    """Names of the environments that have sizes of their own."""
    return tuple(sorted(place.parent.name for place in (manifests / "overlays").glob("*/ranker") if place.is_dir()))


def _sizes(environment: str) -> str:
    return f"overlays/{environment}/ranker"


def _check(plan: RolloutPlan, environment: str, *, known: tuple[str, ...]) -> None:
    faults = [
        Fault(name, repr(image), "an image pinned by digest, registry/name@sha256:...", "A tag can be moved.")
        for name, image in (("image", plan.image), ("stable_image", plan.stable_image))
        if (image or name == "image") and not _BY_DIGEST.match(image)
    ]
    if not _NAMESPACE.match(plan.namespace):
        faults.append(Fault("namespace", repr(plan.namespace), "a DNS label: lower-case letters, digits, hyphens"))
    if not _DIGEST.match(plan.release):
        faults.append(Fault("release", repr(plan.release), "a release digest, 64 hexadecimal digits"))
    if environment and environment not in known:
        faults.append(Fault("environment", repr(environment), "one of manifests/overlays", nearest(environment, known)))
    if bool(plan.stable_release) != bool(plan.stable_image):
        faults.append(
            Fault(
                "stable release", f"{plan.stable_release!r} as {plan.stable_image!r}", "both its digest and its image"
            )
        )
    if faults:
        raise FaultyInputError("rollout", faults)


def _kustomization(plan: RolloutPlan, environment: str) -> dict[str, Any]:
    """The overlay holds only what differs: namespace, images, and which release each arm runs."""
    first = not plan.stable_release
    arms = {"stable": plan.release} if first else {"stable": plan.stable_release, "canary": plan.release}
    images = [_image("ranker", plan.image if first else plan.stable_image)]
    if not first:
        images.append(_image("ranker-canary", plan.image))
    overlay: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": plan.namespace,
        "resources": ["../base/ranker"],
        "images": images,
        "patches": [
            _release_patch(arm, release, plan.run if release == plan.release else "") for arm, release in arms.items()
        ],
    }
    # The environment's comes last: it changes the arms that are there by then.
    components = ["../components/canary"] * (not first) + [f"../{_sizes(environment)}"] * bool(environment)
    return overlay | ({"components": components} if components else {})


def _image(name: str, reference: str) -> dict[str, str]:
    place, _, digest = reference.partition("@")
    return {"name": name, "newName": place, "digest": digest}


def _release_patch(arm: str, release: str, run: str) -> dict[str, Any]:
    """Names the release on the Deployment and its Pods, where admission and people look for it."""
    annotations = {RELEASE_ANNOTATION: release} | ({RUN_ANNOTATION: run} if run else {})
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"ranker-{arm}", "annotations": annotations},
        "spec": {"template": {"metadata": {"annotations": annotations}}},
    }
    return {"target": {"kind": "Deployment", "name": f"ranker-{arm}"}, "patch": yaml.safe_dump(patch, sort_keys=True)}


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(value, sort_keys=True), encoding="utf-8")
