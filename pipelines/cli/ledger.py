"""`rankgate ledger`, `rankgate revoke`, and what `rankgate approve --cluster` adds: a cluster's list of what may run in it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from components.artifacts import documents
from pipelines.cli.options import json_option
from pipelines.ledger import ClusterTarget, Written
from pipelines.runs import Home

_context = click.option("--context", default="", help="Context of the kubeconfig; its current one where absent.")
_namespace = click.option("--namespace", default="ranking", show_default=True, help="Whose ledger.")


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--cluster and what goes with it; the command is given a `ClusterTarget`, or None without --cluster."""

    @click.option("--cluster", is_flag=True, help="Write it into the cluster's ledger too, as who you are there.")
    @click.option("--image", default="", help="With --cluster: image of the run's bento, registry/name@sha256:...")
    @_context
    @_namespace
    @functools.wraps(command)
    def with_target(*args: Any, cluster: bool, image: str, context: str, namespace: str, **more: Any) -> Any:
        if not cluster and (image or context):
            raise click.UsageError(f"{'--image' if image else '--context'} says where in a cluster: add --cluster.")
        return command(*args, **more, cluster=ClusterTarget(namespace, context, image) if cluster else None)

    return with_target


def approve_there(
    home: str,
    name: str,
    target: ClusterTarget,
    *,
    key: str,
    approver: str,
    reason: str,
    trusted: tuple[Path, ...],
    as_json: bool,
) -> None:
    """`rankgate approve --cluster`."""
    from pipelines.ledger import approve_in_cluster

    run = Home(Path(home)).find(name)
    written = approve_in_cluster(run, target, key=key, approver=approver, reason=reason, trusted=trusted)
    if as_json:
        click.echo(json.dumps(documents.as_json(written), indent=2))
        return
    entry = written.entry
    word = "is in" if written.new else "was already in"
    click.echo(f"{entry.run}: approved by {entry.approver}\nrelease {entry.digest}")
    click.echo(f"{word} the ledger of {written.namespace} as {entry.image}")


@click.command()
@click.argument("release", metavar="RELEASE")
@click.option("--cluster", is_flag=True, required=True, help="In the cluster's ledger.")
@click.option("--reason", required=True, help="Why, in a sentence: those read it whose Pods are refused.")
@_context
@_namespace
@json_option
def revoke(release: str, cluster: bool, reason: str, context: str, namespace: str, as_json: bool) -> None:  # noqa: ARG001
    """Revoke RELEASE (a digest, what it begins with, or a run) for good: no new Pod of it is admitted."""
    from pipelines.ledger import revoke_in_cluster

    written = revoke_in_cluster(release, ClusterTarget(namespace, context), reason=reason)
    if as_json:
        click.echo(json.dumps(documents.as_json(written), indent=2))
        return
    _tell_revoked(written)


def _tell_revoked(written: Written) -> None:
    entry = written.entry
    word = "revoked" if written.new else "was already revoked"
    if entry.revoked:
        click.echo(f"{entry.run}: {word} by {entry.revoked.by} at {entry.revoked.at}: {entry.revoked.reason}")
    click.echo(f"release {entry.digest}")
    if written.running:
        count = "1 Pod still runs" if len(written.running) == 1 else f"{len(written.running)} Pods still run"
        click.echo(
            f"\n{count} it: {', '.join(written.running)}. Nothing new is admitted, and nothing is ended either:\n"
            f"  rankgate manifests EARLIER-RUN ...       renders an earlier release to go back to\n"
            f"  kubectl -n {written.namespace} get deployments,pods -l app.kubernetes.io/component=ranker",
            err=True,
        )


@click.command()
@_context
@_namespace
@json_option
def ledger(context: str, namespace: str, as_json: bool) -> None:
    """List the releases of a cluster's ledger, the latest first."""
    from pipelines.ledger import read_cluster

    held = read_cluster(ClusterTarget(namespace, context))
    if as_json:
        click.echo(json.dumps(documents.as_json(held), indent=2))
        return
    if not held.entries:
        click.echo(
            f"The ledger of {namespace} has no releases. Add one: rankgate approve RUN --cluster --image ...", err=True
        )
        return
    from rich.table import Table

    from pipelines.cli.display import results

    table = Table(box=None, pad_edge=False)
    for heading in ("release", "run", "approved by", "at", "submitted by", "state"):
        table.add_column(heading, overflow="fold")
    for entry in held.entries:
        revoked = entry.revoked
        state = f"revoked by {revoked.by} at {revoked.at}: {revoked.reason}" if revoked else "may run"
        table.add_row(
            entry.digest[:12], entry.run, entry.approver, entry.approved_at, entry.submitter, state,
            style="dim" if revoked else "",
        )  # fmt: skip
    results().print(table)
    for name, image in held.infrastructure.items():
        click.echo(f"infrastructure  {name}  {image}")


COMMANDS = {"ledger": ledger, "revoke": revoke}
