"""Requests to a real API server, as whoever is named: what it answered, in its own words."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config

KUBECTL = Path(sys.executable).with_name("kubectl")

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

LEDGERS = "/apis/rankgate.dev/v1/namespaces/{}/releaseledgers"

_PLACES = {
    "Pod": "/api/v1/namespaces/{}/pods",
    "ReplicationController": "/api/v1/namespaces/{}/replicationcontrollers",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "DaemonSet": "/apis/apps/v1/namespaces/{}/daemonsets",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "CronJob": "/apis/batch/v1/namespaces/{}/cronjobs",
}
KINDS = tuple(_PLACES)


@dataclass(frozen=True)
class Person:
    """Somebody whom the API server is asked to take us for; nobody: who the kubeconfig says."""

    name: str = ""
    group: str = ""

    def headers(self) -> dict[str, str]:
        said = {"Impersonate-User": self.name, "Impersonate-Group": self.group}
        return {header: value for header, value in said.items() if value}


ADMIN = Person()


@dataclass(frozen=True)
class Answer:
    status: int
    body: dict[str, Any]

    @property
    def admitted(self) -> bool:
        return self.status < 400

    @property
    def message(self) -> str:
        return str(self.body.get("message", "")) if not self.admitted else ""


class ApiServer:
    def __init__(self) -> None:
        # The one whom the kubeconfig names may impersonate others.
        self.api = config.new_client_from_config()

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        person: Person = ADMIN,
        content: str = "application/json",
        query: Iterable[tuple[str, str]] = (),
    ) -> Answer:
        headers = {"Accept": "application/json", "Content-Type": content, **person.headers()}
        try:
            told = self.api.call_api(
                path, method, query_params=list(query), header_params=headers, body=body, response_type="object",
                auth_settings=["BearerToken"], _return_http_data_only=True, _request_timeout=(5, 30),
            )  # fmt: skip
        except client.ApiException as error:
            try:
                return Answer(error.status, json.loads(error.body))
            except ValueError:
                return Answer(error.status, {"message": str(error.body)})
        return Answer(200, told)

    def client_of(self, person: Person) -> client.ApiClient:
        api = client.ApiClient(self.api.configuration)
        for header, value in person.headers().items():
            api.set_default_header(header, value)
        return api

    def kubectl(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([KUBECTL, *words], input=given, capture_output=True, text=True, check=False, timeout=120)

    def apply(self, objects: Iterable[Mapping[str, Any]], *words: str) -> subprocess.CompletedProcess[str]:
        return self.kubectl("apply", *words, "-f", "-", given=yaml.safe_dump_all(objects))


def place_of(kind: str, namespace: str, name: str = "", part: str = "") -> str:
    return "/".join(filter(None, (_PLACES[kind].format(namespace), name, part)))


def pod_template(release: str, *images: str, init: tuple[str, ...] = ()) -> dict[str, Any]:
    """A Pod that the restricted level admits, of these containers."""

    def container(name: str, image: str) -> dict[str, Any]:
        safe = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        return {"name": name, "image": image, "securityContext": safe}

    spec: dict[str, Any] = {
        "serviceAccountName": "deployer",
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1034, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container(f"c{index}", image) for index, image in enumerate(images)],
    }
    if init:
        spec["initContainers"] = [container(f"i{index}", image) for index, image in enumerate(init)]
    annotations = {"rankgate.dev/release": release} if release else {}
    return {"metadata": {"labels": {"app": "tried"}, "annotations": annotations}, "spec": spec}


def workload(kind: str, template: dict[str, Any], *, name: str = "tried", replicas: int = 1) -> dict[str, Any]:
    """Any kind that makes Pods, around the same Pod."""
    selector = {"matchLabels": {"app": "tried"}}
    if kind == "Pod":
        metadata = {"name": name, **template["metadata"]}
        return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": template["spec"]}
    spec: dict[str, Any] = {"template": template}
    group = "apps/v1"
    if kind == "ReplicationController":
        group, spec = "v1", spec | {"replicas": replicas, "selector": {"app": "tried"}}
    elif kind in ("Deployment", "ReplicaSet"):
        spec |= {"replicas": replicas, "selector": selector}
    elif kind == "StatefulSet":
        spec |= {"replicas": replicas, "selector": selector, "serviceName": "tried"}
    elif kind == "DaemonSet":
        spec |= {"selector": selector}
    else:
        group = "batch/v1"
        template = template | {"spec": template["spec"] | {"restartPolicy": "Never"}}
        spec = {"template": template, "parallelism": replicas}
        if kind == "CronJob":
            spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": spec}}
    return {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec}
