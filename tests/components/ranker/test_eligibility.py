"""Who may be shown what: rows, whole catalogues and unknown items answer alike."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from components.ranker.contract import AttributeRule, RerankRules
from components.ranker.eligibility import Eligibility, names_of

LOCALES = ["nl", "de", None, "nl", "fr"]
ADULT = ["false", "true", "false", None, "false"]
PRICES = [1.0, 5.0, None, 9.0, 5.0]
ITEMS = pa.table(
    {
        "item": pa.array(range(5), pa.int32()),
        "item_id": pa.array([f"i{n}" for n in range(5)]),
        "locale": pa.array(LOCALES, pa.string()),
        "adult": pa.array(ADULT, pa.string()),
        "price": pa.array(PRICES, pa.float64()),
        "first_bucket": pa.array([0] * 5, pa.int64()),
    }
)


def eligibility(**given) -> Eligibility:
    return Eligibility(RerankRules(0, 0, 10, False, **given), ITEMS)


def everything(rules: Eligibility, **context: str | None) -> list[bool]:
    said = {name: [value] for name, value in context.items()}
    return np.broadcast_to(rules.of_catalogue(said, requests=1), (1, 5))[0].tolist()


def test_without_rules_everything_may_be_shown_and_nothing_need_be_asked():
    assert not eligibility().limits
    assert everything(eligibility()) == [True] * 5


def test_blocked_ids_are_not_shown_and_unknown_ones_are_blocked_by_name():
    rules = eligibility(blocked_items=("i1", "new"))
    assert rules.limits
    assert everything(rules) == [True, False, True, True, True]
    assert rules.blocks("new")
    assert not rules.blocks("i0")


def test_an_excluded_value_is_not_shown_and_an_item_that_does_not_say_is_unless_null_is_listed():
    assert everything(eligibility(exclude=(AttributeRule("adult", ("true",)),))) == [True, False, True, True, True]
    assert everything(eligibility(exclude=(AttributeRule("adult", ("true", None)),))) == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert everything(eligibility(exclude=(AttributeRule("price", (5.0, None)),))) == [True, False, False, True, False]


def test_a_required_value_of_the_request_lets_pass_what_equals_it():
    rules = eligibility(require=(AttributeRule("locale", (), request="locale"),))
    assert everything(rules, locale="nl") == [True, False, False, True, False]
    assert everything(rules, locale="xx") == [False] * 5
    # What the request does not say cannot be required.
    assert everything(rules) == everything(rules, locale=None) == [True] * 5


def test_a_required_value_may_be_refused_where_the_request_does_not_say():
    rule = AttributeRule("locale", ("fr", None), request="locale", request_unknown="refuse")
    rules = eligibility(require=(rule,))
    assert everything(rules, locale="nl") == [True, False, True, True, True]
    assert everything(rules, locale=None) == [False, False, True, False, True]


def test_an_excluded_value_may_come_from_the_request():
    rules = eligibility(exclude=(AttributeRule("locale", (None,), request="locale"),))
    assert everything(rules, locale="nl") == [False, True, False, False, True]
    assert everything(rules) == [True, True, False, True, True]


def test_an_item_nobody_knows_says_nothing():
    unknown, owner = np.array([-1], dtype=np.int32), np.zeros(1, dtype=np.int64)

    def shown(**given) -> bool:
        return bool(eligibility(**given).of_rows(unknown, owner, {"locale": ["nl"]}, requests=1)[0])

    assert shown(exclude=(AttributeRule("adult", ("true",)),))
    assert not shown(exclude=(AttributeRule("adult", (None,)),))
    assert not shown(require=(AttributeRule("locale", (), request="locale"),))
    assert shown(require=(AttributeRule("locale", (None,), request="locale"),))


attribute_rules = st.builds(
    AttributeRule,
    st.sampled_from(["locale", "adult"]),
    st.lists(st.sampled_from(["nl", "de", "true", "false", None]), max_size=2).map(tuple),
    request=st.sampled_from(["", "locale"]),
    request_unknown=st.sampled_from(["skip", "refuse"]),
)
several = st.lists(attribute_rules, max_size=2).map(tuple)


@given(several, several, st.lists(st.sampled_from(["nl", "fr", "xx", None]), min_size=1, max_size=4))
def test_rows_and_catalogues_agree_with_a_plain_reading_of_the_rules(exclude, require, said):
    rules = eligibility(exclude=exclude, require=require)

    def passes(item: int, value: str | None) -> bool:
        own = {"locale": LOCALES, "adult": ADULT}
        for rule in exclude:
            if own[rule.attribute][item] in {*rule.values, *({value} - {None} if rule.request else ())}:
                return False
        for rule in require:
            if rule.request and value is None and rule.request_unknown == "skip":
                continue
            if own[rule.attribute][item] not in {*rule.values, *({value} - {None} if rule.request else ())}:
                return False
        return True

    expected = np.array([[passes(item, value) for item in range(5)] for value in said])
    found = np.broadcast_to(rules.of_catalogue({"locale": said}, requests=len(said)), expected.shape)
    assert np.array_equal(found, expected)
    owner = np.repeat(np.arange(len(said)), 5)
    items = np.tile(np.arange(5, dtype=np.int32), len(said))
    rows = rules.of_rows(items, owner, {"locale": np.array(said, dtype=object)}, requests=len(said))
    assert np.array_equal(rows.reshape(expected.shape), expected)


def test_a_data_set_is_described_by_its_columns():
    found = names_of(ITEMS, context=("device",), parts=("price",))
    assert (found.categories, found.numbers) == (["locale", "adult"], ["price"])
