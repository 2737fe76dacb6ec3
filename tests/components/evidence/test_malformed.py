"""Wrong requests, and what counts as a refusal of one."""

from __future__ import annotations

import pytest

from components.evidence.malformed import Malformed, malformed_requests

WRONG = Malformed("k of zero", b'{"k": 0}', "k")


def test_wrong_requests_are_of_many_kinds_and_differ() -> None:
    wrong = malformed_requests("17")
    assert len(wrong) >= 55
    assert len({held.what for held in wrong}) == len(wrong)
    assert len({(held.method, held.path, held.body, held.headers.get("Content-Type")) for held in wrong}) == len(wrong)


@pytest.mark.parametrize("answer", [b'{"error": "k: found 0"}', b"k", b"['k']", b'{"loc": ["request", "k"]}'])
def test_a_refusal_names_the_field_as_a_word(answer: bytes) -> None:
    assert WRONG.refused_by(400, answer)


@pytest.mark.parametrize("answer", [b"", b"bad input", b"kinds", b"token k1", b"k_most", b"K"])
def test_a_letter_within_a_word_names_no_field(answer: bytes) -> None:
    assert not WRONG.refused_by(400, answer)


@pytest.mark.parametrize(("status", "refused"), [(0, False), (200, False), (399, False), (400, True), (499, True),
                                                 (500, False), (503, False)])  # fmt: skip
def test_only_a_status_from_400_to_499_refuses(status: int, refused: bool) -> None:
    assert WRONG.refused_by(status, b"k") is refused


def test_an_answer_that_shows_our_code_refuses_nothing() -> None:
    assert not WRONG.refused_by(400, b"k\nTraceback (most recent call last):")
    assert not WRONG.refused_by(400, b'k: File "/srv/components/ranker/scoring.py", line 12, in rank')


def test_where_no_field_can_be_named_the_status_is_enough() -> None:
    assert Malformed("nothing", b"").refused_by(404, b"")
