"""Who asks for a ranking, and when: sessions on a daily and a weekly curve, and the bots' tireless ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from components.events.shop.world import DAYS, Bools, Floats, Ints, People, is_weekend

DEVICES = ("mobile", "desktop", "tablet")
MOBILE, DESKTOP, TABLET = range(3)
HOURLY = np.array([3, 2, 1, 1, 1, 2, 4, 7, 8, 8, 8, 9, 11, 10, 8, 8, 9, 11, 14, 18, 21, 20, 14, 7], dtype=float)
"""Relative traffic in each hour of the day (UTC)."""
WEEKEND_TRAFFIC = 1.5
GROWTH = 0.15
"""Relative growth of traffic over the whole log."""
EXPLORED = 0.20
"""Share of requests that the logging policy answers at random."""
LATE = 0.02
"""Share of requests whose rows arrive hours late: a device was offline."""

_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Requests:
    """One entry a request, ascending in time."""

    user: Ints
    second: Floats
    """Seconds after START."""
    day: Ints
    device: Ints
    """Index into DEVICES."""
    explored: Bools
    delay: Floats
    """Seconds from the event to its arrival in the log."""

    def __len__(self) -> int:
        return len(self.user)


def draw_requests(rng: np.random.Generator, people: People, *, n: int) -> Requests:
    """About `n` requests of people, and a hundredth more of bots."""
    user, second, device = _sessions(rng, people, n)
    machines = np.flatnonzero(people.bot)
    wanted = max(len(machines) * 40, n // 100)
    # Bots ask at any hour, without a session, from a desktop's browser.
    user = np.concatenate([user, rng.choice(machines, size=wanted)])
    second = np.concatenate([second, rng.uniform(0, DAYS * _DAY_SECONDS, wanted)])
    device = np.concatenate([device, np.full(wanted, DESKTOP)])
    order = np.argsort(second, kind="stable")
    delay = delays(rng, len(order))
    return Requests(
        user=user[order],
        second=second[order],
        day=(second[order] // _DAY_SECONDS).astype(np.int64),
        device=device[order],
        explored=rng.random(len(order)) < EXPLORED,
        delay=delay,
    )


def delays(rng: np.random.Generator, n: int) -> Floats:
    """Seconds from an event to its arrival: about a minute, or hours for the LATE share."""
    late = rng.random(n) < LATE
    return np.where(late, rng.uniform(2 * 3600, 36 * 3600, n), rng.uniform(1, 90, n))


def moments(rng: np.random.Generator, n: int) -> Floats:
    """`n` seconds after START on the daily and weekly curves."""
    days = np.arange(DAYS)
    busy = np.where(is_weekend(days), WEEKEND_TRAFFIC, 1.0) * (1 + GROWTH * days / DAYS)
    day = rng.choice(DAYS, size=n, p=busy / busy.sum())
    hour = rng.choice(24, size=n, p=HOURLY / HOURLY.sum())
    return day * _DAY_SECONDS + hour * 3600.0 + rng.uniform(0, 3600, n)


def visitors(rng: np.random.Generator, people: People, second: Floats) -> Ints:
    """Who comes at each moment: in proportion to activity, among those who have joined by then."""
    chosen = np.empty(len(second), dtype=np.int64)
    day = (second // _DAY_SECONDS).astype(np.int64)
    draws = rng.random(len(second))
    for today in np.unique(day):
        reach = np.cumsum(np.where(people.joined < today, people.activity, 0.0))
        at = np.flatnonzero(day == today)
        chosen[at] = np.searchsorted(reach, draws[at] * reach[-1], side="right")
    return chosen


def _sessions(rng: np.random.Generator, people: People, n: int) -> tuple[Ints, Floats, Ints]:
    lengths = np.minimum(rng.geometric(0.6, size=n), 6)
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), n)) + 1]
    opened = moments(rng, len(lengths))
    user = visitors(rng, people, opened)
    weekend = is_weekend((opened // _DAY_SECONDS).astype(np.int64))
    chance = rng.random(len(lengths))
    mobile = np.where(weekend, 0.66, 0.52)
    device = np.where(chance < mobile, MOBILE, np.where(chance < 0.92, DESKTOP, TABLET))
    session = np.repeat(np.arange(len(lengths)), lengths)
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    pause = rng.uniform(40, 360, len(session))
    elapsed = np.cumsum(pause) - np.cumsum(pause)[first][session]
    second = opened[session] + elapsed
    inside = second < DAYS * _DAY_SECONDS
    return user[session][inside], second[inside], device[session][inside]
