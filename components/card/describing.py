"""A run in names and words, so that it can be laid beside the incumbent's, and what differs between the two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from components.card.chapters.reranking import rules_in_words
from components.card.contract import Card, Change, ChangeKind, Description, Lineage
from components.card.fields import TEAM_FIELDS
from components.card.words import count, counted, moment, plain, share
from components.dataset.contract import Dataset, Feature
from components.events.contract import Snapshot
from components.ranker.contract import Ranker
from components.verdict.contract import Purpose
from components.verdict.policy import Criterion, Policy

LEAST_SHIFT = 0.01
"""Share of the model's gain that a feature must gain or lose to be told of: one part in a hundred."""


def describe_card(card: Card, policy: Policy | None) -> Description:
    """A run as its card tells it; `policy` is the one it was judged by, None where it cannot be read."""
    frozen = card.verdict.policy
    return describe(
        card.run, card.lineage, card.snapshot, card.dataset, card.ranker, policy, card.purpose,
        label=f"{frozen.name}@{frozen.version}", libraries=card.libraries,
    )  # fmt: skip


def describe(
    run: str,
    lineage: Lineage,
    snapshot: Snapshot,
    dataset: Dataset,
    ranker: Ranker,
    policy: Policy | None,
    purpose: Purpose,
    *,
    label: str,
    libraries: Mapping[str, str],
) -> Description:
    """Everything that a change log speaks of.

    Args:
        run: The run's name.
        lineage: Its digests.
        snapshot: What it read.
        dataset: What it made of that.
        ranker: What it trained.
        policy: The rules, None where they cannot be read.
        purpose: The team's words.
        label: Name and version of the policy.
        libraries: Version of each library.
    """
    named = ("ranker", "dataset", "snapshot", "policy", "verdict", "code")
    return Description(
        run=run,
        digests={name: getattr(lineage, name) for name in named},
        data=_data(snapshot, dataset),
        settings=_settings(dataset, ranker),
        features={feature.name: _made_of(feature) for feature in dataset.features if feature.name in ranker.features},
        weights={held.feature: held.gain_share for held in ranker.importance},
        lists=tuple(_lists(ranker)),
        policy=label,
        rules={criterion.id: rule_in_words(criterion) for criterion in policy.criteria} if policy else {},
        libraries=dict(libraries),
        purpose=purpose,
    )


def _data(snapshot: Snapshot, dataset: Dataset) -> dict[str, str]:
    cuts = {cut.name: cut.ts for cut in dataset.cuts}
    named = {"validation": "validation from", "test": "test from", "release": "features known up to"}
    counts = {
        "users": snapshot.users,
        "items": snapshot.items,
        **{f"rows of {event}": number for event, number in sorted(snapshot.event_counts.items())},
        **{f"requests for {split}": number for split, number in dataset.requests.items()},
    }
    return {
        "log from": moment(snapshot.first_ts),
        "log to": moment(snapshot.last_ts),
        "judged as of": moment(snapshot.as_of),
        **{words: moment(cuts[cut]) for cut, words in named.items() if cut in cuts},
        **{name: count(number) for name, number in counts.items()},
    }


def _settings(dataset: Dataset, ranker: Ranker) -> dict[str, str]:
    return {
        "objective": ranker.objective,
        "trees": count(ranker.trees),
        "lists come from": "a log of what was shown" if ranker.mode == "logged" else "the whole catalogue",
        "features look back in steps of": counted(dataset.bucket_seconds // 3600, "hour"),
        "outcomes": ", ".join(dataset.outcomes),
        "position bias taken out": "yes" if ranker.position_bias else "no",
        "seed": str(ranker.seed),
        "threads": str(ranker.threads),
        **{name: str(value) for name, value in sorted(ranker.parameters.items())},
    }


def _made_of(feature: Feature) -> str:
    """A feature's definition on one line: equal text, equal feature."""
    window = f"{plain(feature.window_days)} days" if feature.window_days else ""
    parts = (feature.family, feature.event, feature.attribute, window, f"of {feature.entity}", feature.type)
    return ", ".join(filter(None, parts))


def _lists(ranker: Ranker) -> Iterator[str]:
    yield from (f"Up to {quota} candidates from {name}." for name, quota in sorted(ranker.candidate_sources.items()))
    # The last sentence of declared rules names their digest, which changes with a comment.
    yield from (rule for rule in rules_in_words(ranker.rerank) if "sha256" not in rule)


def rule_in_words(criterion: Criterion) -> str:
    """What a criterion asks for: two rules with equal words judge alike."""
    select, bound = criterion.select, criterion.bound
    segments = "each group" if select.segments.every else " and ".join(select.segments.each)
    low = "" if bound.low is None else f"at least {plain(bound.low)}"
    high = "" if bound.high is None else f"at most {plain(bound.high)}"
    parts = (
        criterion.effect,
        f"{criterion.statistic} of {criterion.metric} of {select.subject}",
        f"against {select.versus}" if select.versus else "",
        f"by {segments}" if segments else "",
        f"groups of {select.minimum_users} users and more" if select.minimum_users else "",
        *(f"{name} at least {plain(least)}" for name, least in sorted(select.detail_at_least.items())),
        f"{low} and {high}" if low and high else low or high,
        f"insufficient: {criterion.on_insufficient}",
        "a fail may be waived" if criterion.on_fail == "waive" else "",
        f"level {plain(criterion.level)}" if criterion.level is not None else "",
    )
    return ", ".join(filter(None, parts))


def differences(before: Description, now: Description) -> tuple[Change, ...]:
    """What is not as it was; features by how much their weight moved, all else by name, in the order of the card."""
    return (
        *_named("data", before.data, now.data),
        *_named("settings", before.settings, now.settings),
        *_named("features", before.features, now.features),
        *_shifts(before, now),
        *_sentences(before.lists, now.lists),
        *_named("policy", {"policy": before.policy}, {"policy": now.policy}),
        *(_named("policy", before.rules, now.rules) if before.rules and now.rules else ()),
        *_named("libraries", before.libraries, now.libraries),
        *_named("purpose", _said(before.purpose), _said(now.purpose)),
    )


def _named(kind: ChangeKind, before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Change]:
    for name in dict.fromkeys([*now, *before]):
        if before.get(name, "") != now.get(name, ""):
            yield Change(kind, name, before.get(name, ""), now.get(name, ""))


def _shifts(before: Description, now: Description) -> Iterator[Change]:
    names = {*before.weights, *now.weights}
    moved = {name: now.weights.get(name, 0.0) - before.weights.get(name, 0.0) for name in names}
    for name in sorted(names, key=lambda name: (-abs(moved[name]), name)):
        if abs(moved[name]) >= LEAST_SHIFT:
            told = [share(weights[name]) if name in weights else "" for weights in (before.weights, now.weights)]
            yield Change("weights", name, *told)


def _sentences(before: tuple[str, ...], now: tuple[str, ...]) -> Iterator[Change]:
    yield from (Change("lists", "added", "", rule) for rule in now if rule not in before)
    yield from (Change("lists", "removed", rule, "") for rule in before if rule not in now)


def _said(purpose: Purpose) -> dict[str, str]:
    """The team's words by what the card calls them; harms as one text."""
    found = {}
    for field in TEAM_FIELDS:
        value = getattr(purpose, field.key)
        if field.key == "risks":
            value = tuple(f"{risk.harm} {risk.affected} {risk.mitigation}" for risk in value)
        found[field.label] = value if isinstance(value, str) else " / ".join(value)
    return found
