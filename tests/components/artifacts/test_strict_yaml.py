"""YAML whose words mean what they seem to, and nothing else."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts.strict_yaml import parse_value
from components.errors import InputError


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
