"""What a person sees in a terminal: progress on standard error, results on standard output."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from components.verdict.contract import Finding, Verdict
from components.verdict.outcomes import by_concern, deciding
from pipelines.local import StepEvent
from pipelines.runs import RunTiming
from pipelines.waiving import Standing

_ANSWER_STYLE = {"pass": "green", "fail": "bold red", "insufficient": "yellow"}
_STEP_LINES = {
    "policy": "run the policy's suite and freeze it",
    "snapshot": "validate the tables, keep a snapshot",
    "dataset": "point-in-time features, labels, split",
    "ranker": "train, and rank the held-out requests",
    "measure-ranking": "data, quality, calibration, exposure",
    "measure-groups-and-drift": "groups of users, drift",
    "measure-features": "leakage, stand-ins",
    "measure-serving": "the service: parity, latency, wrong requests",
    "verdict": "hold the evidence against the policy",
    "card": "write the model card",
    "enforce": "pass or block",
}


_PIPED_WIDTH = 120
"""Columns of a table that goes to a file or another program."""


def results() -> Console:
    """Standard output."""
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=False, width=_PIPED_WIDTH)


class StepProgress:
    """A live table of steps on a terminal, a line an event elsewhere."""

    def __init__(self, steps: tuple[str, ...]) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._steps = steps
        self._state: dict[str, str] = dict.fromkeys(steps, "waiting")
        self._since: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._word: dict[str, str] = {}
        self._spinner = Spinner("dots")
        self._live = Live(console=self._console, refresh_per_second=8, transient=False)

    def __enter__(self) -> StepProgress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.update(self._table())
            self._live.stop()

    def __call__(self, event: StepEvent | None) -> None:
        """Take in one event; None only redraws."""
        if event:
            self._take(event)
        if self._console.is_terminal:
            self._live.update(self._table())
        elif event and event.event != "progress":
            took = f" after {self._took[event.step]:.1f} s" if event.step in self._took else ""
            self._console.print(f"{event.step}: {event.event}{took}", soft_wrap=True)

    def _take(self, event: StepEvent) -> None:
        if event.event == "started":
            self._since[event.step] = event.at
            self._state[event.step] = "running"
        elif event.event == "progress":
            self._word[event.step] = event.message
        else:
            self._state[event.step] = event.event
            self._took[event.step] = event.at - self._since.get(event.step, event.at)
            self._word.pop(event.step, None)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for step in self._steps:
            state = self._state[step]
            mark: Any = {
                "waiting": Text("·", "dim"),
                "running": self._spinner,
                "finished": Text("✓", "green"),
                "restored": Text("↺", "cyan"),
                "failed": Text("✗", "bold red"),
            }[state]
            seconds = self._took.get(step, time.time() - self._since[step] if step in self._since else 0.0)
            note = self._word.get(step) or ("done before" if state == "restored" else _STEP_LINES.get(step, ""))
            table.add_row(
                mark,
                Text(step, "bold" if state == "running" else ""),
                Text(f"{seconds:6.1f} s" if state != "waiting" else "", "dim"),
                Text(note, "dim", overflow="ellipsis", no_wrap=True),
            )
        return table


def waiver_lines(stands: Standing) -> list[str]:
    """A sentence for each waiver, as it is told; whether its signature holds is asked by `approve` and `verify`."""
    lines = []
    for signed in stands.waivers:
        held = signed.waiver
        word = "was waived" if held.criterion in stands.expired else "is waived"
        expired = ", which has passed" if held.criterion in stands.expired else ""
        lines.append(f"{held.criterion} {word} by {held.waived_by} until {held.until}{expired}: {held.reason}")
    return lines


def verdict_table(verdict: Verdict, *, waived: Collection[str] = ()) -> Table:
    """One row a criterion: its answer, whether it is waived, the finding that decided it, its bound, on how many users."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column, justify in (
        ("", "left"),
        ("criterion", "left"),
        ("found", "right"),
        ("needed", "right"),
        ("users", "right"),
    ):
        table.add_column(column, justify=justify, no_wrap=column != "criterion")  # type: ignore[arg-type]  # a literal
    for outcome in by_concern(verdict.outcomes):
        finding = deciding(outcome)
        style = _ANSWER_STYLE[outcome.answer] if not outcome.not_applicable else "dim"
        word: str = "n/a" if outcome.not_applicable else outcome.answer
        if outcome.answer != "pass" and not outcome.blocks:
            word = f"{word} (noted)"
        elif outcome.blocks and outcome.criterion in waived:
            word = f"{word} (waived)"
        table.add_row(
            Text(word, style),
            Text(outcome.title, "" if outcome.blocking else "dim", overflow="fold"),
            interval_text(finding) if finding else "",
            finding.needed if finding else "",
            f"{finding.n_users:,}" if finding and finding.n_users else "",
        )
    return table


def interval_text(finding: Finding) -> str:
    """`0.046 (0.039..0.052)`, the value alone where it is exact, a dash where nothing could be measured."""
    if finding.value is None:
        return "—"
    if finding.low is None or finding.high is None or finding.low == finding.high:
        return f"{finding.value:.4g}"
    return f"{finding.value:.3f} ({finding.low:.3f}..{finding.high:.3f})"


def timing_table(timing: RunTiming) -> Table:
    """Seconds and shares of work, imports and the rest, by step and in total."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for column in ("step", "work", "imports", "rest"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for step in timing.steps:
        name = f"{step.step} (restored)" if step.restored else step.step
        table.add_row(
            name, *(f"{part:.2f} s" for part in (step.function_seconds, step.import_seconds, step.rest_seconds))
        )
    unaccounted = timing.rest_seconds - sum(step.rest_seconds for step in timing.steps)
    table.add_row("starting kfp, compiling, concluding", "", "", f"{max(0.0, unaccounted):.2f} s")
    total = timing.total_seconds or 1.0
    parts = (timing.function_seconds, timing.import_seconds, timing.rest_seconds)
    table.add_row(
        Text(f"total {timing.total_seconds:.1f} s", "bold"), *(f"{part:.2f} s ({part / total:.0%})" for part in parts)
    )
    return table
