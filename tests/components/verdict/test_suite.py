"""A policy is accepted only with a suite that covers it and comes out as it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.artifacts import documents
from components.errors import FaultyInputError, InputError
from components.evidence.contract import Estimate, Evidence
from components.verdict.suite import check_suite, run_suite

POLICY = {
    "schema": "rankgate/policy/v1",
    "name": "small",
    "version": "1.0.0",
    "description": "For tests.",
    "level": 0.95,
    "first_release": "excuse",
    "criteria": [
        {
            "id": "better",
            "title": "Better",
            "why": "Because.",
            "evidence": "quality",
            "metric": "ndcg@10",
            "statistic": "difference",
            "select": {"versus": "incumbent"},
            "bound": {"at_least": 0},
            "when": "incumbent",
        },
        {
            "id": "clean",
            "title": "Clean",
            "why": "Because.",
            "evidence": "data",
            "metric": "rejected_share",
            "select": {"subject": "events"},
            "bound": {"at_most": 0.05},
        },
    ],
}
BETTER = {"metric": "ndcg@10", "statistic": "difference", "versus": "incumbent", "value": 0.1, "interval": [0.05, 0.2]}
CLEAN = {"metric": "rejected_share", "subject": "events", "exact": 0.05}
SAMPLE = {"schema": "rankgate/sample/v1", "evidence": {"quality": [BETTER], "data": [CLEAN]}}
GOOD = {"name": "good", "samples": ["good.yaml"], "expect": {"verdict": "passed", "violations": 0}}
BAD = {
    "name": "bad",
    "samples": ["good.yaml"],
    "change": {
        "quality": [{**BETTER, "value": -0.1, "interval": [-0.2, -0.05]}],
        "data": [{**CLEAN, "exact": 0.06}],
    },
    "expect": {
        "verdict": "blocked",
        "answers": {"better": "fail", "clean": "fail"},
        "violations": 2,
        "messages": ["0.100 below the incumbent"],
    },
}
UNKNOWN = {
    "name": "unknown",
    "samples": ["good.yaml"],
    "without": ["data"],
    "change": {"quality": [{**BETTER, "remove": True, "value": None, "interval": None}]},
    "expect": {"verdict": "blocked", "answers": {"better": "insufficient", "clean": "insufficient"}, "violations": 2},
}
FIRST = {
    "name": "first",
    "samples": ["good.yaml"],
    "first_release": True,
    "change": {
        "quality": [
            {**BETTER, "versus": "popularity"},
            {"metric": "ndcg@10", "statistic": "difference", "versus": "incumbent", "remove": True},
        ]
    },
    "expect": {"verdict": "passed", "answers": {"better": "not applicable"}, "violations": 0},
}
CASES = [GOOD, BAD, UNKNOWN, FIRST]


def write(folder: Path, cases: list[dict[str, Any]] | None = None, **suite: Any) -> Path:
    value = {"schema": "rankgate/suite/v1", "policy": "small", "cases": CASES if cases is None else cases, **suite}
    (folder / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    (folder / "suite.yaml").write_text(yaml.safe_dump(value))
    (folder / "good.yaml").write_text(yaml.safe_dump(SAMPLE))
    return folder


def expecting(case: dict[str, Any], **expect: Any) -> list[dict[str, Any]]:
    """All cases, one of them expecting something else."""
    return [{**held, "expect": {**held["expect"], **expect}} if held is case else held for held in CASES]


def test_a_suite_that_covers_its_policy_bears_it_out(tmp_path: Path) -> None:
    result = check_suite(write(tmp_path))
    assert (result.cases, result.failures, result.policy.label) == (4, (), "small@1.0.0")


@pytest.mark.parametrize(
    ("case", "expect", "told"),
    [
        (GOOD, {"verdict": "blocked"}, "case 'good': found the verdict passed; needed blocked"),
        (
            GOOD,
            {"answers": {"better": "fail"}},
            "case 'good': found better: pass; needed fail. It says: better: NDCG@10",
        ),
        (BAD, {"violations": 1}, "case 'bad': found 2 violations; needed 1"),
        (BAD, {"answers": {"better": "fail"}}, "case 'bad': found clean: fail; needed pass"),
        (BAD, {"messages": ["0.200 below"]}, "case 'bad': found no violation that says '0.200 below'"),
        (FIRST, {"answers": {}}, "case 'first': found better: not applicable; needed pass"),
        (FIRST, {"answers": {"better": "insufficient"}}, "found better: not applicable; needed insufficient"),
    ],
)
def test_what_comes_out_otherwise_names_the_case(
    tmp_path: Path, case: dict[str, Any], expect: dict[str, Any], told: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_suite(write(tmp_path, expecting(case, **expect)))
    assert told in str(caught.value)
    assert "policy small@1.0.0: its suite of 4 cases does not bear it out" in str(caught.value)


def test_white_space_in_a_fragment_does_not_matter(tmp_path: Path) -> None:
    assert not run_suite(write(tmp_path, expecting(BAD, messages=["1 000 users", " is  0.100\nbelow "]))).failures


@pytest.mark.parametrize(
    ("left_out", "told"),
    [
        (BAD, "criterion better: no case expects it to be fail"),
        (UNKNOWN, "criterion clean: no case expects it to be insufficient"),
    ],
)
def test_every_criterion_has_a_case_for_each_answer(tmp_path: Path, left_out: dict[str, Any], told: str) -> None:
    result = run_suite(write(tmp_path, [case for case in CASES if case is not left_out]))
    assert any(told in failure for failure in result.failures)


def test_a_criterion_that_no_case_passes_is_not_covered(tmp_path: Path) -> None:
    result = run_suite(write(tmp_path, [BAD, UNKNOWN, FIRST]))
    assert result.failures == ("criterion better: no case expects it to be pass; needed one each",)


def test_a_policy_without_suite_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "suite.yaml").unlink()
    with pytest.raises(InputError, match=r"policy small@1\.0\.0: found no suite\.yaml beside policy\.yaml"):
        check_suite(tmp_path)


@pytest.mark.parametrize(
    ("cases", "suite", "told"),
    [
        (None, {"policy": "other"}, "needed the name of the policy beside it, 'small'"),
        ([GOOD, GOOD], {}, "cases.1.name: found 'good'; needed a name that no other case has"),
        (expecting(GOOD, answers={"beter": "pass"}), {}, "Did you mean 'better'?"),
        (expecting(GOOD, violations=1), {}, "passed with 1 violations"),
        ([], {}, "cases: found a list of 0; needed at least one"),
        ([{**GOOD, "sample": "x"}], {}, "Did you mean 'samples'?"),
        ([{**GOOD, "change": {"quality": [{"metrc": "x"}]}}], {}, "Did you mean 'metric'?"),
        ([{**GOOD, "change": {"speed": []}}], {}, "cases.0.change.speed"),
        (None, {"caess": []}, "Did you mean 'cases'?"),
    ],
)
def test_faults_of_a_suite_are_told(
    tmp_path: Path, cases: list[dict[str, Any]] | None, suite: dict[str, Any], told: str
) -> None:
    with pytest.raises(FaultyInputError) as caught:
        run_suite(write(tmp_path, cases, **suite))
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["../good.yaml", "/etc/hostname", "samples/none.yaml"])
def test_samples_lie_inside_the_policys_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"inside the policy's folder|cannot be read"):
        run_suite(write(tmp_path, [{**GOOD, "samples": [name]}]))


@pytest.mark.parametrize(
    ("estimate", "told"),
    [
        ({"metric": "m", "exact": 1, "value": 2}, "exact alone, or value with interval"),
        ({"metric": "m", "exact": 1, "remove": True}, "remove without a value"),
        ({"metric": "m", "value": True}, "valid number"),
        ({"metric": "m", "interval": [1]}, "interval"),
        ({"metric": "m", "segment": {"country": False}}, "segment.country"),
    ],
)
def test_faults_of_a_sample_are_told(tmp_path: Path, estimate: dict[str, Any], told: str) -> None:
    write(tmp_path)
    (tmp_path / "good.yaml").write_text(yaml.safe_dump({**SAMPLE, "evidence": {"quality": [estimate]}}))
    with pytest.raises(FaultyInputError) as caught:
        run_suite(tmp_path)
    assert told in str(caught.value)


def test_a_country_called_no_stays_a_country(tmp_path: Path) -> None:
    write(tmp_path)
    text = "schema: rankgate/sample/v1\nevidence:\n  quality:\n    - {metric: m, segment: {country: NO}, value: 1}\n"
    (tmp_path / "norway.yaml").write_text(text)
    run_suite(write(tmp_path, [{**GOOD, "samples": ["good.yaml", "norway.yaml"]}]))


def test_a_real_evidence_file_is_a_sample(tmp_path: Path) -> None:
    found = Estimate("ndcg@10", "difference", "candidate", "incumbent", {}, 0.1, 0.05, 0.2, 0.95, 900, 2000, "b", None)
    evidence = Evidence(1, "quality", (found,), {}, {}, {}, {}, {}, 0)
    write(tmp_path, [{**case, "samples": ["good.yaml", "quality.json"]} for case in CASES])
    documents.save(evidence, tmp_path / "quality.json")
    assert not run_suite(tmp_path).failures


def test_later_samples_replace_the_questions_of_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path, [{**case, "samples": ["good.yaml", "worse.yaml"]} for case in CASES])
    worse = {**SAMPLE, "evidence": {"data": [{**CLEAN, "exact": 1}]}}
    (tmp_path / "worse.yaml").write_text(yaml.safe_dump(worse))
    told = run_suite(tmp_path).failures
    assert any("case 'good': found clean: fail" in failure for failure in told)
    assert not any("found better" in failure for failure in told if failure.startswith("case 'good'"))


def test_a_rule_that_became_waivable_is_noticed_by_a_suite_that_does_not_say_so(tmp_path: Path) -> None:
    folder = write(tmp_path)
    loose = {
        **POLICY,
        "criteria": [{**held, "on_insufficient": "waive", "on_fail": "waive"} for held in POLICY["criteria"]],
    }  # type: ignore[union-attr]
    (folder / "policy.yaml").write_text(yaml.safe_dump(loose))
    failures = run_suite(folder).failures
    assert failures == ("case 'bad': found that a waiver could let through: better, clean; needed none",)
    write_suite = {
        "schema": "rankgate/suite/v1",
        "policy": "small",
        "cases": expecting(BAD, waivable=["better", "clean"]),
    }
    (folder / "suite.yaml").write_text(yaml.safe_dump(write_suite))
    assert check_suite(folder).failures == ()


def test_a_suite_that_expects_a_waiver_where_none_is_allowed_is_told(tmp_path: Path) -> None:
    found = run_suite(write(tmp_path, expecting(BAD, waivable=["clean"]))).failures
    assert found == ("case 'bad': found that a waiver could let through: none; needed clean",)


def test_a_waivable_criterion_must_exist(tmp_path: Path) -> None:
    with pytest.raises(FaultyInputError, match=r"expect\.waivable: found 'claen'.*Did you mean 'clean'"):
        run_suite(write(tmp_path, expecting(BAD, waivable=["claen"])))
