"""A signed word for what a rule did not let through: who may give it, for what, how long, and what it lets happen."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from components.approval.approve import APPROVAL_FILE, approve, refuse
from components.approval.contract import WAIVER_PREDICATE_TYPE, SignedWaiver, WaivedFinding
from components.approval.envelope import open_envelope
from components.approval.keys import open_trusted
from components.approval.statement import read_statement, read_waiver_statement
from components.approval.waivers import LONGEST_DAYS, as_shown, claimed_waivers, waive, waiver_file
from components.artifacts.digests import digest_bytes, digest_file, digest_tree
from components.errors import BlockedError, InputError, NotApprovedError
from components.verdict.contract import Finding, Outcome

from .conftest import NOON, RUN, FinishedRun, People, decision, outcome, resign, rewrite_card, verify

LAST = date(2026, 4, 1)
UNSURE = Finding(
    "insufficient", "candidate", "rest", {"region": "other"}, 0.0, -0.1, 0.1, 0.95, 96, -0.03, None, "unsure.",
    waivable=True,
)  # fmt: skip
HARMED = replace(UNSURE, answer="fail", segment={"region": "UK"}, waivable=False, message="harmed.")
UNMEASURED = replace(UNSURE, value=None, low=None, high=None, waivable=False, message="there is no value.")

REGION = outcome("region", UNSURE, on_insufficient="waive", answer="insufficient", blocks=True)
SCORE = outcome(
    "score", replace(HARMED, waivable=True), on_insufficient="waive", on_fail="waive", answer="fail", blocks=True
)
FIRM = outcome("firm", HARMED, on_insufficient="waive", answer="fail", blocks=True)
FINE = outcome("fine")

MakeRun = Callable[..., FinishedRun]


def sign(finished: FinishedRun, people: People, criterion: str = "region", **changes: Any) -> SignedWaiver:
    """A good waiver of a run in its folder of waivers, with some arguments changed; the card is not touched."""
    (finished.root / "waivers").mkdir(exist_ok=True)
    told = {
        "run": finished.name,
        "criterion": criterion,
        "verdict": finished.places["verdict"],
        "policy": finished.places["policy"],
        "submitter": "sam@shop.example",
        "waived_by": "wim@shop.example",
        "reason": "96 customers abroad; the canary watches them.",
        "until": LAST,
        "key": people.private,
        "waived_at": NOON,
        "out": finished.root / "waivers",
    }
    return waive(**{**told, **changes})


def tell(finished: FinishedRun) -> None:
    """Write the card anew with the waivers as they lie there."""
    rewrite_card(finished, waivers=tuple(map(as_shown, claimed_waivers(finished.root / "waivers"))))


def under_waivers(finished: FinishedRun, people: People, **changes: Any) -> dict[str, Any]:
    """Arguments of an approval that may rest on waivers."""
    return decision(finished, people, waivers=finished.root / "waivers", trusted=[people.trusted], **changes)


@pytest.fixture
def waived(make_run: MakeRun, people: People) -> FinishedRun:
    """A run that one rule blocks, waived, and told on its card."""
    run = make_run(outcomes=(REGION, FINE))
    sign(run, people)
    tell(run)
    return run


@pytest.fixture
def approved(waived: FinishedRun, people: People) -> tuple[FinishedRun, Path]:
    approve(**under_waivers(waived, people))
    return waived, waived.root / "approval" / APPROVAL_FILE


def check(run: FinishedRun, envelope: Path, people: People, **changes: Any) -> Any:
    return verify(run, envelope, people, waivers=run.root / "waivers", **changes)


def test_a_waiver_is_in_toto_and_names_verdict_policy_findings_and_a_last_day(
    make_run: MakeRun, people: People
) -> None:
    run = make_run(outcomes=(REGION, FINE))
    signed = sign(run, people)
    path = run.root / "waivers" / waiver_file("region")
    opened = open_envelope(path.read_bytes(), trusted=open_trusted([people.trusted]), subject="waiver")
    assert json.loads(opened.payload)["predicateType"] == WAIVER_PREDICATE_TYPE
    statement = read_waiver_statement(opened.payload, subject="waiver")
    held = statement.waiver
    assert (signed.waiver, signed.digest, signed.key_id) == (held, digest_bytes(opened.payload), opened.key_id)
    assert (held.run, held.criterion, held.waived_by, held.submitter) == (
        RUN, "region", "wim@shop.example", "sam@shop.example",
    )  # fmt: skip
    assert (held.waived_at, held.until) == ("2026-03-01T12:00:00+00:00", "2026-04-01")
    assert held.verdict == digest_tree(run.places["verdict"])
    assert held.policy == digest_tree(run.places["policy"])
    assert held.findings == (WaivedFinding("insufficient", "candidate", "rest", {"region": "other"}),)
    assert statement.subjects == {
        f"{role}/{name}": digest_file(run.places[role] / name)
        for role, name in (("verdict", "verdict.json"), ("policy", "policy.yaml"), ("policy", "frozen.json"))
    }


def test_the_verdict_is_left_as_it_was(make_run: MakeRun, people: People) -> None:
    run = make_run(outcomes=(REGION,))
    before = digest_tree(run.places["verdict"])
    sign(run, people)
    assert digest_tree(run.places["verdict"]) == before


def test_the_same_waiver_has_the_same_bytes_and_another_one_takes_its_place(make_run: MakeRun, people: People) -> None:
    run = make_run(outcomes=(REGION,))
    assert sign(run, people) == sign(run, people)
    later = sign(run, people, until=LAST + timedelta(days=1))
    assert claimed_waivers(run.root / "waivers") == (later,)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"criterion": "regoin"}, r"has no 'regoin'. Did you mean 'region'\?"),
        ({"criterion": "fine"}, "answers pass .* nothing to waive. What stops it: region, firm, gone"),
        ({"criterion": "firm"}, "on_fail: block: no signature lets a shown harm through"),
        ({"criterion": "gone"}, "nobody knows what they would sign for: there is no value"),
        ({"criterion": "strict"}, "on_insufficient: block. Collect more users"),
        ({"reason": " \n"}, "reason: found none"),
        ({"reason": "x" * 2001}, "at most 2,000"),
        ({"reason": "a\x00b"}, "needed printable text"),
        ({"until": date(2026, 3, 1)}, "needed a day after 2026-03-01 and not after 2026-05-30"),
        ({"until": date(2026, 2, 1)}, "needed a day after"),
        ({"until": date(2026, 3, 1) + timedelta(days=LONGEST_DAYS + 1)}, "90 days at most"),
        ({"waived_by": " SAM@shop.example"}, "who submitted this run; needed another person"),
        ({"waived_by": ""}, "needed the name or address"),
        ({"waived_at": datetime(2026, 3, 1)}, "without a time zone"),  # noqa: DTZ001
        ({"key": "nowhere.key"}, "cannot be read"),
    ],
)  # fmt: skip
def test_a_waiver_that_may_not_be_given_is_refused_and_leaves_nothing(
    make_run: MakeRun, people: People, changes: dict[str, Any], told: str
) -> None:
    gone = outcome("gone", UNMEASURED, on_insufficient="waive", answer="insufficient", blocks=True)
    strict = outcome("strict", replace(UNSURE, waivable=False), answer="insufficient", blocks=True)
    run = make_run(outcomes=(REGION, FINE, FIRM, gone, strict))
    with pytest.raises(InputError, match=told):
        sign(run, people, **changes)
    assert not list((run.root / "waivers").iterdir())


@pytest.mark.parametrize("days", [1, LONGEST_DAYS])
def test_the_nearest_and_the_farthest_day_are_allowed(make_run: MakeRun, people: People, days: int) -> None:
    run = make_run(outcomes=(REGION,))
    until = date(2026, 3, 1) + timedelta(days=days)
    assert sign(run, people, until=until).waiver.until == until.isoformat()


def test_the_day_is_counted_in_utc(make_run: MakeRun, people: People) -> None:
    """Just after midnight in a zone east of Greenwich it is still the day before."""
    run = make_run(outcomes=(REGION,))
    late = datetime.fromisoformat("2026-03-02T01:00:00+05:00")
    assert sign(run, people, waived_at=late, until=date(2026, 3, 2)).waiver.waived_at == "2026-03-01T20:00:00+00:00"


def test_a_policy_that_is_not_the_verdicts_is_not_waived_under(make_run: MakeRun, people: People) -> None:
    run = make_run(outcomes=(REGION,))
    (run.places["policy"] / "policy.yaml").write_text("name: kinder\n")
    with pytest.raises(InputError, match="reached under policy"):
        sign(run, people)


def test_a_blocked_run_is_approved_under_waivers_of_all_that_blocks(make_run: MakeRun, people: People) -> None:
    run = make_run(outcomes=(REGION, SCORE, FINE))
    signed = [sign(run, people), sign(run, people, "score")]
    tell(run)
    release = approve(**under_waivers(run, people))
    assert release.approval.waivers == {held.waiver.criterion: held.digest for held in signed}
    assert check(run, run.root / "approval" / APPROVAL_FILE, people) == release


def test_one_rule_that_is_not_waived_blocks_all_the_same(make_run: MakeRun, people: People) -> None:
    run = make_run(outcomes=(REGION, SCORE))
    sign(run, people)
    tell(run)
    with pytest.raises(BlockedError, match=r"Not waived: score \(fail\)"):
        approve(**under_waivers(run, people))
    assert not list((run.root / "approval").iterdir())


@pytest.mark.parametrize("folder", [None, "empty"])
def test_a_blocked_run_without_waivers_says_what_may_be_waived(
    make_run: MakeRun, people: People, tmp_path: Path, folder: str | None
) -> None:
    run = make_run(outcomes=(REGION,))
    place = tmp_path / folder if folder else None
    with pytest.raises(BlockedError, match=f"may be waived: rankgate waive {RUN} region"):
        approve(**decision(run, people, waivers=place, trusted=[people.trusted]))
    firm = make_run("firm-shop-0123456789", outcomes=(REGION, FIRM))
    with pytest.raises(BlockedError, match=r"cannot be approved\. One sentence\.$"):
        approve(**decision(firm, people, waivers=place, trusted=[people.trusted]))


def test_without_a_trusted_key_no_waiver_counts(waived: FinishedRun, people: People) -> None:
    with pytest.raises(InputError, match="no key is trusted to have signed them; needed --trust"):
        approve(**under_waivers(waived, people) | {"trusted": []})


def test_a_waiver_by_an_unknown_key_does_not_count(make_run: MakeRun, people: People) -> None:
    run = make_run(outcomes=(REGION,))
    sign(run, people, key=people.stranger)
    tell(run)
    with pytest.raises(BlockedError, match=r"waiver of region: signed with the key [0-9a-f]{12}, which is not trusted"):
        approve(**under_waivers(run, people))


def test_an_expired_waiver_does_not_count_and_its_last_day_still_does(waived: FinishedRun, people: People) -> None:
    midnight = datetime(2026, 4, 2, tzinfo=UTC)
    with pytest.raises(BlockedError, match=r"had expired when it should be approved: wim@shop.example waived it until"):
        approve(**under_waivers(waived, people, decided_at=midnight))
    assert approve(**under_waivers(waived, people, decided_at=midnight - timedelta(seconds=1)))


def test_a_waiver_from_the_future_does_not_count(waived: FinishedRun, people: People) -> None:
    with pytest.raises(BlockedError, match=r"was signed at .* after"):
        approve(**under_waivers(waived, people, decided_at=NOON - timedelta(seconds=1)))


def test_a_card_that_does_not_tell_of_the_waivers_is_not_signed(make_run: MakeRun, people: People) -> None:
    run = make_run(outcomes=(REGION,))
    sign(run, people)
    with pytest.raises(InputError, match=r"its card tells of other waivers \(none\) than .* \(region\)"):
        approve(**under_waivers(run, people))
    tell(run)
    sign(run, people, reason="Another reason than the card tells.")
    with pytest.raises(InputError, match=r"its card tells of other waivers"):
        approve(**under_waivers(run, people))


def test_a_passed_run_needs_no_waiver_and_takes_none(make_run: MakeRun, people: People) -> None:
    run = make_run()
    release = approve(**under_waivers(run, people))
    assert release.approval.waivers == {}
    assert verify(run, run.root / "approval" / APPROVAL_FILE, people) == release


def test_a_verdict_that_blocks_without_a_reason_cannot_be_waived(make_run: MakeRun, people: People) -> None:
    """Nothing was judged: there is nothing that a waiver could stand in for."""
    run = make_run(outcomes=(replace(FINE, not_applicable="No incumbent."),))
    with pytest.raises(BlockedError, match="cannot be approved"):
        approve(**under_waivers(run, people))


def test_a_refusal_needs_no_waivers(waived: FinishedRun, people: People) -> None:
    assert refuse(**decision(waived, people, reason="wait for spring")).approval.waivers == {}


def test_an_approval_ends_with_its_waiver(approved: tuple[FinishedRun, Path], people: People) -> None:
    run, envelope = approved
    assert check(run, envelope, people, at=datetime(2026, 4, 1, 23, 59, tzinfo=UTC))
    with pytest.raises(NotApprovedError, match=r"rests on a waiver that does not hold. .* had expired by 2026-04-02"):
        check(run, envelope, people, at=datetime(2026, 4, 2, tzinfo=UTC))


def test_an_approval_over_a_waiver_that_had_expired_does_not_hold_even_if_signed(
    approved: tuple[FinishedRun, Path], people: People
) -> None:
    run, envelope = approved
    resign(envelope, people.private, lambda s: s["predicate"].update(decided_at="2026-05-01T00:00:00+00:00"))
    with pytest.raises(NotApprovedError, match="had expired when the run was approved"):
        check(run, envelope, people)
    resign(envelope, people.private, lambda s: s["predicate"].update(decided_at="yesterday"))
    with pytest.raises(NotApprovedError, match="rests on a waiver that does not hold"):
        check(run, envelope, people)


def test_every_byte_of_the_waiver_counts(approved: tuple[FinishedRun, Path], people: People) -> None:
    run, envelope = approved
    path = run.root / "waivers" / waiver_file("region")
    content = path.read_bytes()
    rng = random.Random(0)
    for place in rng.sample(range(len(content)), 40):
        changed = bytearray(content)
        changed[place] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(NotApprovedError, match="the waivers are not those that were approved: waivers/region"):
            check(run, envelope, people)
    path.write_bytes(content)
    assert check(run, envelope, people)


def test_a_waiver_that_is_gone_or_added_ends_the_approval(approved: tuple[FinishedRun, Path], people: People) -> None:
    run, envelope = approved
    path = run.root / "waivers" / waiver_file("region")
    more = run.root / "waivers" / waiver_file("score")
    shutil.copy(path, more)
    with pytest.raises(NotApprovedError, match=r"waivers/score\.dsse\.json was not there"):
        check(run, envelope, people)
    more.unlink()
    path.unlink()
    with pytest.raises(NotApprovedError, match=r"what was approved is not there. waivers: found none"):
        check(run, envelope, people)
    with pytest.raises(NotApprovedError, match="what was approved is not there"):
        verify(run, envelope, people)


def test_an_approval_that_forgets_its_waivers_does_not_hold(approved: tuple[FinishedRun, Path], people: People) -> None:
    run, envelope = approved

    def forget(statement: dict[str, Any]) -> None:
        statement["predicate"]["waivers"] = {}
        statement["subject"] = [held for held in statement["subject"] if not held["name"].startswith("waivers/")]

    resign(envelope, people.private, forget)
    with pytest.raises(NotApprovedError, match="signed over a verdict that blocks"):
        check(run, envelope, people)


def test_an_approval_that_names_another_waiver_contradicts_itself(
    approved: tuple[FinishedRun, Path], people: People
) -> None:
    run, envelope = approved
    resign(envelope, people.private, lambda s: s["predicate"].update(waivers={"region": "0" * 64}))
    with pytest.raises(NotApprovedError, match="names other waivers than its subjects are"):
        check(run, envelope, people)


def _set(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda statement: statement["predicate"].update(changes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_set(run="other-shop"), "was given for another run, 'other-shop'"),
        (_set(criterion="score"), "is of 'score', under another criterion's name"),
        (_set(verdict="0" * 64), "was given for the verdict 000000000000"),
        (_set(policy="0" * 64), "under the policy 000000000000"),
        (lambda s: s["subject"].pop(), "was given for the verdict"),
        (_set(waived_by="Sam@Shop.example"), "needed another person than 'sam@shop.example'"),
        (_set(submitter="nobody"), "waived a run of 'nobody'"),
        (_set(until="2027-03-01"), "could never have been given. until: found 2027-03-01"),
        (_set(until="never"), "its times are no times"),
        (_set(waived_at="2026-03-01T12:00:00"), "has no time zone"),
        (_set(reason=" "), "could never have been given. reason: found none"),
        (_set(findings=[]), "speaks of other findings"),
        (_set(schema_version=1), "is not one that this rankgate reads"),
        (_set(note="fine"), "is not one that this rankgate reads"),
        (lambda s: s.update(predicateType="https://rankgate.dev/attestation/approval/v1"), "another kind of attestation"),
    ],
)  # fmt: skip
def test_what_an_insider_with_a_key_could_write_is_told(
    waived: FinishedRun, people: People, change: Callable[[dict[str, Any]], Any], told: str
) -> None:
    resign(waived.root / "waivers" / waiver_file("region"), people.private, change)
    with pytest.raises(BlockedError, match=told):
        approve(**under_waivers(waived, people))


@pytest.mark.parametrize("held", [FIRM, replace(REGION, blocking=False), replace(REGION, on_insufficient="block")])
def test_a_signed_waiver_of_what_may_not_be_waived_does_not_count(
    make_run: MakeRun, people: People, held: Outcome
) -> None:
    """The waiver is good for one verdict, and is written over for another that does not allow it."""
    good = make_run(outcomes=(replace(REGION, criterion=held.criterion),))
    sign(good, people, held.criterion)
    run = make_run("other-0123456789", outcomes=(held,))
    shutil.copytree(good.root / "waivers", run.root / "waivers")
    path = run.root / "waivers" / waiver_file(held.criterion)
    subjects = [
        {"name": f"{role}/{name}", "digest": {"sha256": digest_file(run.places[role] / name)}}
        for role, name in (("policy", "frozen.json"), ("policy", "policy.yaml"), ("verdict", "verdict.json"))
    ]

    def forge(statement: dict[str, Any]) -> None:
        statement["subject"] = subjects
        statement["predicate"].update(
            run=run.name, verdict=digest_tree(run.places["verdict"]), policy=digest_tree(run.places["policy"])
        )

    resign(path, people.private, forge)
    with pytest.raises(BlockedError, match=r"could never have been given. criterion .*: cannot be waived"):
        approve(**under_waivers(run, people))


def test_an_approval_without_its_waivers_word_is_of_the_first_schema(
    approved: tuple[FinishedRun, Path], people: People
) -> None:
    """Version 1 has no word for waivers, so a decision that rests on some cannot pass for one."""
    run, envelope = approved
    resign(envelope, people.private, lambda s: s["predicate"].update(schema_version=1))
    with pytest.raises(NotApprovedError, match="is not one that this rankgate reads"):
        check(run, envelope, people)


def test_what_lies_among_the_waivers_and_is_none_is_told_to_whoever_looks(waived: FinishedRun) -> None:
    folder = waived.root / "waivers"
    (folder / ".region.dsse.json.1.partial").write_text("half")
    (folder / ".other.dsse.json").write_text("half")
    assert [held.waiver.criterion for held in claimed_waivers(folder)] == ["region"]
    (folder / waiver_file("score")).write_text("{}")
    with pytest.raises(InputError, match=r"is not a DSSE envelope.*Remove that file"):
        claimed_waivers(folder)


def test_a_waiver_of_schema_2_still_opens(repository: Path) -> None:
    """Signed once and kept: a later rankgate must go on reading what an auditor will show it."""
    folder = repository / "tests" / "golden" / "approval" / "v2"
    keys = open_trusted([folder])
    opened = open_envelope((folder / waiver_file("region")).read_bytes(), trusted=keys, subject="golden waiver")
    held = read_waiver_statement(opened.payload, subject="golden waiver").waiver
    assert (held.schema_version, held.run, held.criterion, held.until) == (2, RUN, "region", "2026-04-01")
    assert held.findings == (WaivedFinding("insufficient", "candidate", "rest", {"region": "other"}),)
    envelope = open_envelope((folder / APPROVAL_FILE).read_bytes(), trusted=keys, subject="golden approval")
    approval = read_statement(envelope.payload, subject="golden approval").approval
    assert approval.waivers == {"region": digest_bytes(opened.payload)}
