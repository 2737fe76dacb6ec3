"""`rankgate sbom`: what a packaged release is made of."""

from __future__ import annotations

import json
from pathlib import Path

import click

from components.artifacts.files import write_atomically
from pipelines.cli.options import json_option
from pipelines.runs import Home


@click.command()
@click.argument("name", metavar="RUN", default="latest")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the document there, byte by byte.")
@json_option
@click.pass_obj
def sbom(home: str, name: str, out: Path | None, as_json: bool) -> None:
    """Tell what RUN's packaged release is made of: model, data, figures, libraries. CycloneDX 1.6, written by `package`."""
    from pipelines.materials import in_short, read_materials

    content = read_materials(Home(Path(home)).find(name))
    if out:
        write_atomically(out, content)
    if as_json:
        click.echo(json.dumps(json.loads(content), indent=2, ensure_ascii=False))
        return
    told = in_short(content)
    click.echo(f"bento      {told.bento}")
    click.echo(f"model      {told.model}  {told.files} files")
    for data, digest in told.data:
        click.echo(f"data       {digest}  {data}")
    click.echo(f"figures    {told.metrics} of {told.slices} slices")
    click.echo(f"libraries  {told.libraries}, each with the hashes of the lock")
    for licence, number in told.licences:
        click.echo(f"           {number:>3}  {licence}")
    click.echo(f"document   {told.serial}  {told.at}")
    click.echo(f"sha256     {told.sha256}" + (f"  {out}" if out else ""))


COMMANDS = {"sbom": sbom}
