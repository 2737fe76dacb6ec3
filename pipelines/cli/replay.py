"""`rankgate replay`: does a run give the same bytes once more?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from components.artifacts import documents
from components.errors import BlockedError
from pipelines.cli.options import json_option
from pipelines.replay_plan import Depth, replayed_steps
from pipelines.runs import Home


@click.command()
@click.argument("name", metavar="RUN", default="latest")
@click.option("--train", is_flag=True, help="Train again before measuring and deciding.")
@click.option("--all", "everything", is_flag=True, help="Begin at the tables: policy, snapshot and dataset, too.")
@click.option("--step", "only", multiple=True, metavar="STEP", help="Only this step, such as `card`; may be repeated.")
@json_option
@click.pass_obj
def replay(home: str, name: str, train: bool, everything: bool, only: tuple[str, ...], as_json: bool) -> None:
    """Do RUN's gates again from what was recorded as their inputs, and compare every byte.

    Measures, decides and writes the card again, apart from the run, which is only read. Exits 0 where every artefact is
    the same, 3 where one differs: the first in the flow is named, with the place in its files and what is recorded to be
    otherwise now. Times that the service took are no bytes to repeat; what is left out for that is listed.
    """
    from pipelines.cli.display import StepProgress
    from pipelines.replay import replay as do_again

    depth: Depth = "all" if everything else "train" if train else "decisions"
    run = Home(Path(home)).find(name)
    click.echo(f"Replay of {run.name}", err=True)
    with StepProgress(replayed_steps(depth, only)) as progress:
        found = do_again(run, depth, only=only, watch=progress)
    if as_json:
        # One document, whatever came of it.
        click.echo(json.dumps(documents.as_json(found), indent=2))
        raise click.exceptions.Exit(0 if found.same else BlockedError.exit_code)
    from pipelines.cli.replay_display import print_replay

    print_replay(found)
    if not found.same:
        raise BlockedError(
            f"run {run.name}: its {found.first} does not come out as recorded. What differs, and what may be why, is above; "
            "nothing of the run was changed."
        )


COMMANDS = {"replay": replay}
