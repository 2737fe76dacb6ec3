"""`rankgate features share`: users of a run's features, or of published ones, written to a store that a fleet shares."""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from components.artifacts import documents
from components.errors import InputError
from pipelines.cli.options import json_option
from pipelines.runs import Home


@click.command()
@click.argument("name", metavar="RUN", default="latest")
@click.option(
    "--published",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of a publication for RUN, or of all of its release's (the one in service is taken); without it the features "
    "that RUN has itself.",
)
@click.option(
    "--to",
    "store",
    metavar="ADDRESS",
    required=True,
    help="redis://HOST[:PORT][/DATABASE], or rediss:// for TLS. A password is taken from RANKGATE_STORE_PASSWORD, or the file "
    "that RANKGATE_STORE_PASSWORD_FILE names.",
)
@click.option(
    "--keep-hours",
    type=click.IntRange(1, 24 * 365),
    default=168,
    show_default=True,
    help="How long the set is kept. Share again before half of it has passed, or publish newer features.",
)
@click.option("--again", is_flag=True, help="Write every user even where the set is whole.")
@json_option
@click.pass_obj
def share(
    home: str, name: str, published: Path | None, store: str, keep_hours: int, again: bool, as_json: bool
) -> None:
    """Write what services look up of each user to a store that speaks the Redis protocol.

    Services of RUN that RANKGATE_STORE points there read users from it instead of laying them out in memory. A set is used once
    all of it is there. Stopped at any moment, the same command goes on. docs/shared-store.md says what services do without it.
    """
    from components.ranker.scoring import LoadedRanker
    from components.serving.shared_store_address import address_of
    from components.serving.shared_store_writing import share_users

    address = address_of(store, os.environ)
    run = Home(Path(home)).find(name)
    began = time.perf_counter()

    def tell(message: str) -> None:
        click.echo(f"{time.perf_counter() - began:6.0f} s  {message}", err=True)

    ranker = LoadedRanker.open(run.artifact("ranker"), users_elsewhere=True)
    if published is not None:
        ranker = ranker.refreshed(_publication(published))
    done = asyncio.run(share_users(ranker, address, keep_seconds=keep_hours * 3_600, again=again, progress=tell))
    if as_json:
        took = {"seconds": round(time.perf_counter() - began, 3), "bytes_a_user": _each(done.value_bytes, done.written)}
        click.echo(json.dumps({**documents.as_json(done), **took}, indent=2))
        return
    until = datetime.fromtimestamp(done.until, UTC).isoformat(timespec="minutes")
    if done.written:
        click.echo(f"{done.written} of {done.users} users written, {_each(done.value_bytes, done.written)} bytes each")
    else:
        click.echo(f"{done.users} users are there already (--again writes them all the same)")
    click.echo(f"set {done.user_set[:32]} is current in {done.store} until {until}")
    if done.previous not in ("", done.user_set):
        click.echo(f"set {done.previous[:32]}, which was, expires by itself")


def _publication(folder: Path) -> Path:
    """A publication needs no check here: a set is named by its files, and services only ask for the set of what they checked."""
    from components.ranker.storage import USERS
    from components.serving.features_root import read_pointer

    current = read_pointer(folder)
    place = folder if current is None else folder / current
    if not (place / USERS).is_file():
        raise InputError(
            f"{place}: found no {USERS} in it; needed a publication. rankgate features publish makes one below its --out, in a "
            "folder of the release."
        )
    return place


def _each(total: int, count: int) -> int:
    return round(total / count) if count else 0
