"""Freeze, decide, enforce on real folders: whatever the evidence is, there is a verdict; only a changed policy stops it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.artifacts import documents
from components.artifacts.digests import digest_file, digest_tree
from components.errors import BlockedError, InputError
from components.evidence.contract import Estimate, Evidence
from components.verdict.contract import FrozenPolicy, Verdict
from components.verdict.decide import decide
from components.verdict.enforce import enforce
from components.verdict.freezing import freeze_policy, open_frozen

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

POLICY = """\
schema: rankgate/policy/v1
name: two-questions
version: 1.0.0
description: For tests.
level: 0.95
first_release: block
criteria:
  - id: better
    title: Better than popularity
    why: Popularity is free.
    evidence: quality
    metric: ndcg@10
    statistic: difference
    select: {versus: popularity}
    bound: {at_least: 0}
  - id: clean
    title: Few rejected rows
    why: Rows that are lost are users that are lost.
    evidence: data
    metric: rejected_share
    select: {subject: events}
    bound: {at_most: 0.05}
"""
SUITE = """\
schema: rankgate/suite/v1
policy: two-questions
cases:
  - name: good
    samples: [samples/good.yaml]
    expect: {verdict: passed, violations: 0}
  - name: bad
    samples: [samples/good.yaml]
    change:
      quality: [{metric: ndcg@10, statistic: difference, versus: popularity, value: -0.1, interval: [-0.2, -0.05]}]
      data: [{metric: rejected_share, subject: events, exact: 0.06}]
    expect:
      verdict: blocked
      answers: {better: fail, clean: fail}
      violations: 2
      messages: ["0.100 below the popularity baseline", "rejected share of 'events' is 0.060 (counted, not sampled"]
  - name: nothing known
    samples: [samples/good.yaml]
    without: [quality, data]
    expect: {verdict: blocked, answers: {better: insufficient, clean: insufficient}, violations: 2}
"""
SAMPLE = """\
schema: rankgate/sample/v1
evidence:
  quality: [{metric: ndcg@10, statistic: difference, versus: popularity, value: 0.1, interval: [0.05, 0.2]}]
  data: [{metric: rejected_share, subject: events, exact: 0.05}]
"""


def write_policy(folder: Path, policy: str = POLICY, suite: str = SUITE, sample: str = SAMPLE) -> Path:
    (folder / "samples").mkdir(parents=True)
    (folder / "policy.yaml").write_text(policy)
    (folder / "suite.yaml").write_text(suite)
    (folder / "samples" / "good.yaml").write_text(sample)
    return folder


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    out = tmp_path / "frozen"
    out.mkdir()
    freeze_policy(write_policy(tmp_path / "policy") / "policy.yaml", at=NOON, out=out)
    return out


def quality(low: float = 0.05) -> Evidence:
    found = Estimate(
        "ndcg@10", "difference", "candidate", "popularity", {}, 0.1, low, 0.2, 0.95, 900, 2000, "bootstrap", 0.03
    )
    return Evidence(1, "quality", (found,), {}, {"dataset": "d" * 64}, {}, {}, {}, 0)


def data() -> Evidence:
    share = Estimate("rejected_share", "value", "events", "", {}, 0.05, 0.05, 0.05, 1.0, 0, 100, "exact", None)
    return Evidence(1, "data", (share,), {}, {"dataset": "d" * 64}, {}, {}, {}, 0)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """One evidence folder a question."""
    found = []
    for evidence in (quality(), data()):
        folder = tmp_path / f"evidence-{evidence.question}"
        folder.mkdir()
        documents.save(evidence, folder / f"{evidence.question}.json")
        found.append(folder)
    return found


@pytest.fixture
def judge(tmp_path: Path, frozen: Path, folders: list[Path]) -> Callable[[], Verdict]:
    """Decides on the folders as they are, each time into a new place; enforce and decide must agree."""
    places = iter(range(1000))

    def run() -> Verdict:
        out = tmp_path / f"verdict-{next(places)}"
        out.mkdir()
        verdict = decide(folders, frozen, first_release=True, out=out)
        assert documents.load(Verdict, out / "verdict.json") == verdict
        if verdict.answer == "passed":
            enforce(out)
        else:
            with pytest.raises(BlockedError):
                enforce(out)
        return verdict

    return run


def test_a_frozen_policy_holds_its_own_bytes_and_what_its_suite_was(tmp_path: Path, frozen: Path) -> None:
    found, policy = open_frozen(frozen)
    source = tmp_path / "policy" / "policy.yaml"
    assert (frozen / "policy.yaml").read_bytes() == source.read_bytes()
    assert sorted(path.name for path in frozen.iterdir()) == ["frozen.json", "policy.yaml"]
    assert (found.name, found.version, found.digest) == ("two-questions", "1.0.0", digest_file(source))
    assert (found.frozen_at, found.suite_cases) == ("2026-03-01T12:00:00+00:00", 3)
    assert policy.label == "two-questions@1.0.0"


def test_freezing_names_the_suite_by_its_cases_and_samples(tmp_path: Path) -> None:
    digests = []
    for name, sample in (("a", SAMPLE), ("b", SAMPLE), ("c", SAMPLE + "# changed\n")):
        out = tmp_path / f"out-{name}"
        out.mkdir()
        digests.append(freeze_policy(write_policy(tmp_path / name, sample=sample), at=NOON, out=out).suite)
    assert digests[0] == digests[1] != digests[2]


def test_line_ends_of_another_system_change_nothing_but_the_digest(tmp_path: Path) -> None:
    folder = write_policy(tmp_path / "policy")
    (folder / "policy.yaml").write_bytes(POLICY.replace("\n", "\r\n").encode())
    out = tmp_path / "out"
    out.mkdir()
    found = freeze_policy(folder, at=NOON, out=out)
    assert found.digest == digest_file(out / "policy.yaml") == digest_file(folder / "policy.yaml")


def test_a_policy_whose_suite_fails_is_not_frozen(tmp_path: Path) -> None:
    folder = write_policy(tmp_path / "policy", POLICY.replace("at_most: 0.05", "at_most: 0.07"))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError, match="case 'bad': found clean: pass; needed fail"):
        freeze_policy(folder, at=NOON, out=out)
    assert not list(out.iterdir())


def test_freezing_needs_a_time_zone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without a time zone"):
        freeze_policy(write_policy(tmp_path / "p"), at=datetime(2026, 3, 1), out=tmp_path)  # noqa: DTZ001


def test_good_evidence_passes(judge: Callable[[], Verdict], folders: list[Path]) -> None:
    verdict = judge()
    assert verdict.answer == "passed"
    assert verdict.summary == (
        "Passed: nothing stops the release under the 2 blocking criteria of policy two-questions@1.0.0."
    )
    assert verdict.evidence == {
        "quality": digest_file(folders[0] / "quality.json"),
        "data": digest_file(folders[1] / "data.json"),
    }


def test_equal_evidence_gives_equal_bytes_whatever_the_order(tmp_path: Path, frozen: Path, folders: list[Path]) -> None:
    digests = set()
    for place, given in enumerate((folders, folders[::-1])):
        out = tmp_path / str(place)
        out.mkdir()
        decide(given, frozen, first_release=True, out=out)
        digests.add(digest_tree(out))
    assert len(digests) == 1


def test_a_blocked_run_says_why_where_it_is_enforced(tmp_path: Path, frozen: Path, folders: list[Path]) -> None:
    documents.save(quality(low=-0.05), folders[0] / "quality.json")
    out = tmp_path / "verdict"
    out.mkdir()
    verdict = decide(folders, frozen, first_release=True, out=out)
    assert (
        verdict.summary == "Blocked by 1 of 2 blocking criteria of policy two-questions@1.0.0: better (insufficient)."
    )
    with pytest.raises(BlockedError) as caught:
        enforce(out)
    assert verdict.summary in str(caught.value)
    assert verdict.outcomes[0].findings[0].message in str(caught.value)


BROKEN = {
    "empty": b"",
    "torn": documents.to_bytes(quality())[:200],
    "no JSON": b"quality is fine",
    "NaN": documents.to_bytes(quality()).replace(b'"value":0.1', b'"value":NaN'),
    "too large a number": documents.to_bytes(quality()).replace(b'"value":0.1', b'"value":1e999'),
    "infinity": documents.to_bytes(quality()).replace(b'"high":0.2', b'"high":Infinity'),
    "older schema": documents.to_bytes(quality()).replace(b'"schema_version":1', b'"schema_version":0'),
    "newer schema": documents.to_bytes(quality()).replace(b'"schema_version":1', b'"schema_version":2'),
    "unknown key": documents.to_bytes(quality()).replace(b'"seed":0', b'"seed":0,"passed":true'),
    "missing key": documents.to_bytes(quality()).replace(b'"value":0.1,', b""),
    "text for a number": documents.to_bytes(quality()).replace(b'"value":0.1', b'"value":"high"'),
    "a list": b"[]",
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 200_000,
    "another question": documents.to_bytes(data()),
    "of other data": documents.to_bytes(replace(quality(), inputs={"dataset": "e" * 64})),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_bad_evidence_blocks_and_never_raises(
    judge: Callable[[], Verdict], folders: list[Path], content: bytes
) -> None:
    (folders[0] / "quality.json").write_bytes(content)
    verdict = judge()
    assert verdict.answer == "blocked"
    better = verdict.outcomes[0]
    assert (better.answer, better.blocks) == ("insufficient", True)
    assert "quality" in better.findings[0].message
    assert len(better.findings[0].message) < 1000


def test_missing_evidence_blocks(judge: Callable[[], Verdict], folders: list[Path]) -> None:
    (folders[0] / "quality.json").unlink()
    verdict = judge()
    assert "the evidence quality.json is missing" in verdict.outcomes[0].findings[0].message
    assert set(verdict.evidence) == {"data"}


def test_a_missing_folder_blocks(judge: Callable[[], Verdict], folders: list[Path]) -> None:
    folders[0] = folders[0] / "nowhere"
    assert judge().answer == "blocked"


def test_a_question_that_was_answered_twice_blocks(judge: Callable[[], Verdict], folders: list[Path]) -> None:
    documents.save(quality(), folders[1] / "quality.json")
    verdict = judge()
    assert "quality.json lies in 2 evidence folders" in verdict.outcomes[0].findings[0].message


@pytest.mark.parametrize("shape", ["folder", "dangling link"])
def test_evidence_that_is_no_file_blocks(judge: Callable[[], Verdict], folders: list[Path], shape: str) -> None:
    place = folders[0] / "quality.json"
    place.unlink()
    if shape == "folder":
        place.mkdir()
    else:
        place.symlink_to(folders[0] / "gone")
    assert "cannot be read" in judge().outcomes[0].findings[0].message


def test_a_policy_changed_since_it_was_frozen_cannot_judge(frozen: Path, judge: Callable[[], Verdict]) -> None:
    (frozen / "policy.yaml").write_text(POLICY.replace("at_most: 0.05", "at_most: 0.5"))
    with pytest.raises(InputError, match=r"two-questions@1\.0\.0: policy\.yaml now has digest .* start a new run"):
        judge()


@pytest.mark.parametrize("name", ["policy.yaml", "frozen.json"])
def test_a_frozen_policy_must_be_whole(frozen: Path, judge: Callable[[], Verdict], name: str) -> None:
    (frozen / name).unlink()
    with pytest.raises(InputError, match="cannot be read"):
        judge()


@pytest.mark.parametrize(
    "change",
    [{"answer": "passed"}, {"answer": "blocked"}, {"answer": "passed", "outcomes": ()}],
    ids=["passed over a blocking outcome", "blocked without one", "nothing judged"],
)
def test_enforcing_asks_for_an_answer_that_its_outcomes_bear_out(
    judge: Callable[[], Verdict], folders: list[Path], tmp_path: Path, change: dict[str, object]
) -> None:
    if change == {"answer": "passed"}:
        (folders[0] / "quality.json").unlink()
    documents.save(replace(judge(), **change), tmp_path / "verdict.json")
    with pytest.raises(BlockedError):
        enforce(tmp_path)


def test_enforcing_a_verdict_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        enforce(tmp_path)


def test_a_verdict_holds_no_path_of_the_machine(
    judge: Callable[[], Verdict], folders: list[Path], tmp_path: Path
) -> None:
    (folders[0] / "quality.json").write_text("{")
    assert str(tmp_path) not in json.dumps(documents.as_json(judge()))


def test_a_verdict_of_schema_1_still_loads(repository: Path) -> None:
    folder = repository / "tests" / "golden" / "verdict" / "v1"
    found = documents.load(Verdict, folder / "verdict.json")
    assert documents.load(FrozenPolicy, folder / "frozen.json") == found.policy
    assert (found.schema_version, found.answer) == (1, "blocked")
    assert [outcome.answer for outcome in found.outcomes] == ["insufficient", "insufficient"]
    with pytest.raises(BlockedError, match=found.outcomes[0].findings[0].message[:60]):
        enforce(folder)
