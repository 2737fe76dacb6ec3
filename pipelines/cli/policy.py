"""`rankgate policy`: a policy and its own suite."""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.cli.options import find_policy


@click.group()
def policy() -> None:
    """Check a policy by its own suite."""


@policy.command()
@click.argument("path", type=click.Path(path_type=Path), required=False)
def check(path: Path | None) -> None:
    """Run the suite of the policy at PATH: every case, and every criterion covered by one that passes and one that fails.

    PATH may also be a rollout policy, such as policies/rollout.
    """
    from components.ranker.declared_rules import RERANK_FILE, read_rules
    from components.verdict.model_card import FIELDS, MODEL_CARD_FILE, places, read_declared
    from components.verdict.suite import check_suite

    if path and _checked_rollout(path):
        return
    place = find_policy(path)
    result = check_suite(place)
    rules = read_rules(place)
    words = [(folder, said) for folder in places(place) if (said := read_declared(folder))]
    click.echo(f"{place}: {result.cases} cases, all as expected.")
    if rules:
        click.echo(f"{place.parent / RERANK_FILE}: read, sha256 {rules.declared[:12]}.")
    for folder, said in words:
        about = f"speaks of {', '.join(said.datasets)}" if said.datasets else "speaks of any dataset contract"
        click.echo(f"{folder / MODEL_CARD_FILE}: read, {len(said.written)} of {len(FIELDS)} fields written; {about}.")


def _checked_rollout(path: Path) -> bool:
    """Check a rollout policy, if the path is one."""
    from components.rollout.policy import rollout_place
    from components.rollout.suite import check_rollout_suite

    place = rollout_place(path)
    if place is None:
        return False
    result = check_rollout_suite(place)
    click.echo(f"{place}: {result.cases} cases, all as expected.")
    return True


COMMANDS = {"policy": policy}
