"""`rankgate review`: the reviewer's desk in a browser."""

from __future__ import annotations

import webbrowser
from contextlib import suppress
from pathlib import Path

import click

from pipelines.runs import Home


@click.command()
@click.option("--key", default="", help="Private key that signs: a PEM file, or a URI that securesystemslib knows.")
@click.option("--as", "name", default="", metavar="NAME", help="Who decides; never the submitter.")
@click.option(
    "--trust",
    "trusted",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Public key, or folder of them, of people whose waivers count; earlier decisions are checked by them too.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; a free one where absent.")
@click.option("--open", "open_it", is_flag=True, help="Open it in a browser.")
@click.pass_obj
def review(home: str, key: str, name: str, trusted: tuple[Path, ...], port: int, open_it: bool) -> None:
    """Read cards and sign decisions in a browser, on this machine only.

    Prints the address to open; whoever has it may decide in NAME's name until Ctrl-C ends it. Without --key and --as the pages
    are only for reading. docs/review.md describes them.
    """
    from pipelines.review.desk import open_desk
    from pipelines.review.serving import serve_desk

    desk = open_desk(Home(Path(home)), key=key, name=name, trusted=trusted)

    def started(address: str) -> None:
        click.echo(address)
        who = f"Decisions are signed as {name.strip()}." if key else "For reading only: --key and --as to decide."
        click.echo(f"{who} Stop with Ctrl-C.", err=True)
        if open_it and not webbrowser.open(address):
            click.echo("No browser could be started; open the address above in one.", err=True)

    with suppress(KeyboardInterrupt):
        serve_desk(desk, port=port, started=started)


COMMANDS = {"review": review}
