"""Re-rank rules in words: each rule that is declared is said, and none that is not."""

from __future__ import annotations

from components.card.chapters.reranking import rules_in_words
from components.ranker.contract import AttributeRule, Diversity, Exploration, RerankRules
from components.ranker.settings import NO_CAPS


def said(**given: object) -> str:
    return " ".join(rules_in_words(RerankRules(0, 0, 10, False, **given)))  # type: ignore[arg-type]


def test_a_ranker_without_rules_says_so_and_nothing_more() -> None:
    assert rules_in_words(NO_CAPS) == ("No cap by category or provider.", "Items taken before may be shown again.")


def test_caps_and_what_was_taken() -> None:
    assert rules_in_words(RerankRules(3, 2, 8, True)) == (
        "Within the first 8 ranks, at most 3 of a category and at most 2 of a provider.",
        "Items that a user took before are left out.",
    )


def test_blocked_items_are_counted_and_named() -> None:
    assert "1 item is blocked: 4711." in said(blocked_items=("4711",))
    assert "2 items are blocked: 4711 and 4712." in said(blocked_items=("4711", "4712"))


def test_attribute_rules_name_their_values_and_what_an_unknown_request_means() -> None:
    assert "Never shown: items whose adult is 'true' or unknown." in said(
        exclude=(AttributeRule("adult", ("true", None)),)
    )
    locale = AttributeRule("locale", (None,), request="locale")
    assert (
        "Only shown: items whose locale is the request's locale or unknown; any item where the request does not say its "
        "locale." in said(require=(locale,))
    )
    market = AttributeRule("market", (5.0,), request="market", request_unknown="refuse")
    assert "is the request's market or 5; where the request does not say its market, none but" in said(
        require=(market,)
    )


def test_diversity_says_its_strength_and_what_makes_items_alike() -> None:
    found = said(diversity=Diversity(0.3, 50, 0.75, 0.0, 0.25))
    assert "The first 10 ranks are diversified among the first 50 items" in found
    assert "strength 0.30; likeness is the same category 75% and a near price 25%" in found.replace(
        "\u202f", ""
    ).replace(" %", "%")


def test_exploration_says_that_the_figures_are_of_lists_without_it() -> None:
    found = said(exploration=Exploration(0.1, (4, 6), 50, 0), declared="ab" * 32)
    assert "at one of the ranks 4 and 6, one of the 50 items that follow rank 10" in found
    assert "All figures of this card are of lists without it." in found
    assert "sha256 abababababab" in found
