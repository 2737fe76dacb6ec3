"""`rankgate exposures`: what a service has shown, as the next run's events."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from components.artifacts import documents
from components.errors import Fault, FaultyInputError
from pipelines.cli.options import json_option, out_option


@click.group()
def exposures() -> None:
    """Turn what a service has shown into the next run's events."""


@exposures.command()
@click.argument("folder", type=click.Path(path_type=Path))
@out_option
@click.option("--event", default="impression", show_default=True, help="What your log calls an impression.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="OURS=YOURS",
    help="What your event files call a column, as `columns` of the dataset contract; repeat it for each.",
)
@click.option("--remove", is_flag=True, help="Remove each exposure file once its rows are whole.")
@json_option
def convert(folder: Path, out: Path, event: str, columns: tuple[str, ...], remove: bool, as_json: bool) -> None:
    """Convert the closed exposure files of FOLDER to Parquet below --out, an impression for each place.

    Run it as often as you like: what is converted and whole is kept, what is still written to is left for another time.
    docs/serving.md says what a dataset contract needs to read it.
    """
    from components.serving.exposure_tables import FRAGMENT, Naming, convert_exposures

    naming = Naming(event, _columns(columns))
    began = time.perf_counter()
    done = convert_exposures(
        folder,
        out=out,
        naming=naming,
        remove=remove,
        progress=lambda message: click.echo(f"{time.perf_counter() - began:6.0f} s  {message}", err=True),
    )
    if as_json:
        click.echo(json.dumps({**documents.as_json(done), "folder": str(out)}, indent=2))
        return
    click.echo(f"{done.rows} impressions of {done.lists} lists in {done.converted + done.kept} files")
    notes = {
        f"{done.kept} files were converted before": done.kept,
        f"{done.unfinished} files are still written to": done.unfinished,
        f"{done.removed} exposure files removed": done.removed,
        f"{done.visitors} places shown to visitors left out: a snapshot needs to know whose event it is": done.visitors,
        f"{done.torn_files} files end in a line whose writer was ended": done.torn_files,
        f"{done.damaged_lines} damaged lines skipped": done.damaged_lines,
    }
    for note, count in notes.items():
        if count:
            click.echo(note)
    if done.converted + done.kept:
        click.echo(f"{out / FRAGMENT}")


def _columns(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    if faults := [
        Fault("--column", repr("".join(pair)), "our name, =, and yours, such as ts=happened_at")
        for pair in pairs
        if not (pair[0] and pair[2])
    ]:
        raise FaultyInputError("options", faults)
    return {ours: theirs for ours, _, theirs in pairs}


COMMANDS = {"exposures": exposures}
