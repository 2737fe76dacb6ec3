"""`rankgate compile` and `rankgate submit`: the same pipeline on Kubeflow."""

from __future__ import annotations

import json
from pathlib import Path

import click

from components.artifacts import documents
from components.artifacts.image import STEP_IMAGE
from components.errors import InputError
from pipelines.cli.options import find_policy, json_option, policy_option
from pipelines.request import make_request

_image = click.option("--image", default=STEP_IMAGE, show_default=True, help="Image of every step; by digest, please.")
_cpu = click.option("--cpu", default="", help="CPU of each step, such as 2.")
_memory = click.option("--memory", default="", help="Memory of each step, such as 8Gi.")


@click.command("compile")
@click.option("--out", type=click.Path(path_type=Path), default=Path("candidate.yaml"), show_default=True)
@_image
@_cpu
@_memory
@json_option
def compile_(out: Path, image: str, cpu: str, memory: str, as_json: bool) -> None:
    """Write the pipeline for Kubeflow: the same code and options always give the same bytes."""
    from pipelines.candidate import StepOptions
    from pipelines.kubeflow import compile_pipeline

    digest = compile_pipeline(out, StepOptions(image=image, cpu=cpu, memory=memory))
    click.echo(json.dumps({"file": str(out), "sha256": digest}) if as_json else f"{out}  sha256 {digest}")


@click.command()
@click.argument("contract", type=click.Path(path_type=Path))
@click.option("--host", required=True, envvar="RANKGATE_KUBEFLOW", help="Address of the Kubeflow Pipelines API.")
@click.option(
    "--token-file", type=click.Path(path_type=Path), help="File with a bearer token (a service account's, say)."
)
@click.option("--cookies-file", type=click.Path(path_type=Path), help="File with the cookie of a signed-in session.")
@click.option("--ca-certificate", type=click.Path(path_type=Path), help="Certificate the API's is signed by.")
@click.option("--namespace", default="", help="Profile namespace, on a multi-user Kubeflow.")
@click.option("--experiment", default="rankgate", show_default=True)
@click.option("--cache/--no-cache", default=True, show_default=True, help="Let Kubeflow reuse finished steps.")
@click.option("--service-account", default="", help="Account that the steps run as.")
@click.option("--pipeline-root", default="", help="Where Kubeflow keeps artefacts, such as s3://bucket/folder.")
@click.option(
    "--schedule", "cron", default="", metavar="CRON", help="Six-field cron expression: a schedule, not one run."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--as", "submitter", default="", metavar="NAME", help="Who submits.")
@policy_option
@_image
@_cpu
@_memory
@json_option
def submit(
    contract: Path,
    host: str,
    token_file: Path | None,
    cookies_file: Path | None,
    ca_certificate: Path | None,
    namespace: str,
    experiment: str,
    cache: bool,
    service_account: str,
    pipeline_root: str,
    cron: str,
    seed: int,
    threads: int,
    submitter: str,
    policy: Path | None,
    image: str,
    cpu: str,
    memory: str,
    as_json: bool,
) -> None:
    """Upload the pipeline to Kubeflow and start a run of CONTRACT, or a schedule with --schedule.

    The contract's tables must be s3:// paths.
    """
    from pipelines.candidate import StepOptions
    from pipelines.kubeflow import Connection, RunOptions
    from pipelines.kubeflow import submit as submit_run

    submitted = submit_run(
        make_request(contract, find_policy(policy), seed=seed, threads=threads, submitted_by=submitter),
        Connection(
            host=host,
            token=_secret(token_file),
            cookies=_secret(cookies_file),
            namespace=namespace,
            ca_certificate=str(ca_certificate or ""),
        ),
        RunOptions(
            experiment=experiment,
            cache=cache,
            service_account=service_account,
            pipeline_root=pipeline_root,
            cron=cron,
        ),
        StepOptions(image=image, cpu=cpu, memory=memory),
    )
    if as_json:
        click.echo(json.dumps(documents.as_json(submitted), indent=2))
        return
    click.echo(f"{submitted.kind} {submitted.name}: {submitted.url}")


def _secret(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); needed a file that holds the secret.") from error


COMMANDS = {"compile": compile_, "submit": submit}
