"""Kubeflow Pipelines: the compiled pipeline, its upload, and runs or schedules of it over the v2beta1 REST API."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts.digests import digest_file
from components.artifacts.files import replacing
from components.errors import InputError, RankgateError
from pipelines.candidate import StepOptions, candidate_pipeline
from pipelines.request import RunRequest, pipeline_arguments

PIPELINE_NAME = "rankgate-candidate"
_PROBE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach the Kubeflow Pipelines API. At most one of `token` and `cookies` is needed."""

    host: str
    token: str = ""
    cookies: str = ""
    namespace: str = ""
    ca_certificate: str = ""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a submitted run is filed and scheduled."""

    experiment: str = "rankgate"
    cache: bool = True
    service_account: str = ""
    pipeline_root: str = ""
    cron: str = ""
    """Cron expression with seconds, as Kubeflow reads it; makes a schedule instead of one run."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """What Kubeflow now holds. `kind` is `run` or `schedule`."""

    kind: str
    identifier: str
    name: str
    pipeline_id: str
    version_id: str
    experiment_id: str
    url: str


def compile_pipeline(path: Path, options: StepOptions) -> str:
    """Write the pipeline's IR; returns its sha256. The same code and options give the same bytes.

    Raises:
        InputError: If `path` does not end in .yaml: kfp picks the format by it.
    """
    from kfp import compiler

    if path.suffix != ".yaml":
        raise InputError(f"pipeline file {path}: found the suffix {path.suffix or 'none'}; needed .yaml.")
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(candidate_pipeline(options), str(draft))
        with replacing(path) as beside:
            beside.write_bytes(draft.read_bytes())
    return digest_file(path)


def submit(request: RunRequest, connection: Connection, options: RunOptions, steps: StepOptions) -> Submitted:
    """Upload the pipeline if Kubeflow does not hold this very version, then start a run or a schedule.

    Raises:
        InputError: If the API refuses, or a table is not where the cluster can read it.
        RankgateError: If the API cannot be reached.
    """
    _check_places(request)
    with tempfile.TemporaryDirectory() as folder, _api_errors(connection.host):
        package = Path(folder) / "pipeline.yaml"
        version = f"{request.code[:12]}-{compile_pipeline(package, steps)[:12]}"
        client = _client(connection)
        pipeline_id, version_id = _upload(client, package, version, connection.namespace)
        experiment = client.create_experiment(options.experiment, namespace=connection.namespace or None)
        arguments = pipeline_arguments(request, incumbent="")
        filing: dict[str, Any] = {
            "experiment_id": experiment.experiment_id,
            "job_name": request.run,
            "params": arguments,
            "pipeline_id": pipeline_id,
            "version_id": version_id,
            "enable_caching": options.cache,
            "pipeline_root": options.pipeline_root or None,
            "service_account": options.service_account or None,
        }
        prefix = connection.host.rstrip("/")
        if options.cron:
            schedule = client.create_recurring_run(**filing, cron_expression=options.cron, no_catchup=True)
            identifier, kind, page = schedule.recurring_run_id, "schedule", "recurringrun"
        else:
            identifier, kind, page = client.run_pipeline(**filing).run_id, "run", "runs"
    return Submitted(
        kind=kind,
        identifier=identifier,
        name=request.run,
        pipeline_id=pipeline_id,
        version_id=version_id,
        experiment_id=experiment.experiment_id,
        url=f"{prefix}/#/{page}/details/{identifier}",
    )


def _check_places(request: RunRequest) -> None:
    import json

    tables = json.loads(request.contract)["tables"]
    local = [place for table in tables.values() if table for place in table["path"] if not place.startswith("s3://")]
    if local:
        raise InputError(
            f"dataset contract {request.name}: found tables on this machine ({', '.join(local)}); "
            "needed s3:// paths, which steps in a cluster can read. Upload the tables and name them so in the contract."
        )


def _client(connection: Connection) -> Any:
    from kfp.client import Client

    if not connection.host.startswith(("http://", "https://")):
        raise InputError(f"--host {connection.host}: found no http:// or https://; needed the full address of the API.")
    _probe(connection)
    # kfp prints links of its own; ours is in the result.
    with contextlib.redirect_stdout(io.StringIO()):
        return Client(
            host=connection.host,
            existing_token=connection.token or None,
            cookies=connection.cookies or None,
            namespace=connection.namespace or "kubeflow",
            ssl_ca_cert=connection.ca_certificate or None,
        )


def _upload(client: Any, package: Path, version: str, namespace: str) -> tuple[str, str]:
    """Pipeline and version id of the compiled pipeline; uploads what is not there yet."""
    with contextlib.redirect_stdout(io.StringIO()):
        pipeline_id = client.get_pipeline_id(PIPELINE_NAME)
        if pipeline_id is None:
            pipeline_id = client.upload_pipeline(
                str(package), pipeline_name=PIPELINE_NAME, namespace=namespace or None
            ).pipeline_id
        token = ""
        while True:
            listing = client.list_pipeline_versions(pipeline_id, page_token=token, page_size=100)
            for known in listing.pipeline_versions or []:
                if known.display_name == version:
                    return pipeline_id, known.pipeline_version_id
            token = listing.next_page_token or ""
            if not token:
                break
        uploaded = client.upload_pipeline_version(str(package), version, pipeline_id=pipeline_id)
    return pipeline_id, uploaded.pipeline_version_id


def _probe(connection: Connection) -> None:
    """Ask the API whether it is there, once: kfp's client asks five times, five seconds apart, and logs each failure."""
    import ssl
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    request = Request(f"{connection.host.rstrip('/')}/apis/v2beta1/healthz")  # noqa: S310  the scheme is checked above
    if connection.token:
        request.add_header("Authorization", f"Bearer {connection.token}")
    if connection.cookies:
        request.add_header("Cookie", connection.cookies)
    try:
        context = ssl.create_default_context(cafile=connection.ca_certificate or None)
        with urlopen(request, timeout=_PROBE_SECONDS, context=context):  # noqa: S310
            return
    except HTTPError as error:
        with error:
            raise _refusal(connection.host, error.code, str(error.reason), "") from error
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise RankgateError(
            f"Kubeflow at {connection.host}: cannot be reached ({reason}). Check the address, or forward a port to it: "
            "kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888"
        ) from error


def _refusal(host: str, status: int, reason: str, body: str) -> RankgateError:
    """The error for an answer of the API that is none of success."""
    if status in (401, 403):
        return InputError(
            f"Kubeflow at {host}: refused with {status} ({reason}); needed an account that may submit there. "
            "Give one with --token-file or --cookies-file, and its --namespace."
        )
    if status == 404:
        return InputError(
            f"Kubeflow at {host}: answered 404; needed the v2beta1 API there. Give the address whose "
            "/apis/v2beta1/healthz answers (often ends in /pipeline)."
        )
    return RankgateError(f"Kubeflow at {host}: answered {status} ({reason}). {body}".rstrip())


@contextmanager
def _api_errors(host: str) -> Iterator[None]:
    from kfp_server_api.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        raise _refusal(host, error.status, error.reason, str(error.body)) from error
