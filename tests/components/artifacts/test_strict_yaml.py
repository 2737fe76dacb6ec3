"""YAML whose words mean what they seem to, and nothing else."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts.strict_yaml import Declared, known_keys, parse_model, parse_value, read_value
from components.errors import FaultyInputError, InputError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("010", 10),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("-3", -3),
        ("1e-3", 0.001),
        (".5", 0.5),
        ("1.", 1.0),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("1.0.0", "1.0.0"),
        ("'1'", "1"),
    ],
)
def test_only_the_core_schemas_words_are_anything_but_text(text: str, value: Any) -> None:
    found = parse_value(f"key: {text}", subject="file")["key"]
    assert found == value
    assert type(found) is type(value)


def test_anchors_and_merges_work_and_may_be_overridden() -> None:
    text = "base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\n"
    assert parse_value(text, subject="file")["more"] == {"a": 1, "b": 3}


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "x: {a: 1, a: 1}", "- {b: 1, 'b': 2}", "1: x\n1: y", "!!python/object/apply:os.getcwd []"]
)
def test_repeated_keys_and_foreign_tags_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="file: not readable as YAML"):
        parse_value(text, subject="file")


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_in_our_words(text: str) -> None:
    with suppress(InputError):
        parse_value(text, subject="file")


def test_every_repeated_key_is_told_with_its_lines_and_the_last_value_holds() -> None:
    value, repeated = read_value("a: 1\nb: {x: 1, x: 2}\na: 3\na: 4\n")
    assert value == {"a": 4, "b": {"x": 2}}
    assert sorted((held.key, held.line, held.first_line) for held in repeated) == [
        ("a", 3, 1),
        ("a", 4, 1),
        ("x", 2, 2),
    ]


def test_a_second_merge_in_one_mapping_is_a_repeated_key() -> None:
    _, repeated = read_value("a: &a {x: 1}\nb: &b {x: 2}\nc:\n  <<: *a\n  <<: *b\n")
    assert [(held.key, held.line) for held in repeated] == [("<<", 5)]


@pytest.mark.parametrize("text", ["[" * 101, "[" * 1_000_000, "- " * 1_000_000, "{a: " * 500_000, "? " * 500_000])
def test_a_text_nested_too_deeply_is_refused_and_does_not_end_the_process(text: str) -> None:
    with pytest.raises(InputError, match="file: not readable as YAML"):
        parse_value(text, subject="file")


def test_nesting_as_deep_as_allowed_is_read() -> None:
    value = parse_value("[" * 100 + "]" * 100, subject="file")
    assert str(value) == "[" * 100 + "]" * 100


class Leaf(Declared):
    colour: str = ""
    role: str = ""


class Tree(Declared):
    leaf: Leaf | None = None
    leaves: tuple[Leaf, ...] = ()
    named: dict[str, Leaf] | None = None
    grown: dict[str, tuple[Leaf, ...]] | None = None
    height: int = 0


@pytest.mark.parametrize(
    ("way", "known"),
    [
        ((), ["leaf", "leaves", "named", "grown", "height"]),
        (("leaf",), ["colour", "role"]),
        (("leaves", 3), ["colour", "role"]),
        (("named", "role"), ["colour", "role"]),
        (("named",), []),
        (("grown", "north", 0), ["colour", "role"]),
        (("height",), []),
        (("nowhere", "else"), []),
    ],
)
def test_what_is_known_at_a_place_follows_models_lists_and_names_of_the_writers_own(
    way: tuple[str | int, ...], known: list[str]
) -> None:
    assert known_keys(Tree, way) == known


def test_an_unknown_key_below_a_name_of_the_writers_own_gets_the_nearest_one() -> None:
    with pytest.raises(FaultyInputError, match=r"named\.role\.color: found an unknown key.*Did you mean 'colour'"):
        parse_model(Tree, "named: {role: {color: green}}", subject="file")
