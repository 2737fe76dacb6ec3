"""`rankgate run` and `rankgate demo`: from tables to a card and a verdict."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from components.artifacts import documents
from components.verdict.contract import Verdict
from components.verdict.outcomes import is_waivable
from pipelines.cli.options import find_policy, json_option, policy_option
from pipelines.comparison import described
from pipelines.local import raise_outcome, run_locally
from pipelines.request import RunRequest, make_request
from pipelines.runs import Home, Run
from pipelines.waiving import standing


def _run_options(command: Any) -> Any:
    for option in reversed(
        (
            policy_option,
            click.option(
                "--incumbent", metavar="RUN", help="Run whose ranker is in service; the candidate is held against it."
            ),
            click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random."),
            click.option(
                "--threads",
                type=click.IntRange(1),
                default=min(2, os.cpu_count() or 1),
                show_default=True,
                help="Threads to train with.",
            ),
            click.option(
                "--as", "submitter", metavar="NAME", help="Who submits; RANKGATE_USER or your account where absent."
            ),
            json_option,
        )
    ):
        command = option(command)
    return command


@click.command()
@click.argument("contract", type=click.Path(path_type=Path))
@_run_options
@click.pass_obj
def run(
    home: str,
    contract: Path,
    policy: Path | None,
    incumbent: str | None,
    seed: int,
    threads: int,
    submitter: str | None,
    as_json: bool,
) -> None:
    """Take CONTRACT's tables through every gate to a model card and a verdict.

    CONTRACT is a dataset contract (docs/dataset-contract.md). Steps that were done before, on the same data by the same
    code, are not done again; a run that was stopped goes on where it was. Exits 3 where a gate blocks.
    """
    place = Home(Path(home))
    request = _request(place, contract, find_policy(policy), incumbent, seed, threads, submitter)
    _go(place, request, as_json=as_json)


@click.command()
@click.option("--scale", type=click.FloatRange(0.02, 10), default=1.0, show_default=True, help="Size of the shop.")
@_run_options
@click.pass_obj
def demo(
    home: str,
    scale: float,
    policy: Path | None,
    incumbent: str | None,
    seed: int,
    threads: int,
    submitter: str | None,
    as_json: bool,
) -> None:
    """Generate a shop's event log and take it through every gate to a model card.

    Impressions with positions, clicks, add-to-carts, purchases; users with segments; items with categories, prices and
    providers; seasons, launches, bots and dirty rows. All of it is made from the seed.
    """
    from components.events.shop import generate_shop

    place = Home(Path(home))
    folder = place.root / "demo" / f"seed-{seed}-scale-{scale:g}"
    contract = folder / "dataset.yaml"
    if not contract.exists():
        click.echo("Generating a shop's event log ...", err=True)
        folder.mkdir(parents=True, exist_ok=True)
        contract = generate_shop(folder, seed=seed, scale=scale)
    request = _request(place, contract, find_policy(policy), incumbent, seed, threads, submitter)
    _go(place, request, as_json=as_json)


def _request(
    home: Home, contract: Path, policy: Path, incumbent: str | None, seed: int, threads: int, submitter: str | None
) -> RunRequest:
    digest, name, before = "", "", None
    if incumbent:
        incumbent_run = home.find(incumbent)
        incumbent_run.artifact("ranker")
        digest, name = incumbent_run.artifact_digests()["ranker"], incumbent_run.name
        before = described(incumbent_run)
    return make_request(
        contract,
        policy,
        incumbent=digest,
        incumbent_run=name,
        before=before,
        seed=seed,
        threads=threads,
        submitted_by=submitter or "",
    )


def _go(home: Home, request: RunRequest, *, as_json: bool) -> None:
    from pipelines.candidate_steps import STEPS
    from pipelines.cli.display import StepProgress

    click.echo(f"Run {request.run}", err=True)
    with StepProgress(STEPS) as progress:
        done = run_locally(request, home, watch=progress)
    if as_json:
        # One document, whatever came of the run: its `message` and `exit_code` say why.
        click.echo(json.dumps(describe(done), indent=2))
        raise click.exceptions.Exit(done.result.exit_code if done.result else 1)
    if "verdict" in done.artifact_digests():
        _print_result(done)
    raise_outcome(done)


def describe(run: Run) -> dict[str, Any]:
    """A run as one JSON value: result, verdict, timings, places."""
    result = run.result
    value: dict[str, Any] = {"run": run.name, "state": run.state, "folder": str(run.folder)}
    if result:
        value |= documents.as_json(result) | {"artifacts": run.artifact_digests()}
    if "verdict" in run.artifact_digests():
        value["verdict"] = documents.as_json(read_verdict(run))
        value["waivers"] = documents.as_json(standing(run))
    if "card" in run.artifact_digests():
        value["card"] = str(run.folder / "artifacts" / "card" / "card.html")
    return value


def read_verdict(run: Run) -> Verdict:
    """The verdict of a run."""
    return documents.load(Verdict, run.artifact("verdict") / "verdict.json")


def _print_result(run: Run) -> None:
    from pipelines.cli.display import results, timing_table, verdict_table

    console = results()
    verdict = read_verdict(run)
    console.print()
    console.print(verdict_table(verdict))
    console.print()
    console.print(verdict.summary, style="bold green" if verdict.answer == "passed" else "bold red")
    if run.result:
        console.print()
        console.print(timing_table(run.result.timing))
    if "card" not in run.artifact_digests():
        return
    console.print(f"\nCard: {_shown(run.folder / 'artifacts' / 'card' / 'card.html')}")
    console.print("\nNext:")
    for line in next_commands(run, passed=verdict.answer == "passed"):
        console.print(f"  {line}", soft_wrap=True)


def next_commands(run: Run, *, passed: bool) -> list[str]:
    """What a person does after a run, as commands to paste."""
    # Without the environment on PATH the command must be named as it was called.
    program = "rankgate" if shutil.which("rankgate") else str(_shown(Path(sys.argv[0]).absolute()))
    if not passed:
        waivable = [outcome.criterion for outcome in read_verdict(run).outcomes if is_waivable(outcome)]
        return [
            f"{program} card {run.name} --open",
            f"{program} show {run.name}",
            *(
                f"{program} waive {run.name} {criterion} --key KEY --as NAME --reason '...' --until DAY"
                for criterion in waivable
            ),
        ]
    return [
        f"{program} card {run.name} --open",
        f"{program} keys new reviewer.key",
        f"{program} review --key reviewer.key --as reviewer@example.com --open",
        f"{program} approve {run.name} --key reviewer.key --as reviewer@example.com --reason 'read the card'",
        f"{program} package {run.name} --trust reviewer.key.pub",
        f"{program} serve {run.name} --trust reviewer.key.pub",
    ]


def _shown(path: Path) -> Path:
    """A path as a person would type it from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


COMMANDS = {"run": run, "demo": demo}
