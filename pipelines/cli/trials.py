"""`rankgate trials`: how often the gates are wrong, measured."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from components.errors import InputError, nearest
from pipelines.cli.options import json_option

_QUICK = "shop:0.1:4:4"
_FULL = ("shop:0.1:220:24", "shop:0.5:80:34")
_RETAIL = "online_retail:10:6"
_DRAWS = 100


@click.command()
@click.option("--quick", is_flag=True, help=f"A small trial of about two minutes: {_QUICK}, no coverage.")
@click.option(
    "--world",
    "worlds",
    multiple=True,
    metavar="WORLD",
    help="shop:SCALE:CLEAN:PLANTED or online_retail:CLEAN:PLANTED, the seeds that are judged clean and those of them in "
    f"which harms are planted; may be repeated. Without it: {', '.join(_FULL)}, and {_RETAIL} "
    "where its data is.",
)
@click.option("--harm", "harms", multiple=True, metavar="NAME", help="Plant only this one; may be repeated.")
@click.option("--draws", type=click.IntRange(0), default=None, help=f"Draws to count coverage by; {_DRAWS} without it.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option("--work", type=click.Path(path_type=Path), default=None, help="Where records are kept; HOME/trials.")
@click.option("--data", type=click.Path(path_type=Path), default=None, help="Folder of the real data sets.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, help="Folder to write trials.md and pictures into."
)
@click.option("--keep", is_flag=True, help="Keep the honest runs on the disk, to judge them again.")
@json_option
@click.pass_obj
def trials(
    home: str,
    quick: bool,
    worlds: tuple[str, ...],
    harms: tuple[str, ...],
    draws: int | None,
    jobs: int,
    work: Path | None,
    data: Path | None,
    out: Path | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Plant known harms in clean runs, and count what the gates say.

    Each seed is a store of its own, taken from events to a verdict clean and with every harm planted at several
    strengths; the defaults of Evidently and Fairlearn and a fixed NDCG threshold judge the same data. Stopped at any moment,
    it goes on where it was. docs/trials.md is what `task trials` found.
    """
    from pipelines.trials.harms import BY_NAME
    from pipelines.trials.running import Plan, run_coverage, run_trials
    from pipelines.trials.tallies import coverages, tallies

    for name in harms:
        if name not in BY_NAME:
            raise InputError(f"--harm {name}: no such harm. {nearest(name, list(BY_NAME))}")
    named = worlds or ((_QUICK,) if quick else (*_FULL, *((_RETAIL,) if _has_retail(data) else ())))
    plan = Plan(
        worlds=tuple(_world(text) for text in named),
        harms=harms or tuple(BY_NAME),
        jobs=jobs,
        work=(work or Path(home) / "trials").absolute(),
        data=data.absolute() if data else None,
        draws=(0 if quick or worlds else _DRAWS) if draws is None else draws,
        keep=keep,
    )
    began = time.monotonic()

    def watch(what: str, done: int, of: int) -> None:
        click.echo(f"{time.monotonic() - began:6.0f} s  {what}: {done} of {of}", err=True)

    found = tallies(run_trials(plan, watch=watch))
    held = coverages(run_coverage(plan, watch=watch))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        page = _write(plan, named, found, held, out)
        click.echo(f"Written: {page}", err=True)
    if as_json:
        click.echo(json.dumps(_as_json(found, held), indent=2))
    else:
        _print(found)


def _has_retail(data: Path | None) -> bool:
    return data is not None and (data / "online_retail" / "raw.parquet").is_file()


def _world(text: str) -> Any:
    from pipelines.trials.running import Seeds
    from pipelines.trials.worlds import retail, shop

    name, *figures = text.split(":")
    try:
        if name == "shop" and len(figures) == 3:
            return Seeds(shop(float(figures[0])), *_counts(figures[1:]))
        if name == "online_retail" and len(figures) == 2:
            return Seeds(retail(), *_counts(figures))
    except ValueError:
        pass
    raise InputError(
        f"--world {text}: needed shop:SCALE:CLEAN:PLANTED such as {_QUICK}, or online_retail:CLEAN:PLANTED."
    )


def _counts(figures: list[str]) -> tuple[int, int]:
    clean, planted = (int(figure) for figure in figures)
    if not 0 <= planted <= clean or not clean:
        raise ValueError
    return clean, planted


def _write(plan: Any, named: tuple[str, ...], found: Any, held: Any, out: Path) -> Path:
    from pipelines.request import library_versions
    from pipelines.trials.page import Told, write_page
    from pipelines.trials.running import judging_code, policy_of

    labels = sorted({policy_of(seeds.world).label for seeds in plan.worlds})
    versions = library_versions()
    told = Told(
        command=" ".join(["rankgate trials", *(f"--world {text}" for text in named), f"--draws {plan.draws}"]),
        date=datetime.now(UTC).date().isoformat(),
        code=judging_code(),
        policies=labels,
        libraries=", ".join(
            f"{name} {versions[name]}" for name in ("xgboost", "evidently", "fairlearn") if name in versions
        ),
    )
    return write_page(told, found, held, out=out)


def _as_json(found: Any, held: Any) -> dict[str, Any]:
    def rate(one: Any) -> dict[str, float]:
        return {"count": one.count, "of": one.of, "value": one.value, "low": one.low, "high": one.high}

    return {
        "trials": [
            {
                "world": one.world,
                "harm": one.harm,
                "strength": one.strength,
                "users": one.users,
                "fail": rate(one.fail),
                "insufficient": rate(one.insufficient),
                "pass": rate(one.passed),
                "peers": {name: rate(said) for name, said in one.peers.items()},
                "promise": one.promise,
                "kept": one.kept,
                "margins": one.reached,
                "adequate": one.adequate,
                "criteria": one.criteria,
            }
            for one in found
        ],
        "coverage": [{"users": one.users, "kind": one.kind, "held": rate(one.rate)} for one in held],
    }


def _print(found: Any) -> None:
    from rich.table import Table

    from pipelines.cli.display import results
    from pipelines.trials.harms import BY_NAME

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("harm", "strength", "world"):
        table.add_column(name)
    for name in ("seeds", "fail", "insufficient", "pass"):
        table.add_column(name, justify="right")
    table.add_column("promise")
    table.add_column("peers flag")
    for one in found:
        style = {"broken": "bold red", "within chance": "yellow"}.get(one.kept, "")
        table.add_row(
            BY_NAME[one.harm].title if one.harm in BY_NAME else "Clean",
            one.strength,
            one.world,
            str(one.fail.of),
            f"{one.fail.value:.0%}",
            f"{one.insufficient.value:.0%}",
            f"{one.passed.value:.0%}",
            f"[{style}]{one.kept}[/]" if style else one.kept,
            ", ".join(f"{name} {said.value:.0%}" for name, said in one.peers.items()),
        )
    results().print(table)


COMMANDS = {"trials": trials}
