"""A decision over the very card that was read: who may make it, over what, and every way in which it stops holding."""

from __future__ import annotations

import base64
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner

from components.approval.approve import APPROVAL_FILE, approve, ask, refuse
from components.approval.contract import PREDICATE_TYPE, Release
from components.approval.envelope import PAYLOAD_TYPE, open_envelope, seal
from components.approval.keys import load_public, open_trusted
from components.approval.people import is_same_person
from components.approval.statement import STATEMENT_TYPE, read_statement
from components.artifacts import documents
from components.artifacts.digests import canonical_json, digest_bytes, digest_file, digest_tree
from components.errors import BlockedError, InputError, NotApprovedError
from components.verdict.contract import FrozenPolicy, Verdict

from .conftest import RUN, FinishedRun, People, decision, resign, rewrite_card, verify


def test_an_approval_lets_out_a_release_named_by_its_payload(
    signed: tuple[FinishedRun, Path, Release], people: People
) -> None:
    run, envelope, release = signed
    assert verify(run, envelope, people) == release
    payload = base64.b64decode(json.loads(envelope.read_bytes())["payload"])
    assert release.digest == digest_bytes(payload)
    assert release.key_id == load_public(people.trusted / "reviewer.pub").keyid
    approval = release.approval
    assert (approval.decision, approval.approver, approval.submitter) == (
        "approved",
        "rita@shop.example",
        "sam@shop.example",
    )
    assert approval.decided_at == "2026-03-01T12:00:00+00:00"
    for role, place in run.places.items():
        assert getattr(approval, role) == digest_tree(place)


def test_the_statement_is_in_toto_and_names_every_file(signed: tuple[FinishedRun, Path, Release]) -> None:
    run, envelope, _ = signed
    value = json.loads(envelope.read_bytes())
    statement = json.loads(base64.b64decode(value["payload"]))
    assert value["payloadType"] == "application/vnd.in-toto+json"
    assert (statement["_type"], statement["predicateType"]) == (STATEMENT_TYPE, PREDICATE_TYPE)
    named = {subject["name"]: subject["digest"]["sha256"] for subject in statement["subject"]}
    assert named == {
        f"{role}/{path.relative_to(place).as_posix()}": digest_file(path)
        for role, place in run.places.items()
        for path in place.rglob("*")
        if path.is_file()
    }


def test_the_same_decision_has_the_same_bytes(make_run: Callable[..., FinishedRun], people: People) -> None:
    run = make_run()
    approve(**decision(run, people))
    first = (run.root / "approval" / APPROVAL_FILE).read_bytes()
    approve(**decision(run, people))
    assert (run.root / "approval" / APPROVAL_FILE).read_bytes() == first


@pytest.mark.parametrize("approver", ["sam@shop.example", " Sam@Shop.Example ", "ＳＡＭ@shop.example"])
def test_nobody_decides_on_their_own_run(make_run: Callable[..., FinishedRun], people: People, approver: str) -> None:
    run = make_run()
    for decide in (approve, refuse):
        with pytest.raises(InputError, match="who submitted this run; needed another person"):
            decide(**decision(run, people, approver=approver))
    assert not list((run.root / "approval").iterdir())


@pytest.mark.parametrize("name", ["", "  ", "rita\nsam", "rita\u200b"])
def test_an_approver_has_a_name_that_can_be_read(
    make_run: Callable[..., FinishedRun], people: People, name: str
) -> None:
    with pytest.raises(InputError, match="needed the name or address of a person"):
        approve(**decision(make_run(), people, approver=name))


def test_the_submitter_is_the_one_the_card_names(make_run: Callable[..., FinishedRun], people: People) -> None:
    run = make_run(submitted_by="rita@shop.example")
    with pytest.raises(InputError, match=r"its card speaks of the submitter rita@shop\.example"):
        approve(**decision(run, people))


def test_a_blocked_run_cannot_be_approved_but_can_be_refused(
    make_run: Callable[..., FinishedRun], people: People
) -> None:
    run = make_run(blocked=True)
    with pytest.raises(BlockedError, match="a blocked run cannot be approved"):
        approve(**decision(run, people))
    assert not list((run.root / "approval").iterdir())
    release = refuse(**decision(run, people, reason="harms a country"))
    assert release.approval.decision == "refused"


def test_a_verdict_whose_answer_and_outcomes_differ_is_not_approved(
    make_run: Callable[..., FinishedRun], people: People
) -> None:
    run = make_run(blocked=True)
    path = run.places["verdict"] / "verdict.json"
    found = replace(documents.load(Verdict, path), answer="passed")
    documents.save(found, path)
    rewrite_card(run, verdict=found)
    with pytest.raises(BlockedError, match="a blocked run cannot be approved"):
        approve(**decision(run, people))


def test_a_refusal_needs_a_reason_and_lets_nothing_out(make_run: Callable[..., FinishedRun], people: People) -> None:
    run = make_run()
    with pytest.raises(InputError, match="refusal without a reason"):
        refuse(**decision(run, people, reason=" "))
    refuse(**decision(run, people, reason="risks are not written down"))
    with pytest.raises(NotApprovedError, match=r"rita@shop.example refused it.*risks are not written down"):
        verify(run, run.root / "approval" / APPROVAL_FILE, people)


@pytest.mark.parametrize("role", ["ranker", "verdict", "policy"])
def test_a_card_of_other_artefacts_is_not_signed(
    make_run: Callable[..., FinishedRun], people: People, role: str
) -> None:
    run = make_run()
    (run.places[role] / "more.txt").write_text("added after the card")
    with pytest.raises(InputError, match=f"its card speaks of the {role} "):
        approve(**decision(run, people))


def test_a_card_of_another_run_is_not_signed(make_run: Callable[..., FinishedRun], people: People) -> None:
    with pytest.raises(InputError, match="its card speaks of the run demo-shop-0123456789"):
        approve(**decision(make_run(), people, run="other-0123456789"))


def test_a_card_that_shows_another_verdict_is_not_signed(make_run: Callable[..., FinishedRun], people: People) -> None:
    run = make_run()
    shown = documents.load(Verdict, run.places["verdict"] / "verdict.json")
    rewrite_card(run, verdict=replace(shown, summary="All is well."))
    with pytest.raises(InputError, match="its card shows another verdict"):
        approve(**decision(run, people))


def test_a_verdict_under_another_policy_is_not_signed(make_run: Callable[..., FinishedRun], people: People) -> None:
    run = make_run()
    frozen = documents.load(FrozenPolicy, run.places["policy"] / "frozen.json")
    documents.save(replace(frozen, version="2.0.0"), run.places["policy"] / "frozen.json")
    rewrite_card(run)
    with pytest.raises(InputError, match=r"reached under policy default@1\.0\.0"):
        approve(**decision(run, people))


def test_a_policy_changed_after_freezing_is_not_signed(make_run: Callable[..., FinishedRun], people: People) -> None:
    run = make_run()
    (run.places["policy"] / "policy.yaml").write_text("name: kinder\n")
    rewrite_card(run)
    with pytest.raises(InputError, match="reached under policy"):
        approve(**decision(run, people))


def test_a_missing_card_is_an_input_error(make_run: Callable[..., FinishedRun], people: People) -> None:
    run = make_run()
    shutil.rmtree(run.places["card"])
    with pytest.raises(InputError, match="card: found no file"):
        approve(**decision(run, people))


def test_a_question_needs_words_and_lets_nothing_out(make_run: Callable[..., FinishedRun], people: People) -> None:
    run = make_run(blocked=True)
    with pytest.raises(InputError, match="found no question"):
        ask(**decision(run, people, reason=" \n"))
    release = ask(**decision(run, people, reason="Why is Luxembourg so small?"))
    assert release.approval.decision == "asked"
    with pytest.raises(NotApprovedError, match=r"rita@shop\.example asked .*: Why is Luxembourg so small\? Nobody"):
        verify(run, run.root / "approval" / APPROVAL_FILE, people)


def test_a_time_without_a_zone_is_refused(make_run: Callable[..., FinishedRun], people: People) -> None:
    with pytest.raises(InputError, match="without a time zone"):
        approve(**decision(make_run(), people, decided_at=datetime(2026, 3, 1)))  # noqa: DTZ001


def test_an_unknown_key_is_told(make_run: Callable[..., FinishedRun], people: People) -> None:
    run = make_run()
    approve(**decision(run, people, key=people.stranger))
    with pytest.raises(NotApprovedError, match=r"signed with the key [0-9a-f]{12}, which is not trusted here"):
        verify(run, run.root / "approval" / APPROVAL_FILE, people)


def test_a_key_id_of_a_trusted_reviewer_on_a_strangers_signature_is_told(
    signed: tuple[FinishedRun, Path, Release], people: People
) -> None:
    run, envelope, release = signed
    resign(envelope, people.stranger, lambda statement: statement.copy())
    value = json.loads(envelope.read_bytes())
    value["signatures"][0]["keyid"] = release.key_id
    envelope.write_bytes(canonical_json(value) + b"\n")
    with pytest.raises(NotApprovedError, match=r"the signature of key .* does not hold"):
        verify(run, envelope, people)


def test_a_payload_changed_after_signing_is_told(signed: tuple[FinishedRun, Path, Release], people: People) -> None:
    run, envelope, _ = signed
    value = json.loads(envelope.read_bytes())
    payload = base64.b64decode(value["payload"]).replace(b"read it all", b"read it ALL")
    value["payload"] = base64.b64encode(payload).decode()
    envelope.write_bytes(canonical_json(value) + b"\n")
    with pytest.raises(NotApprovedError, match="content was changed after signing"):
        verify(run, envelope, people)


@pytest.mark.parametrize("role", ["card", "verdict", "ranker", "policy"])
def test_each_changed_subject_is_named(signed: tuple[FinishedRun, Path, Release], people: People, role: str) -> None:
    run, envelope, _ = signed
    victim = sorted(path for path in run.places[role].rglob("*") if path.is_file())[0]
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    name = victim.relative_to(run.places[role]).as_posix()
    with pytest.raises(
        NotApprovedError, match=f"the {role} is not the one that was approved: {role}/{name} has changed"
    ):
        verify(run, envelope, people)


def test_an_added_and_a_missing_file_are_named(signed: tuple[FinishedRun, Path, Release], people: People) -> None:
    run, envelope, _ = signed
    (run.places["ranker"] / "model.ubj").rename(run.places["ranker"] / "model2.ubj")
    with pytest.raises(NotApprovedError, match=r"ranker/model\.ubj is missing, ranker/model2\.ubj was not there"):
        verify(run, envelope, people)


def test_an_artefact_that_is_gone_is_not_approved(signed: tuple[FinishedRun, Path, Release], people: People) -> None:
    run, envelope, _ = signed
    shutil.rmtree(run.places["ranker"])
    with pytest.raises(NotApprovedError, match="what was approved is not there"):
        verify(run, envelope, people)


def test_an_approval_of_another_run_is_told(
    signed: tuple[FinishedRun, Path, Release], make_run: Callable[..., FinishedRun], people: People
) -> None:
    _, envelope, _ = signed
    other = make_run("other-shop-9876543210")
    with pytest.raises(NotApprovedError, match="was given for another run, 'demo-shop-0123456789'"):
        verify(other, envelope, people)


def test_an_approver_who_is_the_submitter_is_told_whoever_signed(
    signed: tuple[FinishedRun, Path, Release], people: People
) -> None:
    run, envelope, _ = signed
    resign(envelope, people.private, lambda s: s["predicate"].update(approver="SAM@shop.example"))
    with pytest.raises(NotApprovedError, match=r"approver 'SAM@shop\.example' is its submitter"):
        verify(run, envelope, people)


def test_another_kind_of_attestation_is_told(signed: tuple[FinishedRun, Path, Release], people: People) -> None:
    run, envelope, _ = signed
    resign(
        envelope, people.private, lambda s: s.update(predicateType="https://in-toto.io/attestation/test-result/v0.1")
    )
    with pytest.raises(NotApprovedError, match="another kind of attestation"):
        verify(run, envelope, people)


def test_another_statement_type_is_told(signed: tuple[FinishedRun, Path, Release], people: People) -> None:
    run, envelope, _ = signed
    resign(envelope, people.private, lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"))
    with pytest.raises(NotApprovedError, match="found a payload of type"):
        verify(run, envelope, people)


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 0},
        {"schema_version": 3},
        {"decision": "maybe"},
        {"waiver": "all"},
    ],
    ids=["older schema", "newer schema", "unknown decision", "unknown field"],
)
def test_a_predicate_of_another_schema_is_told(
    signed: tuple[FinishedRun, Path, Release], people: People, change: dict[str, Any]
) -> None:
    run, envelope, _ = signed
    resign(envelope, people.private, lambda s: s["predicate"].update(change))
    with pytest.raises(NotApprovedError, match="its predicate is not one that this rankgate reads"):
        verify(run, envelope, people)


def test_a_statement_with_more_than_is_known_is_told(signed: tuple[FinishedRun, Path, Release], people: People) -> None:
    run, envelope, _ = signed
    resign(envelope, people.private, lambda s: s.update(note="also fine"))
    with pytest.raises(NotApprovedError, match="holds more, or is written otherwise"):
        verify(run, envelope, people)


def test_a_subject_of_no_artefact_is_told(signed: tuple[FinishedRun, Path, Release], people: People) -> None:
    run, envelope, _ = signed
    extra = {"name": "other/file", "digest": {"sha256": "0" * 64}}
    resign(
        envelope,
        people.private,
        lambda s: s.update(subject=sorted([*s["subject"], extra], key=lambda one: one["name"])),
    )
    with pytest.raises(NotApprovedError, match="also about other/file"):
        verify(run, envelope, people)


@pytest.mark.parametrize("role", ["card", "verdict", "ranker", "policy"])
def test_a_statement_whose_digest_is_not_its_subjects_is_told(
    signed: tuple[FinishedRun, Path, Release], people: People, role: str
) -> None:
    run, envelope, _ = signed
    resign(envelope, people.private, lambda s: s["predicate"].update({role: "0" * 64}))
    with pytest.raises(NotApprovedError, match="contradicts itself"):
        verify(run, envelope, people)


def test_an_approval_over_a_blocked_verdict_does_not_hold_even_if_signed(
    make_run: Callable[..., FinishedRun], people: People
) -> None:
    run = make_run(blocked=True)
    refuse(**decision(run, people))
    envelope = run.root / "approval" / APPROVAL_FILE
    resign(envelope, people.private, lambda s: s["predicate"].update(decision="approved"))
    with pytest.raises(NotApprovedError, match="signed over a verdict that blocks"):
        verify(run, envelope, people)


def test_a_missing_envelope_is_not_approved(make_run: Callable[..., FinishedRun], people: People) -> None:
    run = make_run()
    with pytest.raises(NotApprovedError, match="cannot be read"):
        verify(run, run.root / "approval" / APPROVAL_FILE, people)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"null", b"\xff\xfe", b'{"payload": 1, "payloadType": 2, "signatures": 3}', b"[" * 100_000],
    ids=["empty", "list", "no keys", "null", "no text", "wrong types", "deep"],
)
def test_what_is_no_envelope_is_not_approved(
    signed: tuple[FinishedRun, Path, Release], people: People, content: bytes
) -> None:
    run, envelope, _ = signed
    envelope.write_bytes(content)
    with pytest.raises(NotApprovedError, match="is not a DSSE envelope"):
        verify(run, envelope, people)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda v: v.update(payloadType="text/plain"), "found the payload type 'text/plain'"),
        (lambda v: v.update(signatures=[]), "found 0 signatures; needed one"),
        (lambda v: v["signatures"].append({**v["signatures"][0], "keyid": "0" * 64}), "found 2 signatures; needed one"),
        (lambda v: v.update(comment="unsigned"), "is not a DSSE envelope"),
        (lambda v: v["signatures"][0].update(note="unsigned"), "is not a DSSE envelope"),
    ],
    ids=["payload type", "no signature", "two signatures", "unsigned field", "unsigned field of the signature"],
)
def test_what_the_signature_does_not_cover_may_not_be_there(
    signed: tuple[FinishedRun, Path, Release], people: People, change: Callable[[dict[str, Any]], None], told: str
) -> None:
    run, envelope, _ = signed
    value = json.loads(envelope.read_bytes())
    change(value)
    envelope.write_bytes(canonical_json(value) + b"\n")
    with pytest.raises(NotApprovedError, match=told):
        verify(run, envelope, people)


def test_an_envelope_in_other_words_is_told(signed: tuple[FinishedRun, Path, Release], people: People) -> None:
    run, envelope, _ = signed
    envelope.write_text(json.dumps(json.loads(envelope.read_bytes()), indent=2))
    with pytest.raises(NotApprovedError, match="not in the one form that rankgate writes"):
        verify(run, envelope, people)


def test_every_byte_of_the_envelope_counts(signed: tuple[FinishedRun, Path, Release], people: People) -> None:
    """Every byte, one random flip each, and every bit of the last characters of the base64, whose spare bits mean nothing."""
    _, path, release = signed
    content = path.read_bytes()
    trusted = open_trusted([people.trusted])
    assert open_envelope(content, trusted=trusted, subject="approval").key_id == release.key_id
    rng = random.Random(0)
    flips = [(place, 1 << rng.randrange(8)) for place in range(len(content))]
    value = json.loads(content)
    for text in (value["payload"], value["signatures"][0]["sig"]):
        end = content.index(text.encode()) + len(text)
        flips += [(place, 1 << bit) for place in range(end - 4, end) for bit in range(8)]
    assert len(flips) > 2000
    for place, bit in flips:
        changed = bytearray(content)
        changed[place] ^= bit
        with pytest.raises(NotApprovedError):
            open_envelope(bytes(changed), trusted=trusted, subject="approval")


def test_every_byte_of_every_subject_counts(signed: tuple[FinishedRun, Path, Release], people: People) -> None:
    run, envelope, release = signed
    rng = random.Random(1)
    for path in run.files:
        content = path.read_bytes()
        for place in rng.sample(range(len(content)), min(25, len(content))):
            changed = bytearray(content)
            changed[place] ^= 1 << rng.randrange(8)
            path.write_bytes(changed)
            with pytest.raises(NotApprovedError, match="is not the one that was approved"):
                verify(run, envelope, people)
        path.write_bytes(content)
    assert verify(run, envelope, people) == release


@pytest.mark.parametrize("make", ["generate_ecdsa", "generate_rsa"])
def test_other_kinds_of_keys_sign_through_the_same_door(make: str) -> None:
    """What a KMS or HSM holds is seldom Ed25519."""
    signer = getattr(CryptoSigner, make)()
    opened = open_envelope(
        seal(b"{}", signer), trusted={signer.public_key.keyid: signer.public_key}, subject="approval"
    )
    assert opened.payload == b"{}"
    assert PAYLOAD_TYPE.endswith("in-toto+json")


def test_a_key_that_cannot_sign_is_an_input_error() -> None:
    class Broken:
        public_key = CryptoSigner.generate_ed25519().public_key

        def sign(self, payload: bytes) -> Any:
            raise OSError(f"the token was pulled before {len(payload)} bytes were signed")

    with pytest.raises(InputError, match="the token was pulled"):
        seal(b"{}", Broken())


def test_names_are_the_same_person_whatever_their_case_and_encoding() -> None:
    assert is_same_person("Straße@x", " STRASSE@x")
    assert is_same_person("Ana\u0301", "An\u00e1")
    assert not is_same_person("rita", "ritb")


def test_an_approval_of_schema_1_still_lets_out_its_release(
    signed: tuple[FinishedRun, Path, Release], people: People
) -> None:
    """Its signed bytes have no word for waivers, and none may be written into them."""
    run, envelope, _ = signed

    def as_before(statement: dict[str, Any]) -> None:
        del statement["predicate"]["waivers"]
        statement["predicate"]["schema_version"] = 1

    resign(envelope, people.private, as_before)
    release = verify(run, envelope, people)
    assert (release.approval.schema_version, release.approval.waivers) == (1, {})
    resign(envelope, people.private, lambda s: s["predicate"].update(waivers={}))
    with pytest.raises(NotApprovedError, match="is not one that this rankgate reads"):
        verify(run, envelope, people)


def test_an_approval_of_schema_1_still_opens(repository: Path) -> None:
    """Signed once and kept: a later rankgate must go on reading what an auditor will show it."""
    folder = repository / "tests" / "golden" / "approval" / "v1"
    opened = open_envelope(
        (folder / APPROVAL_FILE).read_bytes(), trusted=open_trusted([folder]), subject="golden approval"
    )
    statement = read_statement(opened.payload, subject="golden approval")
    approval = statement.approval
    assert (approval.schema_version, approval.decision, approval.run) == (1, "approved", RUN)
    assert (approval.approver, approval.submitter) == ("rita@shop.example", "sam@shop.example")
    assert {name.partition("/")[0] for name in statement.subjects} == {"card", "policy", "ranker", "verdict"}
