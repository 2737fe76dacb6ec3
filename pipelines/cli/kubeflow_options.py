"""Options of the commands that speak to Kubeflow: where it is, how a run is filed, how its steps are set up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.artifacts.image import STEP_IMAGE
from components.errors import InputError

if TYPE_CHECKING:
    from pipelines.kubeflow import Connection, RunOptions
    from pipelines.placing import StepOptions

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _all(*options: Decorator) -> Decorator:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


connection_options = _all(
    click.option("--host", required=True, envvar="RANKGATE_KUBEFLOW", help="Address of the Kubeflow Pipelines API."),
    click.option(
        "--token-file", type=click.Path(path_type=Path), help="File with a bearer token (a service account's, say)."
    ),
    click.option(
        "--cookies-file", type=click.Path(path_type=Path), help="File with the cookie of a signed-in session."
    ),
    click.option("--ca-certificate", type=click.Path(path_type=Path), help="Certificate the API's is signed by."),
    click.option("--namespace", default="", help="Profile namespace, on a multi-user Kubeflow."),
)
filing_options = _all(
    click.option("--experiment", default="rankgate", show_default=True),
    click.option("--cache/--no-cache", default=True, show_default=True, help="Let Kubeflow reuse finished steps."),
    click.option("--service-account", default="", help="Account that the steps run as."),
    click.option("--pipeline-root", default="", help="Where Kubeflow keeps artefacts, such as s3://bucket/folder."),
)
step_options = _all(
    click.option("--image", default=STEP_IMAGE, show_default=True, help="Image of every step; by digest, please."),
    click.option("--cpu", default="", help="CPU of each step, such as 2."),
    click.option("--memory", default="", help="Memory of each step, such as 8Gi."),
    click.option("--secret", default="", metavar="NAME", help="Kubernetes Secret with the object storage's account."),
    click.option(
        "--secret-as",
        "account_as",
        type=click.Choice(["env", "volume"]),
        default="env",
        show_default=True,
        help="Its AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY as variables, or its file `credentials` mounted.",
    ),
    click.option(
        "--endpoint", default="", help="Address of an object storage that is not AWS's, as the cluster sees it."
    ),
    click.option("--region", default="", help="Region of the object storage."),
    click.option(
        "--scratch", default="", metavar="SIZE", help="A volume for each step's temporary files, such as 50Gi."
    ),
    click.option("--scratch-class", default="", metavar="NAME", help="Storage class of that volume."),
)

CONNECTION = ("host", "token_file", "cookies_file", "ca_certificate", "namespace")
FILING = ("experiment", "cache", "service_account", "pipeline_root")
STEPS = ("image", "cpu", "memory", "secret", "account_as", "endpoint", "region", "scratch", "scratch_class")


def connection_of(given: dict[str, Any]) -> Connection:
    """The connection that a command's options name."""
    from pipelines.kubeflow import Connection

    return Connection(
        host=given["host"],
        token=_secret(given["token_file"]),
        cookies=_secret(given["cookies_file"]),
        namespace=given["namespace"],
        ca_certificate=str(given["ca_certificate"] or ""),
    )


def filing_of(given: dict[str, Any], *, cron: str = "") -> RunOptions:
    """How a run is filed, by a command's options."""
    from pipelines.kubeflow import RunOptions

    return RunOptions(**{name: given[name] for name in FILING}, cron=cron)


def steps_of(given: dict[str, Any]) -> StepOptions:
    """How steps are set up, by a command's options."""
    from pipelines.placing import StepOptions

    return StepOptions(**{name: given[name] for name in STEPS})


def _secret(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); needed a file that holds the secret.") from error
