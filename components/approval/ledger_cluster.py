"""A cluster's ledger over the wire, as the person in the kubeconfig: read, add, revoke.

Patches are server-side apply, which merges what several people write at once; where the server could not (409), the patch is
sent again. What the cluster's rules refuse arrives as `BlockedError`, in the rules' own words.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections.abc import Mapping
from typing import Any

import urllib3
from kubernetes import client, config

from components.approval.ledger import (
    GROUP,
    NAME,
    PLURAL,
    VERSION,
    Ledger,
    LedgerEntry,
    Revocation,
    addition,
    field_manager,
    read_ledger,
    revocation,
    summary,
)
from components.errors import BlockedError, InputError, RankgateError

_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_ATTEMPTS = 6
_SECONDS = (5, 30)
"""To connect, to answer."""
_POLICY = re.compile(r"ValidatingAdmissionPolicy '[^']*' with binding '[^']*' denied request: (.*)", re.DOTALL)
_INVALID = re.compile(r'^Invalid value: (?:"object": )?')
_ANSWERS = {
    401: ("cluster", "it does not know you", "Log in, then try again."),
    403: ("ledger of {}", "you may not", "Ask the platform team for the role (docs/cluster.md)."),
    404: ("ledger of {}", "there is none", "The platform team sets it up (docs/cluster.md)."),
}
"""By HTTP status: where, what was found, what to do."""
RELEASE_ANNOTATION = "rankgate.dev/release"


class ClusterLedger:
    """One namespace's ledger."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._api = api
        self.namespace = namespace

    @classmethod
    def connect(cls, *, context: str = "", namespace: str) -> ClusterLedger:
        """As the person whom the kubeconfig (KUBECONFIG, or ~/.kube/config) names.

        Raises:
            InputError: If there is no kubeconfig, it cannot be read, or it has no such context.
        """
        try:
            settings = client.Configuration()
            # The client reads KUBECONFIG once, when it is imported.
            file = os.environ.get("KUBECONFIG") or config.KUBE_CONFIG_DEFAULT_LOCATION
            config.load_kube_config(file, context=context or None, client_configuration=settings)
        except (config.ConfigException, OSError) as error:
            raise InputError(
                f"kubeconfig: found none that can be used ({error}); needed one that says who you are and where the cluster is. "
                "Name its file by KUBECONFIG, and its context by --context."
            ) from error
        # A patch that may have arrived is for us to send again, not for the connection.
        settings.retries = False
        return cls(client.ApiClient(settings), namespace)

    def username(self) -> str:
        """Who we are, as the API server sees it.

        Raises:
            InputError: If it does not say.
        """
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        said = self._call("/apis/authentication.k8s.io/v1/selfsubjectreviews", "POST", review, doing="ask who you are")
        name: str = said["status"]["userInfo"].get("username", "")
        if not name or name == "system:anonymous":
            raise InputError(
                f"kubeconfig: the API server takes you for {name or 'nobody'!r}; needed somebody. Log in, then try again."
            )
        return name

    def read(self) -> Ledger:
        """The ledger as it is.

        Raises:
            InputError: If there is none, or we may not read it.
        """
        return read_ledger(self._call(self._path, "GET", None, doing="read the ledger"), namespace=self.namespace)

    def add(self, entry: LedgerEntry) -> Ledger:
        """Add an entry; one that is there already stays as it is.

        Raises:
            BlockedError: If the cluster refuses it.
            InputError: If the cluster cannot be reached, or has no ledger here.
        """
        held = self._apply(addition(entry), field_manager("approve", entry.digest), doing="approve")
        self._summarise(held)
        return held

    def revoke(self, digest: str, revoked: Revocation) -> Ledger:
        """Revoke an entry; raises as `add`."""
        held = self._apply(revocation(digest, revoked), field_manager("revoke", digest), doing="revoke")
        self._summarise(held)
        return held

    def running(self, digest: str) -> list[str]:
        """Names of the Pods that still run a release; revoking ends none.

        Raises:
            InputError: If we may not list Pods.
        """
        said = self._call(f"/api/v1/namespaces/{self.namespace}/pods", "GET", None, doing="list Pods")
        return sorted(
            pod["metadata"]["name"]
            for pod in said["items"]
            if (pod["metadata"].get("annotations") or {}).get(RELEASE_ANNOTATION) == digest
            and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        )

    @property
    def _path(self) -> str:
        return f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{PLURAL}/{NAME}"

    def _apply(self, patch: Mapping[str, Any], manager: str, *, doing: str) -> Ledger:
        # A patch would make the ledger where there is none: whoever may add to a ledger is not who sets it up.
        self.read()
        said = self._retrying(
            self._path, "PATCH", patch, query=[("fieldManager", manager)], content=_APPLY, doing=f"{doing} a release"
        )
        return read_ledger(said, namespace=self.namespace)

    def _summarise(self, ledger: Ledger) -> None:
        """Write the line that `kubectl get ledger` shows. The entry is made: that a line is old is no reason to fail."""
        try:
            self._retrying(
                f"{self._path}/status", "PATCH", {"status": summary(ledger)}, content=_MERGE, doing="summarise"
            )
        except RankgateError:
            return

    def _retrying(self, path: str, method: str, body: Mapping[str, Any], *, doing: str, **more: Any) -> dict[str, Any]:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._call(path, method, body, doing=doing, **more)
            except _ConflictError as conflict:
                if attempt == _ATTEMPTS:
                    raise InputError(
                        f"ledger of {self.namespace}: others wrote to it each of {_ATTEMPTS} times that this was tried "
                        f"({conflict}); nothing was written. Try again."
                    ) from conflict
                time.sleep(random.uniform(0.5, 1) * 0.1 * 2**attempt)  # noqa: S311  so that two do not meet again
        raise AssertionError("unreachable")

    def _call(
        self,
        path: str,
        method: str,
        body: Mapping[str, Any] | None,
        *,
        doing: str,
        query: list[tuple[str, str]] | None = None,
        content: str = "application/json",
    ) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._api.call_api(
                path,
                method,
                query_params=query or [],
                header_params={"Accept": "application/json", "Content-Type": content},
                body=body,
                response_type="object",
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=_SECONDS,
            )
        except client.ApiException as error:
            raise self._in_words(error, doing) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise InputError(
                f"cluster: cannot be reached at {self._api.configuration.host} ({error}); nothing was changed. "
                "Is it up, and is it the one that your kubeconfig should name?"
            ) from error
        return answer

    def _in_words(self, error: client.ApiException, doing: str) -> RankgateError:
        message = _message(error)
        if refused := _POLICY.search(message):
            return BlockedError(f"ledger of {self.namespace}: the cluster refused to {doing}: {refused[1].strip()}.")
        if error.status == 409:
            return _ConflictError(message)
        if error.status == 422:
            said = "; ".join(_rules(error)) or message
            return BlockedError(f"ledger of {self.namespace}: the cluster refused to {doing}: {said}.")
        where, what, needed = _ANSWERS.get(error.status, ("cluster", f"HTTP {error.status}", "Try again."))
        return InputError(f"{where.format(self.namespace)}: could not {doing}: {what} ({message}). {needed}")


class _ConflictError(RankgateError):
    """Somebody else wrote in between."""


def _message(error: client.ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (KeyError, TypeError, ValueError):
        return str(error.reason)


def _rules(error: client.ApiException) -> list[str]:
    """What each of a kind's own rules said."""
    try:
        causes = json.loads(error.body)["details"]["causes"]
    except (KeyError, TypeError, ValueError):
        return []
    told = [_INVALID.sub("", str(one.get("message", ""))) for one in causes]
    return [one for one in dict.fromkeys(told) if one]
