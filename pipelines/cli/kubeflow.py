"""`rankgate compile`, `submit` and `schedules`: the same pipeline on Kubeflow, once or again and again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from components.artifacts import documents
from components.errors import InputError
from pipelines.cli.kubeflow_options import (
    connection_of,
    connection_options,
    filing_of,
    filing_options,
    step_options,
    steps_of,
)
from pipelines.cli.options import find_policy, json_option, policy_option
from pipelines.request import make_request
from pipelines.runs import Home


@click.command("compile")
@click.option("--out", type=click.Path(path_type=Path), default=Path("candidate.yaml"), show_default=True)
@click.option("--release", is_flag=True, help="The pipeline that releases, which an approval starts.")
@click.option(
    "--trust",
    "trusted",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Public key, or folder of them, that the release pipeline trusts: part of it, and no argument of a run.",
)
@step_options
@json_option
def compile_(out: Path, release: bool, trusted: tuple[Path, ...], as_json: bool, **given: Any) -> None:
    """Write the pipeline for Kubeflow: the same code and options always give the same bytes."""
    from components.approval.released import read_trust
    from pipelines.kubeflow import compile_pipeline, compile_release

    if release != bool(trusted):
        raise InputError(
            "compile: found only one of --release and --trust; needed both: a release pipeline trusts somebody's keys."
        )
    if release:
        digest = compile_release(out, steps_of(given), trust=read_trust(trusted))
    else:
        digest = compile_pipeline(out, steps_of(given))
    click.echo(json.dumps({"file": str(out), "sha256": digest}) if as_json else f"{out}  sha256 {digest}")


@click.command()
@click.argument("contract", type=click.Path(path_type=Path))
@connection_options
@filing_options
@click.option(
    "--schedule",
    "cron",
    default="",
    metavar="CRON",
    help='A schedule instead of one run, in UTC: "0 3 * * *", or six fields with seconds first.',
)
@click.option(
    "--incumbent",
    default="",
    metavar="RUN|s3://...",
    help="Ranker in service: a run on this machine, or a ranker's folder in object storage.",
)
@click.option(
    "--artefacts", default="", metavar="s3://...", help="Where the ranker of an incumbent's run is put for the cluster."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
@click.option("--as", "submitter", default="", metavar="NAME", help="Who submits.")
@policy_option
@step_options
@json_option
@click.pass_obj
def submit(
    home: str,
    /,
    contract: Path,
    cron: str,
    incumbent: str,
    artefacts: str,
    seed: int,
    threads: int,
    submitter: str,
    policy: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Upload the pipeline to Kubeflow and start a run of CONTRACT, or a schedule with --schedule.

    The contract's tables must be s3:// paths. A schedule judges each run's log as of the moment that it runs, with the tables
    as they are then.
    """
    from pipelines.incumbents import find_incumbent
    from pipelines.kubeflow import submit as submit_run

    held = find_incumbent(Home(Path(home)), incumbent, root=artefacts)
    submitted = submit_run(
        make_request(
            contract,
            find_policy(policy),
            incumbent=held.digest,
            incumbent_run=held.run,
            before=held.before,
            seed=seed,
            threads=threads,
            submitted_by=submitter,
        ),
        connection_of(given),
        filing_of(given, cron=cron),
        steps_of(given),
        incumbent=held.place,
    )
    if as_json:
        click.echo(json.dumps(documents.as_json(submitted), indent=2))
        return
    click.echo(f"{submitted.kind} {submitted.name}: {submitted.url}")


@click.group()
def schedules() -> None:
    """Kubeflow's schedules of candidates: list them, pause one, take it up again, remove it."""


@schedules.command("list")
@connection_options
@json_option
def list_(as_json: bool, **given: Any) -> None:
    """List the schedules."""
    from pipelines.kubeflow_schedules import list_schedules

    found = list_schedules(connection_of(given))
    if as_json:
        click.echo(json.dumps([documents.as_json(schedule) for schedule in found], indent=2))
        return
    if not found:
        click.echo('No schedules. Make one: rankgate submit CONTRACT --schedule "0 3 * * *"')
    for schedule in found:
        state = "enabled " if schedule.enabled else "disabled"
        click.echo(f"{schedule.identifier}  {state}  {schedule.cron or 'interval':<16}  {schedule.name}")


def _changing(action: Any, line: str, done: str) -> None:
    @schedules.command(action, help=line)
    @click.argument("name", metavar="NAME|ID")
    @connection_options
    def change(name: str, **given: Any) -> None:
        from pipelines.kubeflow_schedules import change_schedule

        schedule = change_schedule(connection_of(given), name, action)
        click.echo(f"{done} {schedule.name} ({schedule.identifier})")


_changing("disable", "Pause a schedule: it starts no run until it is enabled.", "disabled")
_changing("enable", "Take a paused schedule up again.", "enabled")
_changing("delete", "Remove a schedule; what it has run stays.", "deleted")

COMMANDS = {"compile": compile_, "submit": submit, "schedules": schedules}
