"""The declarative feature list, made from a dataset contract: what is computed for training and looked up in service.

A feature is a name, an entity it belongs to, a family that says how it is computed, the event it looks at and how far back.
`lookup` interprets the list; nothing else knows how to compute a feature. Attributes of role `segment` or `sensitive`
never enter it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from components.dataset.contract import Feature
from components.events.contract import DatasetContract

ANY_OUTCOME = "*"
FIRST_OUTCOME = "+"

_ITEM_WINDOWS = (1.0, 3.0, 7.0, 14.0, 28.0, 0.0)
_RATE_WINDOWS = (7.0, 28.0, 0.0)
_USER_WINDOWS = (7.0, 28.0, 0.0)
_PAIR_WINDOWS = (28.0, 0.0)
NEAREST = "nearest"
_RECENT_ITEMS = (3, 20, 0)
"""How many of a user's latest takings co-visitation looks at; 0 stands for all of them."""


def declare(contract: DatasetContract) -> tuple[Feature, ...]:
    """The features of a contract, in a fixed order with distinct names."""
    computed = (
        *_item_features(contract),
        *_user_features(contract),
        *_pair_features(contract),
        *_covisitation_features(),
        *_price_features(contract),
    )
    # A team's attribute may be called as one of ours is; ours keeps the name.
    taken = {feature.name for feature in computed}
    declared = (
        replace(feature, name=f"{feature.name}_attribute") if feature.name in taken else feature
        for feature in _attribute_features(contract)
    )
    return (*computed, *declared)


def outcomes_of(contract: DatasetContract) -> tuple[str, ...]:
    """Outcome events with a gain above 0, ascending by gain, then by name."""
    found = [(kind.gain, name) for name, kind in contract.events.items() if kind.role == "outcome" and kind.gain > 0]
    return tuple(name for _, name in sorted(found))


def impression_of(contract: DatasetContract) -> str:
    """The impression event, or empty where impressions are not logged."""
    return next((name for name, kind in contract.events.items() if kind.role == "impression"), "")


def _is_feature(contract: DatasetContract, attribute: str | None) -> bool:
    """Whether features may be made from an item attribute: what only measures (`segment`) must not come in by a side door."""
    return attribute is not None and contract.attributes.items[attribute].role == "feature"


def _past(days: float) -> str:
    return "so far" if not days else "in the last day" if days == 1 else f"in the last {days:g} days"


def _suffix(days: float) -> str:
    return f"{days:g}d" if days else "all"


def _item_features(contract: DatasetContract) -> Iterator[Feature]:
    outcomes, impression = outcomes_of(contract), impression_of(contract)
    if impression:
        for days in _RATE_WINDOWS:
            yield Feature(
                f"item_{impression}_{_suffix(days)}", "item", "count", impression, days, "number",
                f"How often the item was shown {_past(days)}.",
            )  # fmt: skip
    for outcome in outcomes:
        windows = _ITEM_WINDOWS if outcome == outcomes[0] or len(outcomes) == 1 else _RATE_WINDOWS
        for days in windows:
            yield Feature(
                f"item_{outcome}_{_suffix(days)}", "item", "count", outcome, days, "number",
                f"How many {outcome} events the item had {_past(days)}.",
            )  # fmt: skip
        if impression:
            for days in _RATE_WINDOWS:
                yield Feature(
                    f"item_{outcome}_rate_{_suffix(days)}", "item", "rate", outcome, days, "number",
                    f"Share of the item's impressions {_past(days)} that led to {outcome}, drawn towards the "
                    "catalogue's rate where impressions are few.",
                )  # fmt: skip
    for days in (7.0, 28.0):
        yield Feature(
            f"item_new_users_{_suffix(days)}", "item", "count", FIRST_OUTCOME, days, "number",
            f"How many users took to the item for the first time {_past(days)}.",
        )  # fmt: skip
    for days in (7.0, 14.0):
        yield Feature(
            f"item_popularity_share_{_suffix(days)}", "item", "share", ANY_OUTCOME, days, "number",
            f"The item's share of all outcomes {_past(days)}.",
        )  # fmt: skip
    yield Feature(
        "item_trend", "item", "trend", ANY_OUTCOME, 28.0, "number",
        "The item's outcomes of the last 7 days against a usual week of its last 28.",
    )  # fmt: skip
    yield Feature(
        "item_recency_days", "item", "recency", ANY_OUTCOME, 0.0, "number", "Days since the item's last outcome."
    )
    yield Feature("item_age_days", "item", "tenure", "", 0.0, "number", "Days since the item could first be shown.")


def _user_features(contract: DatasetContract) -> Iterator[Feature]:
    impression = impression_of(contract)
    for days in _USER_WINDOWS:
        yield Feature(
            f"user_outcomes_{_suffix(days)}", "user", "count", ANY_OUTCOME, days, "number",
            f"How many outcomes the user had {_past(days)}.",
        )  # fmt: skip
    if impression:
        yield Feature(
            f"user_{impression}_7d", "user", "count", impression, 7.0, "number",
            f"How many items the user was shown {_past(7.0)}.",
        )  # fmt: skip
        yield Feature(
            "user_rate_28d", "user", "rate", ANY_OUTCOME, 28.0, "number",
            "Outcomes of the user for each impression in the last 28 days, drawn towards everyone's.",
        )  # fmt: skip
    yield Feature(
        "user_recency_days", "user", "recency", ANY_OUTCOME, 0.0, "number", "Days since the user's last outcome."
    )
    yield Feature("user_tenure_days", "user", "tenure", "", 0.0, "number", "Days since the user's first event.")


def _pair_features(contract: DatasetContract) -> Iterator[Feature]:
    impression = impression_of(contract)
    if _is_feature(contract, contract.item.category):
        for days in _PAIR_WINDOWS:
            yield Feature(
                f"user_category_outcomes_{_suffix(days)}", "user_category", "count", ANY_OUTCOME, days, "number",
                f"How many outcomes the user had with items of this category {_past(days)}.",
            )  # fmt: skip
            yield Feature(
                f"user_category_share_{_suffix(days)}", "user_category", "share", ANY_OUTCOME, days, "number",
                f"Share of the user's outcomes {_past(days)} that were in this category.",
            )  # fmt: skip
        if impression:
            yield Feature(
                "user_category_rate_all", "user_category", "rate", ANY_OUTCOME, 0.0, "number",
                "Outcomes of the user for each impression of this category, drawn towards everyone's.",
            )  # fmt: skip
        yield Feature(
            "user_category_recency_days", "user_category", "recency", ANY_OUTCOME, 0.0, "number",
            "Days since the user's last outcome in this category.",
        )  # fmt: skip
    if _is_feature(contract, contract.item.provider):
        yield Feature(
            "user_provider_outcomes_all", "user_provider", "count", ANY_OUTCOME, 0.0, "number",
            "How many outcomes the user had with items of this provider.",
        )  # fmt: skip
        yield Feature(
            "user_provider_share_all", "user_provider", "share", ANY_OUTCOME, 0.0, "number",
            "Share of the user's outcomes that were with this provider.",
        )  # fmt: skip
        yield Feature(
            "user_provider_recency_days", "user_provider", "recency", ANY_OUTCOME, 0.0, "number",
            "Days since the user's last outcome with this provider.",
        )  # fmt: skip
    yield Feature(
        "user_item_outcomes_all", "user_item", "count", ANY_OUTCOME, 0.0, "number",
        "How many outcomes the user had with this very item.",
    )  # fmt: skip
    if impression:
        yield Feature(
            "user_item_shown_all", "user_item", "count", impression, 0.0, "number",
            "How often this very item was shown to the user.",
        )  # fmt: skip
        yield Feature(
            "user_item_shown_recency_days", "user_item", "recency", impression, 0.0, "number",
            "Days since this very item was last shown to the user.",
        )  # fmt: skip


def _covisitation_features() -> Iterator[Feature]:
    for count in _RECENT_ITEMS:
        which = f"the latest {count} items" if count else "all items"
        name = f"last_{count}" if count else "all"
        yield Feature(
            f"covisitation_{name}", "user_item", "covisitation", ANY_OUTCOME, 0.0, "number",
            f"How near the item is to {which} the user took, by the users who took both.", str(count),
        )  # fmt: skip
    yield Feature(
        "covisitation_nearest", "user_item", "covisitation", ANY_OUTCOME, 0.0, "number",
        "How near the item is to the one that is nearest to it among what the user took.", NEAREST,
    )  # fmt: skip


def _price_features(contract: DatasetContract) -> Iterator[Feature]:
    if contract.item.price and _is_feature(contract, contract.item.price):
        yield Feature(
            "price_to_users_mean", "user_item", "price", ANY_OUTCOME, 0.0, "number",
            "The item's price against the mean price of what the user took.", contract.item.price,
        )  # fmt: skip


def _attribute_features(contract: DatasetContract) -> Iterator[Feature]:
    for entity, attributes in (("user", contract.attributes.users), ("item", contract.attributes.items)):
        for name, attribute in attributes.items():
            if attribute.role == "feature":
                yield Feature(
                    f"{entity}_{name}" if not name.startswith(f"{entity}_") else name,
                    "user" if entity == "user" else "item",
                    "attribute", "", 0.0, attribute.type, f"The {entity}'s {name}, as the team's table has it.", name,
                )  # fmt: skip
    for name, attribute in contract.attributes.events.items():
        if attribute.role == "context":
            yield Feature(f"context_{name}", "request", "context", "", 0.0, "category", f"The request's {name}.", name)


def describe(features: Sequence[Feature]) -> str:
    """The list as a Markdown table."""
    lines = ["| feature | entity | family | looks back | meaning |", "| --- | --- | --- | --- | --- |"]
    for feature in features:
        unit = "day" if feature.window_days == 1 else "days"
        back = f"{feature.window_days:g} {unit}" if feature.window_days else "all" if feature.event else ""
        lines.append(f"| `{feature.name}` | {feature.entity} | {feature.family} | {back} | {feature.meaning} |")
    return "\n".join(lines) + "\n"
