"""The re-rank rules in words: what is done to the model's order before anybody sees it."""

from __future__ import annotations

from components.card.words import figure, listed, share
from components.ranker.contract import AttributeRule, Diversity, Exploration, RerankRules


def rules_in_words(rules: RerankRules) -> tuple[str, ...]:
    """Sentences; the first two say of every ranker whether items are capped and whether they come again."""
    found = [_caps(rules), _seen(rules)]
    if rules.blocked_items:
        count = len(rules.blocked_items)
        found.append(f"{count} {'item is' if count == 1 else 'items are'} blocked: {listed(rules.blocked_items)}.")
    found += [f"Never shown: items whose {_values(rule, 'is')}." for rule in rules.exclude]
    found += [f"Only shown: items whose {_values(rule, 'is')}{_unknown(rule)}." for rule in rules.require]
    if rules.diversity:
        found.append(_diversity(rules.diversity, rules.window))
    if rules.exploration:
        found.append(_exploration(rules.exploration, rules.window))
    if rules.declared:
        found.append(f"Declared in rerank.yaml, sha256 {rules.declared[:12]}, which was frozen with the policy.")
    return tuple(found)


def _caps(rules: RerankRules) -> str:
    caps = []
    if rules.max_per_category:
        caps.append(f"at most {rules.max_per_category} of a category")
    if rules.max_per_provider:
        caps.append(f"at most {rules.max_per_provider} of a provider")
    return (
        f"Within the first {rules.window} ranks, {' and '.join(caps)}." if caps else "No cap by category or provider."
    )


def _seen(rules: RerankRules) -> str:
    if rules.exclude_seen:
        return "Items that a user took before are left out."
    return "Items taken before may be shown again."


def _values(rule: AttributeRule, verb: str) -> str:
    values = ["unknown" if value is None else _named(value) for value in rule.values]
    if rule.request:
        values.insert(0, f"the request's {rule.request}")
    return f"{rule.attribute} {verb} {' or '.join(values)}"


def _named(value: str | float) -> str:
    return f"'{value}'" if isinstance(value, str) else f"{value:g}"


def _unknown(rule: AttributeRule) -> str:
    if not rule.request:
        return ""
    if rule.request_unknown == "skip":
        return f"; any item where the request does not say its {rule.request}"
    return f"; where the request does not say its {rule.request}, none but those of the values named here"


def _diversity(diversity: Diversity, window: int) -> str:
    shares = {"the same category": diversity.category, "the same provider": diversity.provider}
    shares["a near price"] = diversity.price
    like = [f"{what} {share(part, 0)}" for what, part in shares.items() if part > 0]
    return (
        f"The first {window} ranks are diversified among the first {diversity.pool} items (maximal marginal relevance, "
        f"strength {figure(diversity.strength, 2)}; likeness is {listed(like)})."
    )


def _exploration(exploration: Exploration, window: int) -> str:
    ranks = listed([str(rank) for rank in exploration.ranks])
    return (
        f"{share(exploration.probability)} of the lists show, at one of the ranks {ranks}, one of the {exploration.pool} items "
        f"that follow rank {window}. All figures of this card are of lists without it."
    )
