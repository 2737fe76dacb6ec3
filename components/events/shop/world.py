"""Who shops, what is sold, and who likes what: drawn once, before anything happens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Texts = NDArray[np.str_]

START = datetime(2026, 3, 1, tzinfo=UTC)
"""A Sunday."""
DAYS = 70

CATEGORIES = (
    "kitchen", "garden", "toys", "lighting", "textiles", "books",
    "bath", "tools", "garments", "stationery", "pets", "sports",
)  # fmt: skip
WEEKEND_CATEGORIES = ("garden", "toys", "sports")
PROVIDERS = tuple(f"provider-{number:02d}" for number in range(1, 26))
COUNTRIES = ("DE", "FR", "GB", "NL", "LU")
COUNTRY_SHARES = (0.36, 0.27, 0.21, 0.13, 0.03)
AGE_BANDS = ("18-24", "25-34", "35-49", "50-64", "65+")
AGE_SHARES = (0.15, 0.26, 0.29, 0.20, 0.10)
GENDERS = ("female", "male", "unknown")
GENDER_SHARES = (0.49, 0.42, 0.09)
PLANS = ("free", "plus")
PLUS_SHARE = 0.25
REFUSE = 0.03
UNREGISTERED = 0.02
DELISTED = 0.015

STYLE_DIMENSIONS = 5
NEW_FOR_DAYS = 12.0

# Standard deviations of the parts of log-odds of a liked item, across users and items. Taste leads, so that a ranker that
# knows the user has more to gain than one that knows what is popular.
TASTE_SCALE = 1.50
STYLE_SCALE = 0.65
QUALITY_SCALE = 0.60
TREND_SCALE = 0.40
PRICE_WEIGHT = 0.40
NOVELTY = 0.60
WEEKEND_LIFT = 0.50


@dataclass(frozen=True, slots=True)
class People:
    """One entry a user; `n` users.

    Shapes: taste (n, categories), style (n, STYLE_DIMENSIONS), the rest (n,). `joined` is in days after START, negative for
    users older than the log; `activity` is relative.
    """

    ids: Texts
    country: Texts
    age_band: Texts
    gender: Texts
    plan: Texts
    consents: Bools
    registered: Bools
    """Has a row in the users table."""
    bot: Bools
    joined: Floats
    activity: Floats
    taste: Floats
    style: Floats
    price_level: Floats
    price_weight: Floats

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One entry an item; `m` items.

    Shapes: style (m, STYLE_DIMENSIONS), trend (DAYS, m), the rest (m,). `launched` is in days after START; `price_level` is
    log price standardised within the category.
    """

    ids: Ints
    category: Ints
    """Index into CATEGORIES."""
    provider: Ints
    """Index into PROVIDERS."""
    price: Floats
    price_level: Floats
    quality: Floats
    launched: Floats
    style: Floats
    trend: Floats
    listed: Bools
    """Still has a row in the items table when the log is exported."""

    def __len__(self) -> int:
        return len(self.ids)


def draw_people(rng: np.random.Generator, *, n: int, bots: int) -> People:
    """`n` users, `bots` of them automata that nobody has marked."""
    bot = np.zeros(n, dtype=bool)
    bot[rng.choice(n, size=bots, replace=False)] = True
    loved = rng.gamma(0.30, size=(n, len(CATEGORIES)))
    taste = np.log(loved / loved.sum(axis=1, keepdims=True) + 0.02)
    plus = rng.random(n) < PLUS_SHARE
    joined = np.where(rng.random(n) < 0.12, rng.uniform(0, DAYS - 7, n), -rng.exponential(400.0, n))
    return People(
        ids=np.array([f"u{number:05d}" for number in range(1, n + 1)]),
        country=rng.choice(COUNTRIES, size=n, p=COUNTRY_SHARES),
        age_band=rng.choice(AGE_BANDS, size=n, p=AGE_SHARES),
        gender=rng.choice(GENDERS, size=n, p=GENDER_SHARES),
        plan=np.where(plus, PLANS[1], PLANS[0]),
        consents=(rng.random(n) >= REFUSE) | bot,
        registered=(rng.random(n) >= UNREGISTERED) | bot,
        bot=bot,
        joined=np.where(bot, -30.0, joined),
        activity=np.where(bot, 0.0, rng.gamma(0.75, size=n) + 0.05) * np.where(plus, 1.3, 1.0),
        taste=TASTE_SCALE * (taste - taste.mean(axis=1, keepdims=True)) / taste.std(),
        style=rng.normal(size=(n, STYLE_DIMENSIONS)),
        price_level=rng.normal(0.0, 0.8, n),
        price_weight=PRICE_WEIGHT * rng.uniform(0.3, 1.7, n),
    )


def draw_catalogue(rng: np.random.Generator, *, m: int) -> Catalogue:
    """`m` items, four fifths of them older than the log."""
    shares = 1.0 / np.arange(2, len(CATEGORIES) + 2) ** 0.5
    category = rng.choice(len(CATEGORIES), size=m, p=shares / shares.sum())
    sizes = 1.0 / np.arange(1, len(PROVIDERS) + 1) ** 0.8
    provider = rng.choice(len(PROVIDERS), size=m, p=sizes / sizes.sum())
    typical = rng.uniform(np.log(6), np.log(60), len(CATEGORIES))
    price_level = rng.normal(size=m)
    provider_quality = rng.normal(size=len(PROVIDERS))
    quality = QUALITY_SCALE * (provider_quality[provider] + rng.normal(size=m)) / np.sqrt(2)
    quality -= quality.mean()
    return Catalogue(
        ids=rng.permutation(np.arange(m)) * 7 + 10_001,
        category=category,
        provider=provider,
        price=np.exp(typical[category] + 0.5 * price_level).round(2),
        price_level=price_level,
        quality=quality,
        launched=_launches(rng, m),
        style=rng.normal(size=(m, STYLE_DIMENSIONS)),
        trend=_trends(rng, m),
        listed=rng.random(m) >= DELISTED,
    )


def _launches(rng: np.random.Generator, m: int) -> Floats:
    """Days after START at which each item comes up for sale, always at six in the morning."""
    kind = rng.choice(4, size=m, p=(0.80, 0.07, 0.07, 0.06))
    old = -1.0 - np.floor(rng.exponential(200.0, m))
    trickled = np.floor(rng.uniform(1, DAYS - 2, m))
    return np.choose(kind, [old, trickled, np.full(m, 30.0), np.full(m, 51.0)]) + 0.25


def _trends(rng: np.random.Generator, m: int) -> Floats:
    """A stationary first-order autoregression a day, correlation 0.93 from one day to the next."""
    memory = 0.93
    shocks = rng.normal(size=(DAYS, m))
    trend = np.empty((DAYS, m))
    trend[0] = shocks[0]
    for day in range(1, DAYS):
        trend[day] = memory * trend[day - 1] + np.sqrt(1 - memory**2) * shocks[day]
    return TREND_SCALE * trend


def liking(people: People, items: Catalogue, users: Ints, shown: Ints, day: Ints) -> Floats:
    """Log-odds, up to a constant, that a user likes an item on a day.

    Args:
        people: The users.
        items: The items.
        users: Index of the user, any shape.
        shown: Index of the item, a shape that `users` broadcasts to.
        day: Day after START in [0, DAYS), as `users`.

    Returns:
        As `shown`; mean near -0.2 and standard deviation near 1.8 over random pairs.
    """
    category = items.category[shown]
    style = (people.style[users] * items.style[shown]).sum(axis=-1) / np.sqrt(STYLE_DIMENSIONS)
    distance = np.abs(items.price_level[shown] - people.price_level[users])
    price = -people.price_weight[users] * np.minimum(distance, 3.0) ** 2 / 2
    age = day - items.launched[shown]
    novelty = NOVELTY * np.exp(-np.maximum(age, 0.0) / NEW_FOR_DAYS)
    lifted = np.isin(category, [CATEGORIES.index(name) for name in WEEKEND_CATEGORIES])
    weekend = WEEKEND_LIFT * (lifted & is_weekend(day))
    taste = people.taste[users, category]
    total: Floats = (
        taste + STYLE_SCALE * style + price + items.quality[shown] + items.trend[day, shown] + novelty + weekend
    )
    return total


def is_weekend(day: Ints) -> Bools:
    """START is a Sunday, so days 0 and 6 of each week after it are a weekend's."""
    weekend: Bools = np.isin(np.asarray(day) % 7, (0, 6))
    return weekend
