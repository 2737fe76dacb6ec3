"""Names for content."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts.digests import canonical_json, digest_bytes, digest_file, digest_tree

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON)
def test_canonical_json_reads_back_as_the_same_value(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_canonical_json_does_not_depend_on_key_order(value: dict[str, int]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_has_no_canonical_json(bad: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"value": bad})


def test_a_file_and_its_bytes_have_the_same_digest(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9_000  # more than one chunk
    (tmp_path / "file").write_bytes(content)
    assert digest_file(tmp_path / "file") == digest_bytes(content) == hashlib.sha256(content).hexdigest()


def _tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_equal_trees_have_equal_digests_wherever_and_whenever_they_were_made(tmp_path: Path) -> None:
    one = _tree(tmp_path / "one", {"a": b"1", "b/c": b"2"})
    two = _tree(tmp_path / "two", {"b/c": b"2", "a": b"1"})
    (two / "empty").mkdir()
    (two / "a").chmod(0o400)
    assert digest_tree(one) == digest_tree(two)


@pytest.mark.parametrize(
    "other", [{"a": b"2", "b/c": b"2"}, {"a": b"1", "b/d": b"2"}, {"a": b"1"}, {"a": b"1", "b/c": b"2", "e": b""}]
)
def test_a_changed_renamed_missing_or_added_file_changes_the_digest(tmp_path: Path, other: dict[str, bytes]) -> None:
    one = _tree(tmp_path / "one", {"a": b"1", "b/c": b"2"})
    assert digest_tree(one) != digest_tree(_tree(tmp_path / "two", other))


def test_nothing_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        digest_tree(tmp_path / "absent")
