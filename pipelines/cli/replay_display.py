"""How a replay's findings are shown: a table of artefacts, where the first differing one parts, and why it may."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from pipelines.cli.display import results
from pipelines.replay import Replay, Replayed

_MOST_FILES = 8


def print_replay(found: Replay) -> None:
    """Print a replay to standard output."""
    console = results()
    console.print()
    console.print(_table(found))
    console.print()
    for artefact in found.artefacts:
        if artefact.left_out and artefact.now != artefact.then and artefact.same:
            console.print(f"{artefact.artefact}: the same but for what is time or memory itself:", style="dim")
            for phrase in artefact.left_out:
                console.print(f"  {phrase}", style="dim", markup=False, soft_wrap=True)
    for artefact in found.artefacts:
        if not artefact.same:
            _print_difference(artefact, first=artefact.artefact == found.first)
    console.print(_summary(found), style="bold green" if found.same else "bold red", soft_wrap=True)
    if found.causes:
        console.print("Otherwise than then:" if found.same else "What is recorded to be otherwise, likeliest first:")
        for cause in found.causes:
            console.print(f"  {cause.topic}: {cause.sentence}", markup=False, soft_wrap=True)


def _table(found: Replay) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in ("", "artefact", "digest then", "digest now", "seconds then", "now"):
        table.add_column(column, justify="right" if column in ("seconds then", "now") else "left", no_wrap=True)
    seen: set[str] = set()
    for one in found.artefacts:
        told = one.step in seen
        seen.add(one.step)
        table.add_row(
            _word(one),
            one.artefact,
            one.then[:16],
            one.now[:16] or "—",
            # A step with two outputs took its time once.
            "" if told else f"{one.seconds_then:.1f}",
            "" if told else f"{one.seconds:.1f}",
        )
    return table


def _word(one: Replayed) -> Text:
    if not one.same:
        return Text("differs" if one.now else "failed", "bold red")
    return Text("same", "green") if one.now == one.then else Text("same but times", "green")


def _print_difference(one: Replayed, *, first: bool) -> None:
    console = results()
    title = "the first that differs" if first else "differs, too"
    console.print(f"{one.artefact} ({title}): {one.then[:16]} then, {one.now[:16] or 'nothing'} now", style="bold")
    if one.problem:
        console.print(f"  {one.problem}", markup=False, soft_wrap=True)
    for difference in one.differs[:_MOST_FILES]:
        console.print(f"  {difference.file}: {difference.place}", markup=False, soft_wrap=True)
        console.print(f"    then {difference.then}", style="dim", markup=False, soft_wrap=True)
        console.print(f"    now  {difference.now}", style="dim", markup=False, soft_wrap=True)
    if len(one.differs) > _MOST_FILES:
        console.print(f"  and {len(one.differs) - _MOST_FILES} more files", style="dim")
    console.print()


def _summary(found: Replay) -> str:
    took = f"in {found.seconds:.0f} s (the run's own steps took {found.seconds_then:.0f} s)"
    if found.same:
        return f"All {len(found.artefacts)} artefacts came out as recorded, {took}."
    return f"The first artefact that differs is {found.first}; {took}."
