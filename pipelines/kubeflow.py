"""Kubeflow Pipelines: compiled pipelines, their upload, and runs or schedules of them over the v2beta1 REST API."""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts.digests import digest_file
from components.artifacts.files import replacing
from components.errors import InputError, RankgateError
from pipelines.candidate import candidate_pipeline
from pipelines.placing import StepOptions
from pipelines.release import release_pipeline
from pipelines.request import RunRequest, pipeline_arguments
from pipelines.scheduling import scheduled_arguments, six_fields

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
    """Cron expression of five fields, or of six with seconds first; makes a schedule instead of one run."""


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


@dataclass(frozen=True, slots=True)
class Job:
    """One compiled pipeline and what to run it with."""

    pipeline: str
    """Name under which Kubeflow holds all its versions."""
    package: Path
    version: str
    name: str
    arguments: dict[str, Any]


def compile_pipeline(path: Path, options: StepOptions) -> str:
    """Write the `candidate` pipeline's IR; returns its sha256. The same code and options give the same bytes.

    Raises:
        InputError: If `path` does not end in .yaml: kfp picks the format by it.
    """
    return write_ir(path, candidate_pipeline(options))


def compile_release(path: Path, options: StepOptions, *, trust: Mapping[str, str]) -> str:
    """As `compile_pipeline`, the `release` pipeline, which trusts these public keys (text by file name)."""
    return write_ir(path, release_pipeline(options, trust=trust))


def write_ir(path: Path, pipeline: Any) -> str:
    """Write a pipeline's IR whole or not at all; returns its sha256."""
    from kfp import compiler

    if path.suffix != ".yaml":
        raise InputError(f"pipeline file {path}: found the suffix {path.suffix or 'none'}; needed .yaml.")
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(draft))
        with replacing(path) as beside:
            beside.write_bytes(draft.read_bytes())
    return digest_file(path)


def submit(
    request: RunRequest, connection: Connection, options: RunOptions, steps: StepOptions, *, incumbent: str = ""
) -> Submitted:
    """Upload the `candidate` pipeline if Kubeflow does not hold this very version, then start a run or a schedule.

    Args:
        request: What to run.
        connection: Where.
        options: How it is filed, and when it runs.
        steps: How its steps are set up.
        incumbent: Name of the incumbent's ranker in object storage, with its digest (`components.events.object_folders`).

    Raises:
        InputError: If the API refuses, or a table or the incumbent is not where the cluster can read it.
        RankgateError: If the API cannot be reached.
    """
    _check_places(request, incumbent)
    arguments = pipeline_arguments(request, incumbent=incumbent)
    if options.cron:
        arguments = scheduled_arguments(request, arguments)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        version = f"{request.code[:12]}-{compile_pipeline(package, steps)[:12]}"
        return start(Job(PIPELINE_NAME, package, version, request.run, arguments), connection, options)


def start(job: Job, connection: Connection, options: RunOptions) -> Submitted:
    """Upload a compiled pipeline if Kubeflow does not hold this version of it, then start a run or a schedule."""
    cron = six_fields(options.cron) if options.cron else ""
    with api_errors(connection.host), _quiet():
        client = open_client(connection)
        pipeline_id, version_id = _upload(client, job, connection.namespace)
        experiment = client.create_experiment(options.experiment, namespace=connection.namespace or None)
        filing: dict[str, Any] = {
            "experiment_id": experiment.experiment_id,
            "job_name": job.name,
            "params": job.arguments,
            "pipeline_id": pipeline_id,
            "version_id": version_id,
            "enable_caching": options.cache,
            "pipeline_root": options.pipeline_root or None,
            "service_account": options.service_account or None,
        }
        prefix = connection.host.rstrip("/")
        if cron:
            schedule = client.create_recurring_run(**filing, cron_expression=cron, no_catchup=True)
            identifier, kind, page = schedule.recurring_run_id, "schedule", "recurringrun"
        else:
            identifier, kind, page = client.run_pipeline(**filing).run_id, "run", "runs"
    return Submitted(
        kind=kind,
        identifier=identifier,
        name=job.name,
        pipeline_id=pipeline_id,
        version_id=version_id,
        experiment_id=experiment.experiment_id,
        url=f"{prefix}/#/{page}/details/{identifier}",
    )


def _check_places(request: RunRequest, incumbent: str) -> None:
    import json

    tables = json.loads(request.contract)["tables"]
    local = [place for table in tables.values() if table for place in table["path"] if not place.startswith("s3://")]
    if local:
        raise InputError(
            f"dataset contract {request.name}: found tables on this machine ({', '.join(local)}); "
            "needed s3:// paths, which steps in a cluster can read. Upload the tables and name them so in the contract."
        )
    if request.incumbent and not incumbent.endswith(request.incumbent):
        raise InputError(
            f"incumbent {request.incumbent[:12]}: found no place of it that steps in a cluster can read; needed its s3:// "
            "folder. Name it with --incumbent s3://..., or name a run and --artefacts s3://bucket/folder to put it there."
        )


def open_client(connection: Connection) -> Any:
    """Client of kfp, once it is known that the API answers."""
    from kfp.client import Client

    if not connection.host.startswith(("http://", "https://")):
        raise InputError(f"--host {connection.host}: found no http:// or https://; needed the full address of the API.")
    _probe(connection)
    with _quiet():
        return Client(
            host=connection.host,
            existing_token=connection.token or None,
            cookies=connection.cookies or None,
            namespace=connection.namespace or "kubeflow",
            ssl_ca_cert=connection.ca_certificate or None,
        )


def _upload(client: Any, job: Job, namespace: str) -> tuple[str, str]:
    """Pipeline and version id of the compiled pipeline; uploads what is not there yet."""
    with _quiet():
        pipeline_id = client.get_pipeline_id(job.pipeline)
        if pipeline_id is None:
            pipeline_id = client.upload_pipeline(
                str(job.package), pipeline_name=job.pipeline, namespace=namespace or None
            ).pipeline_id
        token = ""
        while True:
            listing = client.list_pipeline_versions(pipeline_id, page_token=token, page_size=100)
            for known in listing.pipeline_versions or []:
                if known.display_name == job.version:
                    return pipeline_id, known.pipeline_version_id
            token = listing.next_page_token or ""
            if not token:
                break
        uploaded = client.upload_pipeline_version(str(job.package), job.version, pipeline_id=pipeline_id)
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
def _quiet() -> Iterator[None]:
    """Without kfp's own links, which are in our result, and its word that an API older than 2023's will not do."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@contextmanager
def api_errors(host: str) -> Iterator[None]:
    """Turn what the API refuses into errors of the family."""
    from kfp_server_api.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        raise _refusal(host, error.status, error.reason, str(error.body)) from error
