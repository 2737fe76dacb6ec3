"""`rankgate canary`: start a canary on this machine, watch it, pause, promote or abort it."""

from __future__ import annotations

import getpass
import json
import time
from datetime import datetime
from pathlib import Path

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from components.artifacts import documents
from components.errors import BlockedError, InputError
from components.rollout.contract import CANARY, STABLE, GuardrailResult
from components.rollout.controller import ENDED, Canary, Wanted, lease, state_of, wish
from components.rollout.guardrail_words import lasting
from pipelines.cli.display import results
from pipelines.cli.options import json_option
from pipelines.runs import Home

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
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Where users are answered."
)
@click.pass_obj
def start(
    home: str, name: str, stable: str, trusted: tuple[Path, ...], policy: Path, events: Path | None, port: int
) -> None:
    """Start both arms and Envoy on loopback, begin the canary of RUN, and watch it to its end.

    Exits 0 when RUN is promoted, 3 when it is rolled back. Stopped (Ctrl-C), the arms go on; `rankgate canary watch` goes on too.
    """
    from pipelines.canarying import SCHEMA_VERSION, Setup, assemble, canary_folder, moment, set_up

    place = Home(Path(home))
    setup = Setup(
        SCHEMA_VERSION,
        place.find(name).name,
        place.find(stable).name,
        tuple(str(path.resolve()) for path in trusted),
        str(events.resolve()) if events else "",
    )
    with lease(canary_folder(place)):
        set_up(place, setup, policy)
        held = assemble(place, port=port)
        held.controller.begin(candidate=held.releases[0], stable=held.releases[1], at=moment())
    _watch(place, port=port)


@canary.command("watch")
@click.pass_obj
def watch(home: str) -> None:
    """Go on with the canary; where another process does, look on."""
    _watch(Home(Path(home)), port=0)


def _watch(place: Home, *, port: int) -> None:
    from pipelines.canarying import assemble, canary_folder, moment

    folder = canary_folder(place)
    view = _View()
    with view:
        try:
            with lease(folder):
                held = assemble(place, port=port)
                view.url = held.target.url
                state = held.controller.look(moment())
                while state.phase not in ENDED:
                    view.show(state)
                    watching = state.phase == "watching"
                    time.sleep(held.evaluate_seconds if watching else _BETWEEN_STARTS)
                    state = held.controller.look(moment())
        except InputError as error:
            if "watches it" not in str(error):
                raise
            click.echo(f"{error} Looking on.", err=True)
            state = _looking_on(folder, view)
        view.show(state)
    _tell_end(state)


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
        except InputError:
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
    from pipelines.canarying import assemble, canary_folder

    place = Home(Path(home))
    folder = canary_folder(place)
    with lease(folder):
        state = state_of(folder)
        if state is not None and state.phase not in ENDED:
            raise InputError("canary: is under way; needed its end. Roll it back: rankgate canary abort, then watch")
        assemble(place).target.end()
    click.echo("Ended.")


class _View:
    """A picture that stays, on a terminal; a line for whatever happens, elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=4) if self._console.is_terminal else None
        self._told = 0
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
    share = state.verdict.share if state.verdict else 0.0
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
        _arms(state, share),
    ]
    if state.verdict is not None:
        parts.append(_guardrails(state.verdict.results))
        waits = state.verdict.expected_seconds
        about = f" About {lasting(waits)} to go." if waits and state.verdict.action == "hold" else ""
        parts.append(Text(f"{state.verdict.reason}{about}", style="bold red" if state.phase == "rolling_back" else ""))
    parts += [Text(f"{_clock(one.at)}  {one.what}", style="dim") for one in state.happenings[-6:]]
    return Group(*parts)


def _arms(state: Canary, share: float) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    ended = state.phase in ENDED
    shares = {CANARY: 0.0 if ended else share, STABLE: 1.0 if ended else 1.0 - share}
    for arm, part in shares.items():
        release = state.candidate if arm == CANARY or state.phase == "promoted" else state.stable
        table.add_row(arm, release[:12], f"{100 * part:5.1f} %", "█" * round(40 * part))
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
