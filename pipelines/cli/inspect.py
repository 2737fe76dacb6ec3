"""`rankgate runs`, `show`, `card` and `compare`: looking at what was done."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Any

import click

from components.artifacts import documents
from components.errors import InputError
from pipelines.cli.options import json_option
from pipelines.runs import Home, Run
from pipelines.waiving import standing


@click.command()
@json_option
@click.pass_obj
def runs(home: str, as_json: bool) -> None:
    """List runs, newest first."""
    found = Home(Path(home)).runs()
    if as_json:
        click.echo(json.dumps([_line(run) for run in found], indent=2))
        return
    if not found:
        click.echo(f"No runs below {home}. Start one: rankgate demo")
        return
    from rich.table import Table

    from pipelines.cli.display import results

    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in ("run", "state", "asked", "by", "incumbent", "seconds"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for run in found:
        line = _line(run)
        line["state"] = ", ".join(filter(None, (line["state"], line["waivers"])))
        table.add_row(*(str(line[key]) for key in ("run", "state", "asked_at", "submitted_by", "incumbent", "seconds")))
    results().print(table)


def _line(run: Run) -> dict[str, Any]:
    request, result = run.request, run.result
    return {
        "run": run.name,
        "state": run.state,
        "waivers": _waivers(run),
        "asked_at": request.asked_at,
        "submitted_by": request.submitted_by,
        "incumbent": request.incumbent_run or "—",
        "seconds": round(result.timing.total_seconds, 1) if result else "",
    }


def _waivers(run: Run) -> str:
    if not run.waivers.is_dir():
        return ""
    try:
        return standing(run).words
    except InputError:
        # One file that is no waiver must not hide every other run; `show` says what is wrong with it.
        return "waivers unreadable"


@click.command()
@click.argument("name", metavar="RUN", default="latest")
@json_option
@click.pass_obj
def show(home: str, name: str, as_json: bool) -> None:
    """Show RUN (a name, the start of one, or `latest`): verdict, artefacts, where its time went."""
    from pipelines.cli.run import describe, read_verdict

    run = Home(Path(home)).find(name)
    if as_json:
        click.echo(json.dumps(describe(run), indent=2))
        return
    from rich.table import Table

    from pipelines.cli.display import results, timing_table, verdict_table, waiver_lines

    console = results()
    request = run.request
    stands = standing(run)
    console.print(f"[bold]{run.name}[/]  {stands.beside(run.state)}")
    console.print(
        f"asked by {request.submitted_by} at {request.asked_at}; seed {request.seed}, {request.threads} threads"
    )
    console.print(f"incumbent: {request.incumbent_run or 'none (first release)'}")
    if "verdict" in run.artifact_digests():
        verdict = read_verdict(run)
        console.print()
        console.print(verdict_table(verdict, waived=stands.waived))
        console.print()
        console.print(verdict.summary)
        for line in waiver_lines(stands):
            console.print(line, style="yellow", markup=False)
        for outcome in verdict.outcomes:
            if outcome.answer != "pass":
                for finding in outcome.findings:
                    if finding.answer != "pass":
                        console.print(f"  {outcome.criterion}: {finding.message}", style="dim")
    table = Table(box=None, padding=(0, 2), header_style="dim", title="artefacts", title_justify="left")
    table.add_column("name")
    table.add_column("digest")
    for artifact, digest in run.artifact_digests().items():
        table.add_row(artifact, digest)
    console.print()
    console.print(table)
    result = run.result
    if result:
        if result.message:
            console.print(f"\n{result.message}", style="red")
        console.print()
        console.print(timing_table(result.timing))


@click.command()
@click.argument("name", metavar="RUN", default="latest")
@click.option("--open", "open_it", is_flag=True, help="Open it in a browser.")
@click.option("--markdown", is_flag=True, help="Print the Markdown card instead.")
@click.pass_obj
def card(home: str, name: str, open_it: bool, markdown: bool) -> None:
    """Print where RUN's model card is; open or print it."""
    folder = Home(Path(home)).find(name).artifact("card")
    if markdown:
        click.echo((folder / "card.md").read_text(encoding="utf-8"))
        return
    click.echo(folder / "card.html")
    if open_it and not webbrowser.open((folder / "card.html").as_uri()):
        click.echo("No browser could be started; open the file above in one.", err=True)


@click.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@json_option
@click.pass_obj
def compare(home: str, first: str, second: str, as_json: bool) -> None:
    """Compare runs A and B: what went in, what came out."""
    from pipelines.comparison import compare_runs

    place = Home(Path(home))
    comparison = compare_runs(place.find(first), place.find(second))
    if as_json:
        click.echo(json.dumps(documents.as_json(comparison), indent=2))
        return
    from rich.table import Table

    from pipelines.cli.display import results

    console = results()
    for title, rows in (
        ("went in", comparison.inputs),
        ("was measured", comparison.figures),
        ("decided", comparison.answers),
    ):
        table = Table(
            box=None, padding=(0, 2), header_style="dim", title=title, title_justify="left", title_style="bold"
        )
        for column in ("", comparison.first, comparison.second, "difference"):
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(row.name, row.first, row.second, row.difference, style="" if row.difference else "dim")
        console.print(table)
        console.print()


COMMANDS = {"runs": runs, "show": show, "card": card, "compare": compare}
