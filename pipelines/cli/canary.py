"""`rankgate canary`: start a canary on this machine, watch it, pause, promote or abort it."""

from __future__ import annotations

import getpass
import json
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from components.artifacts import documents
from components.errors import BlockedError, InputError, RankgateError
from components.rollout.contract import BASELINE, CANARY, STABLE, GuardrailResult
from components.rollout.controller import ENDED, Canary, LeaseHeldError, Wanted, lease, state_of, wish
from components.rollout.guardrail_words import lasting
from components.rollout.local import STATE_FILE
from pipelines.cli.display import results
from pipelines.cli.options import json_option
from pipelines.runs import Home

if TYPE_CHECKING:
    from pipelines.canarying import Assembled

_PORT = 8080
_POLICY = Path(__file__).resolve().parents[2] / "policies" / "rollout" / "default.yaml"
_STYLES = {"within": "green", "harm": "bold red", "insufficient": "yellow", "missing": "red", "void": "red"}
_WORDS = {
    "within": "no harm",
    "harm": "HARM",
    "insufficient": "not settled",
    "missing": "not read",
    "void": "void",
}
_BETWEEN_STARTS = 0.5


@click.group()
def canary() -> None:
    """Give a release some of the traffic, judge it while it runs, promote it or roll it back."""


@canary.command("start")
@click.argument("name", metavar="RUN")
@click.option("--stable", required=True, metavar="RUN", help="The packaged run that is in service.")
@click.option(
    "--trust",
    "trusted",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="Public keys of reviewers.",
)
@click.option(
    "--policy", type=click.Path(path_type=Path, dir_okay=False), default=_POLICY, help="Steps and guardrails."
)
@click.option(
    "--events", type=click.Path(path_type=Path), help="What users do with lists: Parquet or CSV with request_id, event."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Where users are answered; 0 for a free one.  [default: where they were, or 8080]",
)
@click.pass_obj
def start(
    home: str, name: str, stable: str, trusted: tuple[Path, ...], policy: Path, events: Path | None, port: int | None
) -> None:
    """Start both arms and Envoy on loopback, begin the canary of RUN, and watch it to its end.

    Exits 0 when RUN is promoted, 3 when it is rolled back. Stopped (Ctrl-C), the arms go on; `rankgate canary watch` goes on too.
    """
    from pipelines.canarying import SCHEMA_VERSION, Setup, canary_folder
    from pipelines.canarying import start as begin

    place = Home(Path(home))
    setup = Setup(
        SCHEMA_VERSION,
        place.find(name).name,
        place.find(stable).name,
        tuple(str(path.resolve()) for path in trusted),
        str(events.resolve()) if events else "",
    )
    folder = canary_folder(place)
    with lease(folder):
        begin(place, setup, policy, port=_PORT if port is None and not (folder / STATE_FILE).exists() else port)
    _watch(place)


@canary.command("watch")
@click.pass_obj
def watch(home: str) -> None:
    """Go on with the canary; where another process does, look on."""
    _watch(Home(Path(home)))


def _watch(place: Home) -> None:
    from pipelines.canarying import assemble, canary_folder

    folder = canary_folder(place)
    view = _View()
    with view:
        try:
            with lease(folder):
                state = _looks(assemble(place), view)
        except LeaseHeldError as error:
            click.echo(f"{error} Looking on.", err=True)
            state = _looking_on(folder, view)
        view.show(state)
    _tell_end(state)


def _looks(held: Assembled, view: _View) -> Canary:
    """Look after look until the end. A look that fails is taken again: while nobody looks, nobody rolls back.

    Raises:
        RankgateError: If none succeeds for as long as the policy is patient.
    """
    from pipelines.canarying import moment

    view.url = held.target.url
    succeeded = time.monotonic()
    wait = _BETWEEN_STARTS
    while True:
        try:
            state = held.controller.look(moment())
        except RankgateError as error:
            if time.monotonic() - succeeded > held.policy.patience_seconds:
                raise
            click.echo(f"{error} Looking again.", err=True)
        else:
            succeeded = time.monotonic()
            if state.phase in ENDED:
                return state
            view.show(state)
            wait = held.policy.evaluate_seconds if state.phase == "watching" else _BETWEEN_STARTS
        time.sleep(wait)


def _looking_on(folder: Path, view: _View) -> Canary:
    while True:
        state = state_of(folder)
        if state is None:
            raise InputError("canary: found none any more.")
        if state.phase in ENDED:
            return state
        view.show(state)
        time.sleep(1.0)


def _tell_end(state: Canary) -> None:
    if state.phase == "rolled_back":
        raise BlockedError(f"canary of {state.candidate[:12]}: rolled back. {state.reason}")
    click.echo(f"{state.candidate[:12]}: promoted. {state.reason}")


@canary.command("status")
@json_option
@click.pass_obj
def status(home: str, as_json: bool) -> None:
    """Tell how the canary stands."""
    from pipelines.canarying import canary_folder

    state = state_of(canary_folder(Home(Path(home))))
    if state is None:
        raise InputError(
            "canary: found none in this home. Start one: rankgate canary start RUN --stable RUN --trust KEY"
        )
    if as_json:
        click.echo(json.dumps(documents.as_json(state), indent=2))
        return
    results().print(picture(state))


def _wishing(wanted: Wanted, what: str) -> click.Command:
    @click.option("--reason", default="", help="Why, in a sentence.")
    @click.pass_obj
    def command(home: str, reason: str) -> None:
        from pipelines.canarying import canary_folder

        folder = canary_folder(Home(Path(home)))
        wish(folder, wanted, who=getpass.getuser(), reason=reason)
        try:
            with lease(folder):
                nobody = True
        except LeaseHeldError:
            nobody = False
        click.echo(
            "Nobody watches the canary: it is done once somebody does. Go on with it: rankgate canary watch"
            if nobody
            else "Done at the next look."
        )

    command.__doc__ = what
    return click.command(wanted)(command)


for _wanted, _what in (
    ("pause", "Let the canary stay at its step; it is still rolled back for harm."),
    ("resume", "Let the canary go on."),
    ("promote", "Promote the canary now, whatever is not settled."),
    ("abort", "Roll the canary back now."),
):
    canary.add_command(_wishing(_wanted, _what))  # type: ignore[arg-type]


@canary.command("stop")
@click.pass_obj
def stop(home: str) -> None:
    """End Envoy and all arms on this machine, after the canary has ended."""
    from pipelines.canarying import canary_folder, end_everything

    place = Home(Path(home))
    with lease(canary_folder(place)):
        end_everything(place)
    click.echo("Ended.")


class _View:
    """A picture that stays, on a terminal; a line for whatever happens, elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4) if self._console.is_terminal else None
        self._last = 0.0
        self.url = ""

    def __enter__(self) -> _View:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, state: Canary) -> None:
        if self._live is not None:
            self._live.update(picture(state, self.url))
            return
        for happening in state.happenings:
            if happening.at > self._last:
                self._console.print(f"{_clock(happening.at)}  {happening.what}", soft_wrap=True)
        self._last = max([self._last, *(happening.at for happening in state.happenings)])


def picture(state: Canary, url: str = "") -> RenderableType:
    """A canary as a person wants to see it."""
    parts: list[RenderableType] = [
        Text.assemble(
            ("canary ", "bold"),
            state.candidate[:12],
            ("  against ", "dim"),
            state.stable[:12],
            ("  policy ", "dim"),
            state.policy,
            *(("  at ", "dim"), url) if url else (),
        ),
        _arms(state),
    ]
    if state.verdict is not None:
        parts.append(_guardrails(state.verdict.results))
        waits = state.verdict.expected_seconds
        about = f" About {lasting(waits)} to go." if waits and state.verdict.action == "hold" else ""
        parts.append(Text(f"{state.verdict.reason}{about}", style="bold red" if state.phase == "rolling_back" else ""))
    parts += [Text(f"{_clock(one.at)}  {one.what}", style="dim") for one in state.happenings[-6:]]
    return Group(*parts)


def _arms(state: Canary) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    for arm in (CANARY, STABLE, BASELINE):
        if arm in state.shares or arm != BASELINE:
            new = arm == CANARY or (arm == STABLE and state.phase in ("settling", "promoted"))
            part = state.shares.get(arm, 0.0)
            ill = "  not ready" if arm in state.not_ready and state.phase not in ENDED else ""
            release = state.candidate if new else state.stable
            table.add_row(arm, release[:12], f"{100 * part:5.1f} %", "█" * round(40 * part) + ill)
    table.add_row("", state.phase.replace("_", " ") + (", paused" if state.paused else ""))
    return table


def _guardrails(found: tuple[GuardrailResult, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("guardrail", "", "estimate", "limits", "harm beyond", "n", "settled in"):
        table.add_column(title, justify="right" if title in ("estimate", "harm beyond", "n") else "left")
    for one in found:
        if one.segment and one.answer in ("within", "insufficient"):
            continue
        table.add_row(
            one.guardrail + (f" {one.segment}" if one.segment else ""),
            Text(_WORDS[one.answer], style=_STYLES[one.answer]),
            _figure(one.estimate),
            "" if one.low is None and one.high is None else f"{_figure(one.low)} to {_figure(one.high)}",
            _figure(one.bound),
            f"{one.n}",
            lasting(one.expected_seconds) if one.expected_seconds else "",
        )
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")


COMMANDS = {"canary": canary}
