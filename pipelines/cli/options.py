"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from components.errors import InputError

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document for machines.")
out_option = click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write into.")


def policy_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--policy, a folder or its policy.yaml."""
    return click.option(
        "--policy",
        type=click.Path(path_type=Path),
        default=None,
        help="Policy folder or file; policies/default where absent.",
    )(command)


def find_policy(given: Path | None, name: str = "default") -> Path:
    """The policy that was named, or the one called `name` below ./policies or beside the installed rankgate.

    Raises:
        InputError: If there is none.
    """
    places = [given] if given else [Path("policies") / name, Path(__file__).resolve().parents[2] / "policies" / name]
    for place in places:
        if (place / "policy.yaml").is_file():
            return place / "policy.yaml"
        if place.is_file():
            return place
    raise InputError(
        f"policy: found no policy.yaml at {' or '.join(map(str, places))}; needed a policy folder. "
        "Name one with --policy."
    )
