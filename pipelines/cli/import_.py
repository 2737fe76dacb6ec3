"""`rankgate import`: public data sets as tables under a dataset contract."""

from __future__ import annotations

from pathlib import Path

import click

from components.errors import InputError
from pipelines.cli.options import out_option


@click.group("import")
def import_() -> None:
    """Turn a public data set into tables and a dataset contract."""


@import_.command("online-retail")
@click.argument("raw", type=click.Path(path_type=Path))
@out_option
def online_retail(raw: Path, out: Path) -> None:
    """Import RAW, the UCI "Online Retail" invoices as one Parquet file (Chen, 2012; CC BY 4.0)."""
    from components.events.importers.online_retail import import_online_retail

    _done(import_online_retail(raw, out=_made(out)), "retail")


@import_.command("movielens")
@click.argument("folder", type=click.Path(path_type=Path))
@out_option
def movielens(folder: Path, out: Path) -> None:
    """Import FOLDER, an unpacked MovieLens data set in the ml-1m or the ml-100k layout."""
    from components.events.importers.movielens import import_movielens

    _done(import_movielens(folder, out=_made(out)), "default")


def _made(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be made ({error.strerror}); needed a folder to write into.") from error
    return out


def _done(contract: Path, policy: str) -> None:
    click.echo(contract)
    click.echo(f"Next: rankgate run {contract} --policy policies/{policy}", err=True)


COMMANDS = {"import": import_}
