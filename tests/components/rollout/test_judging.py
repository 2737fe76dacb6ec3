"""The canary's judge, look by look: what it keeps, what it says, and that nothing missing lets a canary go on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from components.artifacts import documents
from components.rollout.contract import CANARY, STABLE, Memory, Reading, StepVerdict
from components.rollout.guardrails import spent
from components.rollout.judging import judge
from components.rollout.memory import begin, moved, split_evidence, taken_in, unread
from components.rollout.policy import RolloutPolicy, load_rollout_policy, parse_rollout_policy
from components.statistics.sequential_users import Contrast

FOLDER = Path(__file__).resolve().parents[3] / "policies" / "rollout"
SHAPE = (0.1, 0.2, 0.4, 0.2, 0.1)
EXPECTED = {"score": SHAPE}
GOOD = Contrast(1.0, 1.0, 0.64 / 40_000, 0.0, 0.64 / 360_000, 40_000, 360_000, 4e5, 3.6e6)


@pytest.fixture(scope="module")
def policy() -> RolloutPolicy:
    return load_rollout_policy(FOLDER)


def reading(policy: RolloutPolicy, arm: str, at: float, **counts: float) -> Reading:
    """Of one window: 60 or 540 requests, one error in a thousand, the usual latencies and scores."""
    n = 60.0 if arm == CANARY else 540.0
    bounds = next(g.bounds for g in policy.guardrails if g.kind == "latency")
    shares = {0.01: 0.4, 0.02: 0.4, 0.03: 0.14, 0.05: 0.05, 0.1: 0.01}
    told = {"requests": n, "lists": n, "errors": 0.001 * n, "fallbacks": 0.003 * n, "empty": 0.0} | counts
    return Reading(
        arm,
        0.1 if arm == CANARY else 0.9,
        at,
        5.0,
        counts=told,
        histograms={
            "latency": tuple(shares.get(b, 0.0) * n for b in (*bounds, math.inf)),
            "score": tuple(s * n for s in SHAPE),
        },
        gauges={"features_age_seconds": 600.0, "skewed_share": 0.0},
    )


def window(policy: RolloutPolicy, at: float, **counts: float) -> list[Reading]:
    return [reading(policy, CANARY, at, **counts), reading(policy, STABLE, at)]


def after(policy: RolloutPolicy, windows: int, *, memory: Memory | None = None, **counts: float) -> Memory:
    """A memory of so many windows, one after another."""
    kept = begin(policy, at=0.0) if memory is None else memory
    for _ in range(windows):
        kept = taken_in(kept, policy, window(policy, kept.until, **counts), expectations=EXPECTED)
    return kept


def asked(policy: RolloutPolicy, memory: Memory, **options: object) -> StepVerdict:
    return judge(policy, memory, outcomes={"clicks": GOOD}, at=memory.until, **options)  # type: ignore[arg-type]


def result(verdict: StepVerdict, guardrail: str, segment: str = "") -> str:
    return next(r.answer for r in verdict.results if r.guardrail == guardrail and r.segment == segment)


def test_a_harmless_canary_goes_on_after_its_dwell(policy: RolloutPolicy) -> None:
    early, due = asked(policy, after(policy, 59)), asked(policy, after(policy, 60))
    assert early.action == "hold"
    assert early.waits_for
    assert due.action == "continue", due.reason
    assert due.expected_seconds is None


def test_what_is_kept_is_a_document_that_another_process_goes_on_from(policy: RolloutPolicy) -> None:
    kept = after(policy, 30)
    content = documents.to_bytes(kept)
    other = documents.parse(Memory, content, subject="memory")
    assert other == kept
    assert len(content) < 100_000
    assert asked(policy, after(policy, 30, memory=other)) == asked(policy, after(policy, 60))


def test_what_is_kept_does_not_grow(policy: RolloutPolicy) -> None:
    short, long = (len(documents.to_bytes(after(policy, windows))) for windows in (100, 600))
    assert long < 1.2 * short


def test_a_window_that_was_taken_in_already_changes_nothing(policy: RolloutPolicy) -> None:
    kept = after(policy, 20)
    for at in (0.0, 50.0, 95.0):
        assert taken_in(kept, policy, window(policy, at, errors=60.0), expectations=EXPECTED) is kept


def test_windows_of_two_times_and_arms_told_twice_are_refused(policy: RolloutPolicy) -> None:
    kept = begin(policy, at=0.0)
    with pytest.raises(ValueError, match="2 different windows"):
        taken_in(kept, policy, [reading(policy, CANARY, 0.0), reading(policy, STABLE, 5.0)])
    with pytest.raises(ValueError, match="twice"):
        taken_in(kept, policy, [reading(policy, CANARY, 0.0)] * 2)


def test_a_memory_of_another_policy_is_refused(policy: RolloutPolicy) -> None:
    with pytest.raises(ValueError, match=r"needed default@"):
        judge(policy, replace(begin(policy, at=0.0), policy="other@1.0.0"), at=0.0)


def test_a_revoked_release_is_rolled_back_before_anything_was_read(policy: RolloutPolicy) -> None:
    verdict = judge(policy, begin(policy, at=0.0), at=0.0, revoked=True)
    assert verdict.action == "roll_back"
    assert "revoked" in verdict.reason


def test_nothing_read_yet_holds(policy: RolloutPolicy) -> None:
    verdict = judge(policy, begin(policy, at=0.0), at=0.0)
    assert verdict.action == "hold"
    assert {r.answer for r in verdict.results} <= {"insufficient", "missing"}


def test_a_crash_is_rolled_back_within_a_minute_and_a_half(policy: RolloutPolicy) -> None:
    kept, looks = begin(policy, at=0.0), 0
    while asked(policy, kept).action != "roll_back":
        kept, looks = after(policy, 1, memory=kept, errors=60.0), looks + 1
    assert looks <= 18
    assert result(asked(policy, kept), "errors") == "harm"


def test_a_crash_in_the_second_hour_is_rolled_back_within_three_minutes(policy: RolloutPolicy) -> None:
    kept, looks = after(policy, 900), 0
    while asked(policy, kept).action != "roll_back":
        kept, looks = after(policy, 1, memory=kept, errors=60.0), looks + 1
    assert looks <= 36
    errors = next(r for r in asked(policy, kept).results if r.guardrail == "errors")
    # What is told is what was read since the last beginning anew, not the hour of good requests before.
    assert errors.n < 60 * 121
    assert "since" in errors.message


@pytest.mark.parametrize("value", [None, math.nan])
@pytest.mark.parametrize(
    ("guardrail", "where", "name"),
    [
        ("errors", "counts", "errors"),
        ("fallbacks", "counts", "lists"),
        ("latency-p99", "histograms", "latency"),
        ("scores", "histograms", "score"),
        ("features-age", "gauges", "features_age_seconds"),
    ],
)
def test_a_figure_that_is_missing_or_nan_holds_and_then_rolls_back(
    policy: RolloutPolicy, guardrail: str, where: str, name: str, value: float | None
) -> None:
    kept = after(policy, 60)

    def spoiled(at: float) -> list[Reading]:
        own, other = window(policy, at)
        held = {key: v for key, v in getattr(own, where).items() if key != name}
        if value is not None:
            held[name] = (value,) * 5 if where == "histograms" else value
        return [replace(own, **{where: held}), other]

    actions = []
    for _ in range(13):
        kept = taken_in(kept, policy, spoiled(kept.until), expectations=EXPECTED)
        actions.append(asked(policy, kept).action)
    assert actions == ["hold"] * 11 + ["roll_back"] * 2
    assert result(asked(policy, kept), guardrail) == "missing"
    healed = after(policy, 1, memory=kept)
    assert asked(policy, healed).action == "continue"


def test_without_what_scores_are_held_against_nothing_goes_on(policy: RolloutPolicy) -> None:
    kept = begin(policy, at=0.0)
    for _ in range(60):
        kept = taken_in(kept, policy, window(policy, kept.until))
    assert asked(policy, kept).action == "roll_back"


@pytest.mark.parametrize("arm", [CANARY, STABLE])
def test_an_arm_that_is_not_read_holds_and_then_rolls_back(policy: RolloutPolicy, arm: str) -> None:
    kept = after(policy, 60)
    actions = []
    for _ in range(12):
        left = [r for r in window(policy, kept.until) if r.arm != arm]
        kept = taken_in(kept, policy, left, expectations=EXPECTED)
        actions.append(asked(policy, kept).action)
    assert actions == ["hold"] * 11 + ["roll_back"]
    assert f"The {arm} arm could not be read" in asked(policy, kept).reason


def test_no_arm_at_all_is_rolled_back_when_patience_ends(policy: RolloutPolicy) -> None:
    kept = after(policy, 60)
    soon, late = unread(kept, policy, at=kept.until + 30), unread(kept, policy, at=kept.until + 61)
    assert asked(policy, soon).action == "hold"
    assert asked(policy, late).action == "roll_back"


def test_a_source_that_hangs_is_rolled_back_when_patience_ends(policy: RolloutPolicy) -> None:
    kept = after(policy, 60)
    found = [judge(policy, kept, outcomes={"clicks": GOOD}, at=kept.until + late) for late in (10, 11, 60)]
    assert [verdict.action for verdict in found] == ["continue", "hold", "roll_back"]
    assert "Nothing has been read for 60 s" in found[2].reason


def test_a_canary_without_traffic_holds_and_does_not_pass(policy: RolloutPolicy) -> None:
    nothing = dict.fromkeys(("requests", "lists", "errors", "fallbacks", "empty"), 0.0)
    kept = after(policy, 100, **nothing)
    verdict = asked(policy, kept)
    assert verdict.action == "hold"
    assert result(verdict, "errors") == "insufficient"
    assert any("no traffic so far" in wait for wait in verdict.waits_for)


def test_a_step_held_too_long_is_rolled_back(policy: RolloutPolicy) -> None:
    kept = replace(after(policy, 12), until=policy.hold_at_most_seconds)
    verdict = asked(policy, kept)
    assert verdict.action == "roll_back"
    assert "Held for 2 days without being settled" in verdict.reason


def test_a_mismatched_split_voids_holds_and_rolls_back(policy: RolloutPolicy) -> None:
    kept = after(policy, 60)
    actions = []
    for _ in range(60):
        own, other = window(policy, kept.until)
        users = [replace(own, new_users=16), replace(other, new_users=84)]
        kept = taken_in(kept, policy, users, expectations=EXPECTED)
        verdict = asked(policy, kept)
        actions.append(verdict.action)
        if verdict.action == "roll_back":
            break
    assert actions.count("hold") == 11
    assert actions[-1] == "roll_back"
    assert result(verdict, "clicks") == "void"
    assert "Users are not split as set" in verdict.reason


def _split_of(policy: RolloutPolicy, kept: Memory, share: float, users: tuple[int, int]) -> Memory:
    own, other = window(policy, kept.until)
    pair = [replace(own, share=share, new_users=users[0]), replace(other, share=1 - share, new_users=users[1])]
    return taken_in(kept, policy, pair, expectations=EXPECTED)


def test_evidence_of_the_split_survives_a_step_whose_shares_differ(policy: RolloutPolicy) -> None:
    kept = _split_of(policy, begin(policy, at=0.0), 0.1, (160, 840))
    before = split_evidence(kept)
    assert before > 3
    assert split_evidence(_split_of(policy, kept, 0.5, (500, 500))) == pytest.approx(before)


def test_the_same_users_in_the_next_step_are_no_second_witness(policy: RolloutPolicy) -> None:
    kept = begin(policy, at=0.0)
    found = []
    for share, users in ((0.1, (127, 873)), (0.2, (227, 773)), (0.4, (427, 573))):
        kept = _split_of(policy, kept, share, users)
        found.append(split_evidence(kept))
    # 27 too many were drawn once; they are there in each step.
    assert found[2] == pytest.approx(found[0])


def test_the_next_step_reads_anew_and_keeps_what_was_read(policy: RolloutPolicy) -> None:
    kept = after(policy, 60)
    on = moved(kept, step=1, at=kept.until)
    assert (on.step, on.epoch, on.requests) == (1, 2, 0.0)
    assert on.tracks["errors"].whole == kept.tracks["errors"].whole
    assert on.tracks["errors"].recent.windows == 0
    assert asked(policy, on).action == "hold"


def test_reading_begins_anew_every_ten_minutes(policy: RolloutPolicy) -> None:
    kept = after(policy, 121)
    assert (kept.epoch, kept.epoch_began) == (2, policy.restart_seconds)
    assert kept.tracks["errors"].recent.windows == 1
    assert kept.tracks["errors"].whole.windows == 121


def test_parts_of_epochs_are_a_whole_however_many_there_are() -> None:
    assert sum(spent(epoch) for epoch in range(1, 10_000)) == pytest.approx(1, abs=1e-3)


def segmented(policy: RolloutPolicy, at: float, names: Sequence[str], errors: float) -> list[Reading]:
    found = window(policy, at)
    for name in names:
        for own in window(policy, at):
            counts = dict(own.counts) | ({"errors": errors} if own.arm == CANARY else {})
            found.append(replace(own, segment=f"surface={name}", counts=counts))
    return found


def test_a_segment_alone_can_roll_back(policy: RolloutPolicy) -> None:
    kept = begin(policy, at=0.0)
    for _ in range(60):
        kept = taken_in(kept, policy, segmented(policy, kept.until, ["home"], errors=9.0), expectations=EXPECTED)
    verdict = asked(policy, kept)
    assert verdict.action == "roll_back"
    assert result(verdict, "errors", "surface=home") == "harm"
    assert result(verdict, "errors") == "within"


def test_no_more_segments_are_asked_than_the_budget_was_divided_for(policy: RolloutPolicy) -> None:
    kept = begin(policy, at=0.0)
    for names in ([f"b{i}" for i in range(8)], [f"a{i}" for i in range(8)]):
        for _ in range(3):
            kept = taken_in(kept, policy, segmented(policy, kept.until, names, errors=0.0), expectations=EXPECTED)
    held = sorted(key for key in kept.tracks if key.startswith("errors@"))
    assert len(held) == 10
    # Whoever was there first stays: a name that comes later takes no part away.
    assert all(f"errors@surface=b{i}" in held for i in range(8))


def test_a_loss_of_clicks_rolls_back_and_few_users_do_not(policy: RolloutPolicy) -> None:
    kept = after(policy, 60)
    lost = replace(GOOD, canary=0.8)
    few = replace(lost, canary_users=150)
    assert judge(policy, kept, outcomes={"clicks": lost}, at=kept.until).action == "roll_back"
    found = judge(policy, kept, outcomes={"clicks": few}, at=kept.until)
    assert found.action == "continue"
    assert result(found, "clicks") == "insufficient"


def test_less_can_be_the_harm(policy: RolloutPolicy) -> None:
    value = yaml.safe_load((FOLDER / "default.yaml").read_text())
    value["guardrails"].append(
        {
            "id": "provider-acme",
            "kind": "rate",
            "title": "A provider is still shown",
            "why": "A provider whose items vanish from lists is harmed, whatever users click on.",
            "measure": "places:acme",
            "of": "places",
            "harm": "less",
            "margin": 0.02,
        }
    )
    own = parse_rollout_policy(yaml.safe_dump(value), subject="policy")
    for share, answer in ((0.1, "within"), (0.02, "harm"), (0.3, "within")):
        kept = begin(own, at=0.0)
        for _ in range(60):
            pair = []
            for arm, part in ((CANARY, share), (STABLE, 0.1)):
                whole = reading(own, arm, kept.until)
                places = 20 * whole.counts["requests"]
                pair.append(replace(whole, counts={**whole.counts, "places": places, "places:acme": part * places}))
            kept = taken_in(kept, own, pair, expectations=EXPECTED)
        assert result(asked(own, kept), "provider-acme") == answer


def test_an_equal_baseline_can_take_the_stable_arms_place(policy: RolloutPolicy) -> None:
    value = yaml.safe_load((FOLDER / "default.yaml").read_text()) | {"compare_with": "baseline"}
    own = parse_rollout_policy(yaml.safe_dump(value), subject="policy")
    kept = begin(own, at=0.0)
    for _ in range(60):
        # The stable arm is warm; the baseline fails as a cold canary does.
        cold = reading(own, CANARY, kept.until, errors=3.0)
        kept = taken_in(
            kept, own, [cold, replace(cold, arm="baseline"), reading(own, STABLE, kept.until)], expectations=EXPECTED
        )
    assert result(asked(own, kept), "errors") != "harm"


def test_how_long_it_takes_is_told_and_comes_about(policy: RolloutPolicy) -> None:
    few = {"errors": 0.01, "requests": 10.0, "lists": 10.0}
    kept = after(policy, 30, **few)
    errors = next(r for r in asked(policy, kept).results if r.guardrail == "errors")
    assert errors.answer == "insufficient"
    assert errors.expected_seconds is not None
    windows = 0
    while result(asked(policy, kept), "errors") == "insufficient":
        kept, windows = after(policy, 1, memory=kept, **few), windows + 1
    # Readings without chance settle sooner than the plan, which allows for bad luck.
    assert errors.expected_seconds / 3 < windows * 5 < errors.expected_seconds * 1.1


def test_a_verdict_is_a_document(policy: RolloutPolicy) -> None:
    verdict = asked(policy, after(policy, 30))
    assert documents.parse(StepVerdict, documents.to_bytes(verdict), subject="verdict") == verdict


def test_the_same_readings_give_the_same_bytes(policy: RolloutPolicy) -> None:
    one, two = (documents.to_bytes(asked(policy, after(policy, 40))) for _ in range(2))
    assert one == two


def test_estimates_are_those_of_all_counts_together(policy: RolloutPolicy) -> None:
    rng = np.random.default_rng(0)
    kept, counts = begin(policy, at=0.0), []
    for _ in range(80):
        y, ys = rng.binomial(60, 0.02), rng.binomial(540, 0.01)
        counts.append((y, ys))
        pair = [
            reading(policy, CANARY, kept.until, errors=float(y)),
            reading(policy, STABLE, kept.until, errors=float(ys)),
        ]
        kept = taken_in(kept, policy, pair, expectations=EXPECTED)
    found = next(r for r in asked(policy, kept).results if r.guardrail == "errors")
    y, ys = np.sum(counts, axis=0)
    # With the same split in every window the weighted difference is that of the totals.
    assert found.estimate == pytest.approx(y / (60 * 80) - ys / (540 * 80))
