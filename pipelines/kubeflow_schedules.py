"""Schedules that Kubeflow holds: list them, pause them, take them up again, remove them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from components.errors import InputError
from pipelines.kubeflow import Connection, api_errors, open_client

Action = Literal["disable", "enable", "delete"]
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Schedule:
    """One recurring run."""

    identifier: str
    name: str
    cron: str
    """Empty where it runs in an interval, which rankgate does not make."""
    enabled: bool
    made_at: str


def list_schedules(connection: Connection) -> tuple[Schedule, ...]:
    """Every schedule, by name."""
    with api_errors(connection.host):
        found = tuple(_schedules(open_client(connection), connection.namespace))
    return tuple(sorted(found, key=lambda schedule: (schedule.name, schedule.identifier)))


def change_schedule(connection: Connection, name: str, action: Action) -> Schedule:
    """Pause, take up again or remove the schedule with this name or identifier; returns it as it was before.

    Raises:
        InputError: If there is none, or several of that name.
    """
    with api_errors(connection.host):
        client = open_client(connection)
        found = [one for one in _schedules(client, connection.namespace) if name in (one.identifier, one.name)]
        if len(found) != 1:
            told = ", ".join(one.identifier for one in found) or "none"
            raise InputError(f"schedule {name}: found {told}; needed one. List them with: rankgate schedules list")
        {
            "disable": client.disable_recurring_run,
            "enable": client.enable_recurring_run,
            "delete": client.delete_recurring_run,
        }[action](found[0].identifier)
    return found[0]


def _schedules(client: Any, namespace: str) -> Iterator[Schedule]:
    token = ""
    while True:
        listing = client.list_recurring_runs(page_token=token, page_size=_PAGE, namespace=namespace or None)
        for held in listing.recurring_runs or []:
            trigger = held.trigger.cron_schedule if held.trigger else None
            yield Schedule(
                identifier=held.recurring_run_id,
                name=held.display_name,
                cron=trigger.cron if trigger else "",
                enabled=(held.status or held.mode) in ("ENABLED", "ENABLE"),
                made_at=held.created_at.isoformat() if held.created_at else "",
            )
        token = listing.next_page_token or ""
        if not token:
            return
