"""`rankgate waive`: a person signs for what a rule did not let through."""

from __future__ import annotations

import json
from pathlib import Path

import click

from components.artifacts import documents
from pipelines.cli.options import json_option
from pipelines.runs import Home


@click.command()
@click.argument("name", metavar="RUN")
@click.argument("criterion")
@click.option("--reason", required=True, help="Why the release may go out all the same, in a sentence.")
@click.option("--until", required=True, metavar="DAY", help="Last day on which it holds, such as 2026-12-31 (UTC).")
@click.option("--key", required=True, help="Private key: a PEM file, or a URI that securesystemslib knows.")
@click.option("--as", "waived_by", required=True, metavar="NAME", help="Who answers for it; never the submitter.")
@json_option
@click.pass_obj
def waive(
    home: str, name: str, criterion: str, reason: str, until: str, key: str, waived_by: str, as_json: bool
) -> None:
    """Sign that RUN may be approved although CRITERION stops it, for a reason and a time.

    Only what the policy lets be waived (on_insufficient: waive, on_fail: waive), and only what was measured. The verdict stays
    as it is; the card is written anew and tells of the waiver. A waiver of the same criterion is replaced.
    """
    from pipelines.waiving import waive_criterion

    place = Home(Path(home))
    run = place.find(name)
    done = waive_criterion(run, place, criterion, key=key, waived_by=waived_by, reason=reason, until=until)
    if as_json:
        click.echo(json.dumps({**documents.as_json(done), "folder": str(run.waivers)}, indent=2))
        return
    held = done.signed.waiver
    click.echo(f"{run.name}: {held.criterion} waived by {held.waived_by} until the end of {held.until}, UTC")
    if done.replaced:
        before = done.replaced.waiver
        click.echo(f"replaces the waiver by {before.waived_by} until {before.until}")
    click.echo(f"waiver {done.signed.digest}")
    click.echo(f"card   {run.folder / 'artifacts' / 'card' / 'card.html'} (written anew)")
    if done.left:
        click.echo(f"still blocked by {', '.join(done.left)}", err=True)
    else:
        public = f"{key}.pub" if Path(f"{key}.pub").exists() else "KEY.pub"
        click.echo(
            f"\nAll that blocks is waived. Next:\n  rankgate card {run.name} --open\n"
            f"  rankgate approve {run.name} --key KEY --as YOU --reason '...' --trust {public}",
            err=True,
        )


COMMANDS = {"waive": waive}
