"""What the shop's old ranker shows, and what people do with it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from components.events.shop.traffic import DESKTOP, MOBILE, Requests, delays, moments, visitors
from components.events.shop.world import (
    CATEGORIES,
    DAYS,
    NEW_FOR_DAYS,
    PLANS,
    Bools,
    Catalogue,
    Floats,
    Ints,
    People,
    liking,
)

SLOTS = 12
CLICK_OFFSET = -2.0
"""Log-odds of liking an average item that was looked at."""
EXAMINATION_POWER = (0.60, 0.35, 0.50)
"""P(examined) at position k is k ** -power, by index into DEVICES."""
BOT_CLICKS = 0.06
SEARCHES = 0.03
"""Outcomes that come from search, without a request, as a share of the requests."""

_POPULARITY_WEIGHT = 0.9
_AFFINITY_WEIGHT = 0.55
_NEW_BOOST = 0.8
_HALF_LIFE_DAYS = 7.0
_CHUNK = 1024

EVENTS = ("impression", "click", "add_to_cart", "purchase")


@dataclass(frozen=True, slots=True)
class Log:
    """One entry a row of the log; `second` and `arrived` are seconds after START.

    Null is -1 for user, item and request, 0 for position, NaN for second and value. Only impressions have a position.
    """

    user: Ints
    item: Ints
    event: Ints
    """Index into EVENTS."""
    second: Floats
    arrived: Floats
    request: Ints
    position: Ints
    value: Floats
    device: Ints
    """Index into DEVICES."""
    explored: Bools

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Ints | Bools) -> Log:
        """These rows, in this order."""
        return Log(*(getattr(self, field.name)[rows] for field in fields(self)))


def concatenate(logs: list[Log]) -> Log:
    """All rows of all logs."""
    return Log(*(np.concatenate([getattr(log, field.name) for log in logs]) for field in fields(Log)))


def simulate(rng: np.random.Generator, people: People, items: Catalogue, requests: Requests) -> Log:
    """The whole log, unsorted: impressions, what followed from them, and what came from search."""
    shown, clicked = _shown_and_clicked(rng, people, items, requests)
    impressions = _impressions(requests, shown)
    rows = np.flatnonzero(clicked.ravel())
    outcomes = _outcomes(rng, people, items, impressions.take(rows))
    return concatenate([impressions, *outcomes, *_searched(rng, people, items, round(len(requests) * SEARCHES))])


def _shown_and_clicked(
    rng: np.random.Generator, people: People, items: Catalogue, requests: Requests
) -> tuple[Ints, Bools]:
    """Item index and click, each of shape (requests, SLOTS); the old ranker learns every night from the day's clicks."""
    shown = np.empty((len(requests), SLOTS), dtype=np.int64)
    clicked = np.zeros((len(requests), SLOTS), dtype=bool)
    examined = _examination(requests.device)
    clicks, views = np.zeros(len(items)), np.zeros(len(items))
    by_category = np.zeros((len(people), len(CATEGORIES)))
    for day in range(DAYS):
        rows = np.flatnonzero(requests.day == day)
        if not len(rows):
            continue
        item_score = _POPULARITY_WEIGHT * np.log((clicks + 2.0) / (views + 40.0)) + _NEW_BOOST * np.exp(
            -np.maximum(day - items.launched, 0.0) / NEW_FOR_DAYS
        )
        for part in np.array_split(rows, -(-len(rows) // _CHUNK)):
            shown[part] = _draw_lists(
                rng,
                item_weight=np.exp(item_score - item_score.max()),
                user_weight=(by_category[requests.user[part]] + 0.5) ** _AFFINITY_WEIGHT,
                category=items.category,
                explored=requests.explored[part],
                eligible=items.launched <= day,
            )
        user = requests.user[rows][:, None]
        liked = 1 / (1 + np.exp(-(CLICK_OFFSET + liking(people, items, user, shown[rows], np.array(day)))))
        chance = np.where(people.bot[user], BOT_CLICKS, liked * examined[rows])
        clicked[rows] = rng.random(chance.shape) < chance
        fade = 0.5 ** (1 / _HALF_LIFE_DAYS)
        seen, taken = shown[rows].ravel(), clicked[rows].ravel()
        views = fade * views + np.bincount(seen, minlength=len(items))
        clicks = fade * clicks + np.bincount(seen[taken], minlength=len(items))
        np.add.at(by_category, (np.repeat(user, SLOTS)[taken], items.category[seen[taken]]), 1.0)
    return shown, clicked


def _draw_lists(
    rng: np.random.Generator,
    *,
    item_weight: Floats,
    user_weight: Floats,
    category: Ints,
    explored: Bools,
    eligible: Bools,
) -> Ints:
    """SLOTS items a request, drawn one after another without replacement in proportion to their weights.

    Exponential races: the smallest of E / weight are such a draw, in order (Efraimidis and Spirakis, 2006).
    """
    weight = (user_weight[:, category] * item_weight).astype(np.float32)
    weight[explored] = 1.0
    weight[:, ~eligible] = 0.0
    race = rng.standard_exponential(weight.shape, dtype=np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):  # weight 0: infinity or NaN, never among the smallest
        race /= weight
    first = np.argpartition(race, SLOTS, axis=1)[:, :SLOTS]
    order = np.argsort(np.take_along_axis(race, first, axis=1), axis=1)
    drawn: Ints = np.take_along_axis(first, order, axis=1)
    return drawn


def _examination(device: Ints) -> Floats:
    """P(examined), shape (requests, SLOTS)."""
    examined: Floats = np.arange(1, SLOTS + 1) ** -np.array(EXAMINATION_POWER)[device, None]
    return examined


def _impressions(requests: Requests, shown: Ints) -> Log:
    n = len(requests)
    each = np.repeat(np.arange(n), SLOTS)
    return Log(
        user=requests.user[each],
        item=shown.ravel(),
        event=np.zeros(n * SLOTS, dtype=np.int64),
        second=requests.second[each],
        arrived=(requests.second + requests.delay)[each],
        request=each,
        position=np.tile(np.arange(1, SLOTS + 1), n),
        value=np.full(n * SLOTS, np.nan),
        device=requests.device[each],
        explored=requests.explored[each],
    )


def _outcomes(rng: np.random.Generator, people: People, items: Catalogue, at: Log) -> list[Log]:
    """Clicks on `at`, and the carts and purchases that follow from some of them."""
    looking = rng.exponential(12.0, len(at)) + 2.0 * at.position
    clicks = _follow(at, EVENTS.index("click"), looking)
    wanted = liking(
        people, items, clicks.user, clicks.item, (clicks.second // 86_400).astype(np.int64).clip(0, DAYS - 1)
    )
    human = ~people.bot[clicks.user]
    cart = human & (rng.random(len(clicks)) < _logistic(-2.0 + 0.5 * wanted))
    carts = _follow(clicks.take(cart), EVENTS.index("add_to_cart"), rng.uniform(20, 300, cart.sum()))
    plus = people.plan[carts.user] == PLANS[1]
    paid = rng.random(len(carts)) < _logistic(-0.9 + 0.5 * plus + 0.2 * wanted[cart])
    slow = rng.random(paid.sum()) < 0.07
    until = np.where(slow, rng.uniform(6 * 3600, 60 * 3600, paid.sum()), rng.lognormal(np.log(420), 0.9, paid.sum()))
    purchases = _follow(carts.take(paid), EVENTS.index("purchase"), until)
    purchases.value[:] = items.price[purchases.item]
    return [clicks, carts, purchases]


def _follow(log: Log, event: int, after: Floats) -> Log:
    """The same rows as another event `after` seconds later, arriving with the same delay."""
    return Log(
        user=log.user,
        item=log.item,
        event=np.full(len(log), event),
        second=log.second + after,
        arrived=log.arrived + after,
        request=log.request,
        position=np.zeros(len(log), dtype=np.int64),
        value=log.value.copy(),
        device=log.device,
        explored=log.explored,
    )


def _searched(rng: np.random.Generator, people: People, items: Catalogue, n: int) -> list[Log]:
    """Clicks and what follows on items that people looked for themselves: the best of 15 that came to mind."""
    second = np.sort(moments(rng, n))
    day = (second // 86_400).astype(np.int64)
    user = visitors(rng, people, second)
    in_mind = rng.integers(0, len(items), size=(n, 15))
    wanted = liking(people, items, user[:, None], in_mind, day[:, None])
    wanted[items.launched[in_mind] > day[:, None]] = -np.inf
    found = wanted.max(axis=1) > -np.inf
    at = Log(
        user=user,
        item=np.take_along_axis(in_mind, wanted.argmax(axis=1)[:, None], axis=1)[:, 0],
        event=np.zeros(n, dtype=np.int64),
        second=second,
        arrived=second + delays(rng, n),
        request=np.full(n, -1),
        position=np.zeros(n, dtype=np.int64),
        value=np.full(n, np.nan),
        device=rng.choice((MOBILE, DESKTOP), size=n),
        explored=np.zeros(n, dtype=bool),
    )
    return _outcomes(rng, people, items, at.take(found))


def _logistic(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))
