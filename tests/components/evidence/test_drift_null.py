"""The calibrated null: how often nothing is called drift, and drift is called so, from fifty rows to millions.

`python tests/components/evidence/test_drift_null.py` prints the table of docs/decisions/0011-drift-against-a-calibrated-null.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from components.dataset.contract import Cut, Dataset, Feature
from components.evidence.distance import count, distances, owners_of
from components.evidence.drift_columns import LEVEL, PRACTICAL_BOUND, RESAMPLES
from components.evidence.drift_history import History, Null, halves_apart, history_of
from components.evidence.drift_null import NULL_LEVEL, day_effects, day_movements, usual_movement

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MARGIN = 0.5
"""Of the default policy's rules on drift_ratio."""


@dataclass(frozen=True)
class Log:
    """A log of one number: weeks of training, then a window of validation and one of test, in whole days."""

    rows: int
    """Rows of a window of seven days."""
    users: int
    weeks: int = 8
    windows: tuple[int, int] = (7, 7)
    days_apart: float = 0.0
    """Standard deviation of what is particular to each day, in those of the rows."""
    weekend: float = 0.0
    """How much higher Saturdays and Sundays are."""
    shift: float = 0.0
    """How much higher the test window is."""
    feast: tuple[int, ...] = ()
    """First days of weeks that are one deviation higher; 0 is the first of the log, all days count on."""


def made(log: Log, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, users and days of a log."""
    rng = np.random.default_rng([seed, log.rows, log.users])
    first = log.weeks * 7
    last = first + sum(log.windows)
    day = np.sort(rng.integers(0, last, log.rows * last // 7))
    user = rng.integers(0, log.users, len(day))
    of_day = log.days_apart * rng.standard_normal(last)
    of_day += log.weekend * (np.arange(last) % 7 >= 5)
    of_day[first + log.windows[0] :] += log.shift
    for begin in log.feast:
        of_day[begin : begin + 7] += 1.0
    own = np.sqrt(0.3) * rng.standard_normal(log.users)
    values = own[user] + np.sqrt(0.7) * rng.standard_normal(len(day)) + of_day[day]
    return values, user, day


def judged(log: Log, seed: int) -> tuple[float, float, float]:
    """Threshold, and limits of the drift ratio."""
    values, user, day = made(log, seed)
    first = log.weeks * 7
    middle, end = first + log.windows[0], first + sum(log.windows)
    training = day < first
    manifest = _manifest(first, middle, end)
    # One row a request will do.
    requests = pa.table(
        {
            "request": pa.array(np.arange(training.sum()), pa.int32()),
            "user": pa.array(user[training], pa.int32()),
            "ts": pa.array(day[training] * 86_400_000_000 + round(BEGIN.timestamp() * 1e6), pa.timestamp("us", "UTC")),
            "split": ["train"] * int(training.sum()),
            "cut": pa.array(np.zeros(training.sum()), pa.int32()),
        }
    )
    history = history_of(manifest, requests)
    assert history is not None
    null = history.null(values[training], categorical=False, feature=None, seed=seed)
    threshold = max(PRACTICAL_BOUND, null.distance if null else 0.0)
    before, now = (day >= first) & (day < middle), day >= middle
    counted = count(values[before], values[now], owners_of(user[before], user[now]), categorical=False)
    found = distances([counted], [""], resamples=RESAMPLES, seed=seed, level=LEVEL)[0][0]
    return threshold, found.low / threshold, found.high / threshold


def answers(log: Log, rounds: int) -> dict[str, float]:
    """How often the default policy's rule answers what."""
    limits = [judged(log, seed) for seed in range(rounds)]
    bound = 1 + MARGIN
    fail = np.mean([low > bound for _, low, _ in limits])
    passed = np.mean([high < bound for _, _, high in limits])
    return {
        "alarm": float(np.mean([low > 1 for _, low, _ in limits])),
        "fail": float(fail),
        "insufficient": float(1 - fail - passed),
        "pass": float(passed),
        "threshold": float(np.median([threshold for threshold, _, _ in limits])),
    }


def _manifest(first: int, middle: int, end: int, *, mode: str = "logged") -> Dataset:
    cuts = [("start", 0), ("validation", first), ("test", middle), ("release", end)]
    return Dataset(
        1, "0" * 64, "small", mode, 3600, (),
        tuple(Cut(name, (BEGIN + timedelta(days=day)).isoformat(), day * 24, 0) for name, day in cuts),
        ("click",), (), (), (), (), "", "", "", (10,), False, 1, 10, {}, {}, {}, 0,
    )  # type: ignore[arg-type]  # fmt: skip


SIZES = [(50, 20), (200, 60), (1_000, 200), (50_000, 3_000)]


def test_a_log_of_twenty_users_is_neither_drift_nor_proof_of_none() -> None:
    found = answers(Log(50, 20), 60)
    assert found["fail"] == 0.0
    assert found["insufficient"] >= 0.7


@pytest.mark.parametrize(("rows", "users", "rounds"), [(200, 60, 40), (1_000, 200, 40), (50_000, 3_000, 4)])
def test_nothing_is_no_alarm_at_any_size(rows: int, users: int, rounds: int) -> None:
    found = answers(Log(rows, users), rounds)
    assert (found["alarm"], found["fail"]) == (0.0, 0.0)
    assert rows < 1_000 or found["pass"] == 1.0


@pytest.mark.parametrize(("shift", "rows", "users"), [(2.0, 200, 60), (1.0, 1_000, 200), (0.75, 50_000, 3_000)])
def test_a_shift_is_called_drift_where_there_is_enough_of_it(shift: float, rows: int, users: int) -> None:
    assert answers(Log(rows, users, shift=shift), 4 if rows > 1_000 else 30)["alarm"] >= 0.9


def test_days_that_differ_raise_the_threshold_until_they_are_no_alarm() -> None:
    log = Log(5_000, 500, days_apart=0.5)
    found = answers(log, 25)
    # Seven days that differ by half a deviation move the mean by 0.27: 0.12 in distance, above the practical bound.
    assert found["threshold"] > 0.15
    assert found["alarm"] <= 0.04
    assert answers(replace(log, shift=2.0), 10)["alarm"] == 1.0


def test_a_weekly_cycle_is_no_drift_though_the_test_window_holds_no_weekend() -> None:
    log = Log(5_000, 500, weekend=1.5, windows=(7, 3))
    found = answers(log, 10)
    assert (found["fail"], found["alarm"]) == (0.0, 0.0)


def test_a_feast_that_was_there_before_is_no_drift_and_a_new_one_is() -> None:
    first = 56 + 7
    assert answers(Log(5_000, 500, feast=(14, first)), 10)["alarm"] == 0.0
    assert answers(Log(5_000, 500, feast=(first,)), 10)["fail"] == 1.0


def test_days_of_one_kind_have_no_effect_and_noise_of_few_users_is_none() -> None:
    rng = np.random.default_rng(2)
    days = np.repeat(np.arange(28), 40)
    alike = day_effects(rng.standard_normal(len(days)), rng.integers(0, 30, len(days)), days, categorical=False)
    assert alike is not None
    assert np.sqrt(np.quantile(day_movements(alike, (7, 7), seed=0), NULL_LEVEL)) < 0.06
    differ = day_effects(
        rng.standard_normal(len(days)) + np.repeat(rng.standard_normal(28), 40), days * 40, days, categorical=False
    )
    assert differ is not None
    assert np.sqrt(np.quantile(day_movements(differ, (7, 7), seed=0), NULL_LEVEL)) > 0.15
    # A window four times as long holds four times the days: half the movement.
    long, short = (np.sqrt(day_movements(differ, (days, days), seed=0).mean()) for days in (28, 7))
    assert long == pytest.approx(short / 2, rel=0.25)


def test_what_is_usual_is_the_largest_of_the_pairs_where_days_say_nothing() -> None:
    assert usual_movement([0.1, 0.3, float("nan")], None) == pytest.approx(0.3)
    assert np.isnan(usual_movement([float("nan")], None))
    by_days = np.linspace(0, 0.01, 400)
    assert usual_movement([], by_days) == pytest.approx(0.1, abs=0.001)
    # What the pair moved beyond what days alone make, and days drawn anew.
    assert usual_movement([0.2], by_days) == pytest.approx(np.sqrt(0.04 - 0.005 + 0.01), abs=0.001)


def test_a_single_day_has_no_effects() -> None:
    assert day_effects(np.ones(4), np.arange(4), np.full(4, 9), categorical=False) is None
    assert day_effects(np.full(4, np.nan), np.arange(4), np.arange(4), categorical=False) is None


def test_a_log_shorter_than_its_windows_has_no_pairs_but_no_error() -> None:
    manifest = _manifest(5, 12, 19)
    days = np.arange(5)
    requests = pa.table(
        {
            "request": pa.array(days, pa.int32()),
            "user": pa.array(days, pa.int32()),
            "ts": pa.array([BEGIN + timedelta(days=int(day)) for day in days], pa.timestamp("us", "UTC")),
            "split": ["train"] * 5,
            "cut": pa.array(np.zeros(5), pa.int32()),
        }
    )
    history = history_of(manifest, requests)
    assert isinstance(history, History)
    assert history.null(np.ones(5), categorical=False, feature=None, seed=0) is None
    counted = Feature("x", "user", "count", "click", 28.0, "number", "")
    assert history.null(np.ones(5), categorical=False, feature=counted, seed=0) is None
    assert history_of(manifest, requests.slice(0, 0)) is None


def test_halves_of_a_window_are_told_apart_by_their_days() -> None:
    values, users = np.concatenate([np.zeros(50), np.ones(50)]), np.arange(100)
    apart = halves_apart(values, users, np.repeat([3, 9], 50), (7, 7), seed=0)
    assert isinstance(apart, Null)
    assert apart.distance > 0.8
    assert halves_apart(values, users, np.full(100, 3), (7, 7), seed=0) is None


def _table() -> None:
    cases = {
        "nothing": {},
        "days differ by 0.3 SD": {"days_apart": 0.3},
        "weekends, 3-day test": {"weekend": 1.0, "windows": (7, 3)},
        "feast that was there before": {"feast": (14, 63)},
        "test 0.5 SD higher": {"shift": 0.5},
        "test 1 SD higher": {"shift": 1.0},
        "test 2 SD higher": {"shift": 2.0},
    }
    for name, changes in cases.items():
        for rows, users in SIZES:
            rounds = 400 if rows <= 1000 else 60
            found = answers(replace(Log(rows, users), **changes), rounds)
            print(
                f"{name:30s} {rows:>9,} rows {users:>6,} users", {k: round(v, 3) for k, v in found.items()}, flush=True
            )


if __name__ == "__main__":
    _table()
