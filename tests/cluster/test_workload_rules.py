"""What runs in a gated namespace, asked of a real API server: every kind that makes Pods, and every image in them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from api_server import ADMIN, KINDS, MERGE, Answer, place_of, pod_template, workload
from conftest import ANA, IMAGE, PAT, PROXY, Gated, release

pytestmark = pytest.mark.cluster

OTHER = f"registry.example.com/ranker@sha256:{'f' * 64}"
SCALED = ("Deployment", "ReplicaSet", "StatefulSet", "ReplicationController", "Job")


def refused(answer: Answer, *words: str) -> None:
    assert not answer.admitted
    for word in words:
        assert word in answer.message


def _comes(holds: Callable[[], object], *, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def permit(gated: Gated, image: str = PROXY) -> None:
    change = {"spec": {"infrastructure": {"proxy": image}}}
    assert gated.server.ask("PATCH", gated.ledger, change, person=PAT, content=MERGE).admitted
    gated.until(lambda: gated.try_pod("", image).admitted)


@pytest.mark.parametrize("kind", KINDS)
def test_an_approved_release_runs_in_every_kind(gated: Gated, kind: str) -> None:
    answer = gated.create(kind, pod_template(gated.approved(), IMAGE))
    assert answer.admitted, answer.message


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_is_a_way_around(gated: Gated, kind: str) -> None:
    known, unknown = gated.approved(), release()
    refused(
        gated.create(kind, pod_template("", IMAGE)),
        "names no release (annotation rankgate.dev/release of its Pods)", IMAGE,
    )  # fmt: skip
    refused(
        gated.create(kind, pod_template(unknown, IMAGE)),
        f"release {unknown} is not in the ledger of namespace {gated.name}", "rankgate approve --cluster",
    )  # fmt: skip
    refused(
        gated.create(kind, pod_template(known, OTHER)),
        f"image {OTHER} is not the one that release {known} was approved as, {IMAGE}",
    )
    refused(gated.create(kind, pod_template(known, IMAGE, init=(OTHER,))), f"image {OTHER} is not the one")
    gated.revoked(known)
    refused(
        gated.create(kind, pod_template(known, IMAGE)),
        f"release {known} was revoked by {ANA.name} at 2026-11-23T12:00:00Z: shows nobody anything new",
    )


@pytest.mark.parametrize("image", [
    "registry.example.com/ranker", "registry.example.com/ranker:latest",
    IMAGE.replace("registry.example.com", "mirror.example.com"),
    IMAGE.replace("/ranker@", "/ranker:1.0@"),
])  # fmt: skip
def test_an_image_is_the_entrys_to_the_letter(gated: Gated, image: str) -> None:
    refused(gated.try_pod(gated.approved(), image), f"image {image} is not the one")


def test_a_second_container_is_looked_at_like_the_first(gated: Gated) -> None:
    known = gated.approved()
    refused(gated.try_pod(known, IMAGE, OTHER), f"image {OTHER} is not the one")
    assert gated.try_pod(known, IMAGE, IMAGE).admitted


def test_an_image_mounted_as_a_volume_is_looked_at_too(gated: Gated) -> None:
    template = pod_template(gated.approved(), IMAGE)
    template["spec"]["volumes"] = [{"name": "model", "image": {"reference": OTHER}}]
    refused(gated.create("Pod", template, dry=True), f"image {OTHER} is not the one")


def test_infrastructure_runs_beside_a_release_and_alone(gated: Gated) -> None:
    known = gated.approved()
    refused(gated.try_pod(known, IMAGE, PROXY), f"nor infrastructure of namespace {gated.name}")
    permit(gated)
    assert gated.try_pod(known, IMAGE, PROXY).admitted
    assert gated.create("Deployment", pod_template("", PROXY)).admitted


def test_infrastructure_does_not_carry_a_release_in(gated: Gated) -> None:
    permit(gated)
    refused(gated.try_pod("", PROXY, IMAGE), "names no release", f"{IMAGE} is none of the infrastructure")
    refused(gated.try_pod(release(), PROXY), "is not in the ledger")


def test_a_debugging_container_is_one_of_the_infrastructure_or_none(gated: Gated) -> None:
    known = gated.approved()
    assert gated.create("Pod", pod_template(known, IMAGE)).admitted
    place = place_of("Pod", gated.name, "tried", "ephemeralcontainers")

    def attach(image: str) -> Answer:
        safe = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        added = {"spec": {"ephemeralContainers": [{"name": "debug", "image": image, "securityContext": safe}]}}
        return gated.server.ask("PATCH", place, added, content="application/strategic-merge-patch+json")

    refused(attach(OTHER), f"image {OTHER} is not the one")
    permit(gated)
    assert attach(PROXY).admitted


def test_an_image_is_not_changed_in_place(gated: Gated) -> None:
    known = gated.approved()
    change = {"spec": {"containers": [{"name": "c0", "image": OTHER}]}}
    assert gated.create("Pod", pod_template(known, IMAGE)).admitted
    path = place_of("Pod", gated.name, "tried")
    refused(gated.server.ask("PATCH", path, change, content="application/strategic-merge-patch+json"), "is not the one")
    assert gated.create("Deployment", pod_template(known, IMAGE)).admitted
    path = place_of("Deployment", gated.name, "tried")
    change = {"spec": {"template": change}}
    refused(gated.server.ask("PATCH", path, change, content="application/strategic-merge-patch+json"), "is not the one")


def test_a_release_is_not_borrowed_by_changing_the_annotation(gated: Gated) -> None:
    one, other = gated.approved(), gated.approved(image=OTHER)
    assert gated.create("Deployment", pod_template(one, IMAGE)).admitted
    change = {"spec": {"template": {"metadata": {"annotations": {"rankgate.dev/release": other}}}}}
    refused(
        gated.server.ask("PATCH", place_of("Deployment", gated.name, "tried"), change, content=MERGE),
        f"image {IMAGE} is not the one that release {other} was approved as, {OTHER}",
    )


@pytest.mark.parametrize("kind", SCALED)
def test_what_runs_a_revoked_release_is_scaled_down_labelled_and_deleted_but_not_scaled_up(
    gated: Gated, kind: str
) -> None:
    known = gated.approved()
    assert gated.create(kind, pod_template(known, IMAGE), replicas=2).admitted
    gated.revoked(known)
    path, field = place_of(kind, gated.name, "tried"), "parallelism" if kind == "Job" else "replicas"

    def change(**said: object) -> Answer:
        return gated.server.ask("PATCH", path, said, content=MERGE)

    refused(change(spec={field: 3}), "was revoked by")
    assert change(metadata={"labels": {"why": "revoked"}}).admitted
    assert change(spec={field: 1}).admitted
    assert change(spec={field: 0}).admitted
    refused(change(spec={field: 1}), "was revoked by")
    assert gated.server.ask("DELETE", path, query=[("propagationPolicy", "Background")]).admitted


def test_a_running_pod_of_a_revoked_release_is_labelled_and_deleted(gated: Gated) -> None:
    known = gated.approved()
    assert gated.create("Pod", pod_template(known, IMAGE)).admitted
    gated.revoked(known)
    path = place_of("Pod", gated.name, "tried")
    assert gated.server.ask("PATCH", path, {"metadata": {"labels": {"why": "revoked"}}}, content=MERGE).admitted
    assert gated.server.ask("DELETE", path).admitted


def test_a_revoked_releases_deployment_moves_on_to_an_approved_one(gated: Gated) -> None:
    old, new = gated.approved(), gated.approved(image=OTHER)
    assert gated.create("Deployment", pod_template(old, IMAGE)).admitted
    gated.revoked(old)
    change = {"spec": {"template": pod_template(new, OTHER)}}
    answer = gated.server.ask("PATCH", place_of("Deployment", gated.name, "tried"), change, content=MERGE)
    assert answer.admitted, answer.message


def test_a_suspended_job_of_a_revoked_release_is_not_resumed(gated: Gated) -> None:
    known = gated.approved()
    job = workload("Job", pod_template(known, IMAGE))
    job["spec"]["suspend"] = True
    assert gated.server.ask("POST", place_of("Job", gated.name), job).admitted
    gated.revoked(known)
    path = place_of("Job", gated.name, "tried")
    refused(gated.server.ask("PATCH", path, {"spec": {"suspend": False}}, content=MERGE), "was revoked by")


def test_the_cluster_itself_makes_no_pod_of_a_revoked_release(gated: Gated) -> None:
    """The Deployment's controller wants its Pod back; it asks as everyone does."""
    known = gated.approved()
    assert gated.create("Deployment", pod_template(known, IMAGE)).admitted
    if not _comes(lambda: gated.server.ask("GET", place_of("Pod", gated.name)).body["items"]):
        pytest.skip("no controller manager makes ReplicaSets and Pods on this cluster")
    gated.revoked(known)
    (pod,) = gated.server.ask("GET", place_of("Pod", gated.name)).body["items"]
    assert gated.server.ask("DELETE", place_of("Pod", gated.name, pod["metadata"]["name"])).admitted

    def complaints() -> list[str]:
        sets = gated.server.ask("GET", place_of("ReplicaSet", gated.name)).body["items"]
        return [held["message"] for one in sets for held in one["status"].get("conditions", [])]

    assert _comes(lambda: any(f"release {known} was revoked by {ANA.name}" in told for told in complaints()))
    left = gated.server.ask("GET", place_of("Pod", gated.name)).body["items"]
    assert not [one for one in left if not one["metadata"].get("deletionTimestamp")]


def test_a_release_approved_in_one_namespace_does_not_run_in_another(
    gated: Gated, make_namespace: Callable[[], Gated]
) -> None:
    known, other = gated.approved(), make_namespace()
    refused(other.try_pod(known, IMAGE), f"is not in the ledger of namespace {other.name}")
    assert gated.try_pod(known, IMAGE).admitted


def test_without_a_ledger_nothing_runs(gated: Gated) -> None:
    assert gated.server.ask("DELETE", gated.ledger).admitted
    gated.until(lambda: "no params found" in gated.try_pod("", PROXY).message)


def test_a_namespace_that_is_not_gated_is_left_alone(gated: Gated) -> None:
    path = f"/api/v1/namespaces/{gated.name}"
    assert gated.server.ask(
        "PATCH", path, {"metadata": {"labels": {"rankgate.dev/gated": None}}}, content=MERGE
    ).admitted
    gated.until(lambda: gated.try_pod("", OTHER).admitted)


def test_a_deployer_deploys_what_is_approved_and_makes_no_pod(gated: Gated) -> None:
    known = gated.approved()
    assert gated.create("Deployment", pod_template(known, IMAGE), person=gated.deployer).admitted
    refused(
        gated.create("Deployment", pod_template(release(), IMAGE), person=gated.deployer, name="new"),
        "is not in the ledger",
    )
    for kind in set(KINDS) - {"Deployment"}:
        refused(gated.create(kind, pod_template(known, IMAGE), person=gated.deployer), "cannot create resource")
    refused(
        gated.server.ask("GET", f"/api/v1/namespaces/{gated.name}/secrets", person=gated.deployer),
        "cannot list resource",
    )
    path = f"/api/v1/namespaces/{gated.name}"
    refused(
        gated.server.ask("PATCH", path, {"metadata": {"labels": {"a": "b"}}}, person=gated.deployer, content=MERGE),
        "cannot patch resource",
    )


def test_a_cluster_administrator_runs_what_is_approved_like_everyone(gated: Gated) -> None:
    refused(gated.create("Pod", pod_template(release(), IMAGE), person=ADMIN), "is not in the ledger")
