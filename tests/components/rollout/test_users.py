"""Who was new in a step, counted once whoever counts; and what users did, by arm and step."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import InputError
from components.rollout.contract import CANARY, STABLE
from components.rollout.users import UserLedger
from components.serving.exposure_files import Shown

STEPS = {0: "2026-01-01T00:00:00", 1: "2026-01-01T01:00:00"}


def _shown(number: int, user: str | None, arm: str, at: str) -> Shown:
    return Shown(f"2026-01-01T{at}", f"q{number}", user, "home", {}, "r", arm, (), ())


def test_a_user_is_new_once_a_step_and_who_has_no_name_each_time() -> None:
    ledger = UserLedger()
    first = [
        _shown(1, "a", CANARY, "00:00:01"),
        _shown(2, "b", STABLE, "00:00:02"),
        _shown(3, "a", CANARY, "00:00:03"),
        _shown(4, None, STABLE, "00:00:04"),
        _shown(5, None, STABLE, "00:00:05"),
    ]
    assert ledger.add(first, steps={0: STEPS[0]}) == {CANARY: 1, STABLE: 3}
    assert ledger.add(
        [_shown(6, "a", CANARY, "00:00:06"), _shown(7, "c", CANARY, "00:00:07")], steps={0: STEPS[0]}
    ) == {CANARY: 1}
    assert ledger.add([_shown(8, "a", CANARY, "01:00:01")], steps=STEPS) == {CANARY: 1}, "new in the next step"


def test_what_was_shown_before_the_canary_belongs_to_no_step() -> None:
    ledger = UserLedger()
    early = Shown("2025-12-31T23:59:59", "q0", "a", "home", {}, "r", STABLE, (), ())
    assert ledger.add([early], steps={0: STEPS[0]}) == {}
    assert ledger.add([_shown(1, "a", STABLE, "00:00:01")], steps={0: STEPS[0]}) == {STABLE: 1}


def test_who_takes_the_count_up_counts_nobody_again() -> None:
    lists = [_shown(1, "a", CANARY, "00:00:01"), _shown(2, "b", STABLE, "00:00:02")]
    later = [_shown(3, "a", CANARY, "00:10:01"), _shown(4, "d", STABLE, "00:10:02")]
    again = UserLedger()
    assert again.add([*lists, *later], steps={0: STEPS[0]}, counted_from="2026-01-01T00:10:00") == {STABLE: 1}


def test_clicks_are_joined_by_request_and_a_half_written_line_is_left(tmp_path: Path) -> None:
    ledger = UserLedger()
    ledger.add(
        [
            _shown(number, f"u{number % 4}", CANARY if number % 4 < 2 else STABLE, f"00:00:{number:02}")
            for number in range(1, 41)
        ],
        steps={0: STEPS[0]},
    )
    events = tmp_path / "events"
    nothing = ledger.outcomes(events, "clicks", other=STABLE)
    assert (nothing.canary, nothing.stable, nothing.canary_users, nothing.stable_users) == (0, 0, 2, 2)
    events.mkdir()
    assert ledger.outcomes(events, "clicks", other=STABLE).canary == 0
    (events / "a.csv").write_text("request_id,event\nq1,click\nq4,clicks\nq5,click\nq2,view\nq99,click\nq3,cli")
    found = ledger.outcomes(events, "clicks", other=STABLE)
    # Of 20 lists each: two clicks (q4, q5 and q1 of users 0 and 1) in the canary, none in the stable arm; each weighted by half.
    assert (found.canary, found.stable) == (1.5, 0)
    assert (found.canary_lists, found.stable_lists) == (20, 20)
    (events / "a.csv").write_text("request,what\nq1,click\n")
    with pytest.raises(InputError, match="needed columns request_id and event"):
        ledger.outcomes(events, "clicks", other=STABLE)


def test_many_lists_are_taken_in_whole() -> None:
    ledger = UserLedger()
    lists = (_shown(number, f"u{number}", (CANARY, STABLE)[number % 2], "00:00:01") for number in range(25_000))
    assert ledger.add(lists, steps={0: STEPS[0]}) == {CANARY: 12_500, STABLE: 12_500}
