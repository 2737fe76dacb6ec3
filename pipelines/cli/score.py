"""`rankgate score`: every user of a run, ranked into Parquet."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from components.artifacts import documents
from pipelines.cli.options import json_option, out_option
from pipelines.runs import Home


@click.command()
@click.argument("name", metavar="RUN", default="latest")
@out_option
@click.option("--k", type=click.IntRange(1), default=50, show_default=True, help="Most items a user.")
@click.option(
    "--block-users",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Users a file; memory grows with it.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads to score with.")
@click.option(
    "--trust",
    "trusted",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Public key, or folder of them, of a reviewer: only an approved run is scored. Exits 4 where none approved it.",
)
@json_option
@click.pass_obj
def score(
    home: str, name: str, out: Path, k: int, block_users: int, threads: int, trusted: tuple[Path, ...], as_json: bool
) -> None:
    """Rank all users of RUN as of its release cut, and a visitor, into Parquet files below --out.

    For e-mail, and for the list that a service falls back on. Stopped at any moment, the same command goes on: finished files
    whose bytes are still as they were written are kept. docs/serving.md describes the files.
    """
    from components.ranker.batch import score_users

    run = Home(Path(home)).find(name)
    release = ""
    if trusted:
        from pipelines.releasing import verify_release

        release = verify_release(run, trusted).digest
    began, began_cpu = time.perf_counter(), time.process_time()
    batch = score_users(
        run.artifact("ranker"),
        out=out,
        k=k,
        release=release,
        block_users=block_users,
        threads=threads,
        progress=lambda message: click.echo(f"{time.perf_counter() - began:6.0f} s  {message}", err=True),
    )
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    if as_json:
        taken = {"seconds": round(seconds, 3), "cpu_seconds": round(cpu_seconds, 3)}
        click.echo(json.dumps({**documents.as_json(batch), **taken, "folder": str(out)}, indent=2))
        return
    plan = batch.plan
    click.echo(f"{plan.users} users, {batch.rows} rows, {batch.pairs} pairs scored, as of {plan.as_of}")
    click.echo(f"release {release}" if release else "checked against no approval (give --trust to ship these lists)")
    click.echo(f"{out / 'batch.json'}  ({seconds:.1f} s, {cpu_seconds:.1f} s of CPU)")


COMMANDS = {"score": score}
