"""A `candidate` that runs by itself: cron expressions, and what a run that is asked for again and again must not pin.

A single run pins the digests of its tables and the moment it was asked for. A schedule reads tables that have grown since,
and judges them as of its own moment: Kubeflow puts these into the arguments when it starts a run (`[[ScheduledTime...]]`,
in UTC; backend/src/crd/controller/scheduledworkflow/util/parameter_formatter.go of kubeflow/pipelines).
"""

from __future__ import annotations

import re
from typing import Any

from components.errors import InputError
from pipelines.request import RunRequest

# Go's reference time, as that is how the formatter is told a format.
MOMENT = "[[ScheduledTime.2006-01-02T15:04:05]]+00:00"
RUN_MOMENT = "[[ScheduledTime.20060102150405]]"

_FIELD = re.compile(r"^(\*|\?|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?(,(\*|[0-9A-Za-z]+(-[0-9A-Za-z]+)?)(/[0-9]+)?)*$")
_RANGES = (("second", 0, 59), ("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))


def six_fields(cron: str) -> str:
    """A cron expression as Kubeflow reads it, seconds first; one of five fields starts at second 0.

    Raises:
        InputError: If it has another number of fields, or one is no cron field, or a number lies beyond its range.
    """
    fields = cron.split()
    if len(fields) == 5:
        fields = ["0", *fields]
    if len(fields) != 6:
        raise InputError(f"--schedule {cron!r}: found {len(fields)} fields; needed 5, or 6 with seconds first.")
    for field, (name, least, most) in zip(fields, _RANGES, strict=True):
        if not _FIELD.match(field):
            raise InputError(
                f"--schedule {cron!r}: found {field!r} as its {name}; needed a cron field, such as 0, */5 or *."
            )
        numbers = [int(number) for number in re.findall(r"(?<![/\w])\d+", field)]
        if beyond := [number for number in numbers if not least <= number <= most]:
            raise InputError(f"--schedule {cron!r}: found the {name} {beyond[0]}; needed {least} to {most}.")
    return " ".join(fields)


def scheduled_arguments(request: RunRequest, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a run that Kubeflow starts again and again: each has its own moment, name and tables.

    A contract that declares its moment keeps it. The run's name ends in the moment it was scheduled for, because an approval
    names the run that it is for.
    """
    facts = arguments["facts"] | {"run": f"{request.run}-{RUN_MOMENT}", "created_at": MOMENT}
    as_of = request.as_of if request.as_of_is_declared else MOMENT
    return arguments | {"facts": facts, "as_of": as_of, "asked_at": MOMENT, "sources": {}}
