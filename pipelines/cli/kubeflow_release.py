"""`rankgate release`: an approved run's release on Kubeflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from components.artifacts import documents
from pipelines.cli.kubeflow_options import (
    connection_of,
    connection_options,
    filing_of,
    filing_options,
    step_options,
    steps_of,
)
from pipelines.cli.options import json_option
from pipelines.runs import Home


@click.command()
@click.argument("name", metavar="RUN", default="latest")
@click.option(
    "--trust",
    "trusted",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Public key, or folder of them, of a reviewer whose word counts.",
)
@click.option("--artefacts", required=True, metavar="s3://...", help="Folder that the cluster reads artefacts from.")
@click.option(
    "--bento-image", default="", help="Image of the bento, pinned by digest: manifests are rendered for it, too."
)
@click.option("--serve-in", default="ranking", show_default=True, metavar="NAMESPACE", help="Where it will serve.")
@connection_options
@filing_options
@step_options
@json_option
@click.pass_obj
def release(
    home: str,
    /,
    name: str,
    trusted: tuple[Path, ...],
    artefacts: str,
    bento_image: str,
    serve_in: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Start the release of RUN on Kubeflow, by its approval: verify in the cluster, build the bento, render manifests.

    The approval is checked here first, and exits 4 where it does not hold; the pipeline checks it again before anything is
    built. What it is about is put into object storage under its digests.
    """
    from pipelines.kubeflow_release import Target, submit_release

    let_out, submitted = submit_release(
        Home(Path(home)).find(name),
        trusted,
        connection_of(given),
        filing_of(given),
        steps_of(given),
        root=artefacts,
        target=Target(image=bento_image, namespace=serve_in),
    )
    if as_json:
        click.echo(json.dumps({**documents.as_json(submitted), "release": let_out.digest}, indent=2))
        return
    click.echo(f"{submitted.kind} {submitted.name}: {submitted.url}\nrelease {let_out.digest}")


COMMANDS = {"release": release}
