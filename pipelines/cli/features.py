"""`rankgate features`: newer features for a release that is in service."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.artifacts import documents
from components.errors import InputError
from pipelines.cli.features_share import share
from pipelines.cli.options import json_option
from pipelines.runs import Home

if TYPE_CHECKING:
    from components.serving.publishing import Listed

_root = click.option(
    "--out",
    "root",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder that services read (RANKGATE_FEATURES).",
)
_key = click.option("--key", required=True, help="Private key: a PEM file, or a URI that securesystemslib knows.")
_as = click.option("--as", "publisher", required=True, metavar="NAME", help="Who publishes.")
_trust = click.option(
    "--trust",
    "trusted",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Public key, or folder of them, of a reviewer whose word counts.",
)


@click.group()
def features() -> None:
    """Publish newer features for a release in service, list them, and go back to earlier ones."""


@features.command()
@click.argument("name", metavar="RUN", default="latest")
@click.option(
    "--events",
    type=click.Path(path_type=Path),
    required=True,
    help="Dataset contract over the newer tables; it must mean what the run's own does.",
)
@_key
@_as
@_root
@_trust
@click.option("--as-of", "as_of", metavar="TIME", help="Moment the log is judged from; the contract's, else now.")
@click.option("--keep", type=click.IntRange(1), default=3, show_default=True, help="Publications that stay.")
@click.option("--force", is_flag=True, help="Publish what is older than what is in service, far fewer, or stale.")
@json_option
@click.pass_obj
def publish(
    home: str,
    name: str,
    events: Path,
    key: str,
    publisher: str,
    root: Path,
    trusted: tuple[Path, ...],
    as_of: str | None,
    keep: int,
    force: bool,
    as_json: bool,
) -> None:
    """Build what RUN's ranker looks up from newer tables, sign it, and put it in service below --out.

    Model, calibration, rules, feature list and category codes stay the approved ones. Services that were told of the folder
    take the new features up within seconds, without a restart. Exits 4 where RUN is not approved.
    """
    from pipelines.features import publish as publishing

    began = time.perf_counter()
    done = publishing(
        Home(Path(home)).find(name),
        events,
        trusted,
        as_of=_moment(as_of),
        key=key,
        publisher=publisher,
        root=root,
        keep=keep,
        force=force,
        progress=lambda message: click.echo(f"{time.perf_counter() - began:6.0f} s  {message}", err=True),
    )
    if as_json:
        click.echo(json.dumps(documents.as_json(done), indent=2))
        return
    manifest = done.manifest
    click.echo(f"features {done.digest}")
    click.echo(f"as of    {manifest.as_of}, from {manifest.events} events up to {manifest.events_until}")
    click.echo(
        f"for      {manifest.users} users and {manifest.items} items, release {manifest.release[:12]} of {manifest.run}"
    )
    if done.open_events:
        click.echo(f"left out {done.open_events} events whose bucket is not over yet")
    for digest in done.removed:
        click.echo(f"removed  {digest}")


@features.command("list")
@click.argument("name", metavar="RUN", default="latest")
@_root
@_trust
@json_option
@click.pass_obj
def list_(home: str, name: str, root: Path, trusted: tuple[Path, ...], as_json: bool) -> None:
    """List the publications of RUN's release, the latest first; the one in service is marked. Signatures are not checked."""
    from components.serving.publishing import list_features
    from pipelines.releasing import verify_release

    release = verify_release(Home(Path(home)).find(name), trusted)
    found = list_features(root, release.digest)
    if as_json:
        click.echo(json.dumps([_described(one) for one in found], indent=2))
        return
    for one in found:
        mark = "*" if one.current else " "
        said = one.publication
        click.echo(
            f"{mark} {one.digest[:12]}  as of {one.manifest.as_of}  {said.published_at[:19]}  {said.published_by}"
        )
    if not found:
        click.echo("none")


@features.command()
@click.argument("name", metavar="RUN")
@click.argument("digest")
@_key
@_as
@_root
@_trust
@json_option
@click.pass_obj
def use(
    home: str, name: str, digest: str, key: str, publisher: str, root: Path, trusted: tuple[Path, ...], as_json: bool
) -> None:
    """Put publication DIGEST (or as many digits of it as name only one) of RUN's release in service again."""
    from pipelines.features import use as using

    used = using(Home(Path(home)).find(name), digest, trusted, key=key, publisher=publisher, root=root)
    if as_json:
        click.echo(json.dumps(_described(used), indent=2))
        return
    click.echo(f"features {used.digest}\nas of    {used.manifest.as_of}")


def _described(one: Listed) -> dict[str, Any]:
    value: dict[str, Any] = documents.as_json(one)
    return value


def _moment(said: str | None) -> datetime | None:
    if said is None:
        return None
    try:
        found = datetime.fromisoformat(said)
    except ValueError as error:
        raise InputError(
            f"--as-of: found {said!r}; needed a time with its zone, such as 2026-05-10T00:00:00Z."
        ) from error
    if found.tzinfo is None:
        raise InputError(f"--as-of: found {said!r} without a zone; needed one, such as 2026-05-10T00:00:00Z.")
    return found


features.add_command(share)

COMMANDS = {"features": features}
