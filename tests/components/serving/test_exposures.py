"""The exposure log as a service uses it: nothing waits for it, nothing is lost unseen, and a kill takes little."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.errors import FaultyInputError
from components.serving import exposures
from components.serving.contract import Answer, Ask, Exposure, Place
from components.serving.exposure_files import Damage, ExposureFile, closed, files_in, read_exposures, read_file
from components.serving.exposures import BYTES_VARIABLE, FOLDER_VARIABLE, KEEP_VARIABLE, ExposureLog, Limits, log_of

_AT = datetime(2026, 5, 10, 9, tzinfo=UTC)
_PLACES = tuple(Place(f"i{rank}", 0.5, rank, 1.0, False, "given") for rank in (1, 2, 3))


def offer(log: ExposureLog, number: int, places: tuple[Place, ...] = _PLACES) -> bool:
    ask = Ask(f"r{number}", f"u{number}", None, 3, {"device": "phone"}, surface="home")
    return log.offer(ask, Answer(ask.request_id, places, "9f2c", "stable", ("unknown_user",), {}), _AT)


def read(folder: Path) -> list[Exposure]:
    return list(read_exposures(folder, damaged=lambda damage: pytest.fail(str(damage))))


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


@pytest.fixture
def opened() -> Iterator[Callable[..., ExposureLog]]:
    logs = []

    def open_log(folder: Path, **limits: Any) -> ExposureLog:
        logs.append(ExposureLog(folder, limits=Limits(**limits)))
        return logs[-1]

    yield open_log
    for log in logs:
        log.close(within=10.0)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A disk that takes nothing and says nothing, until the event is set."""
    free = threading.Event()
    append = ExposureFile.append

    def waits(file: ExposureFile, lines: bytes) -> None:
        free.wait(30.0)
        append(file, lines)

    monkeypatch.setattr(ExposureFile, "append", waits)
    yield free
    free.set()


def test_what_was_offered_is_read_place_by_place_with_all_that_was_asked(
    tmp_path: Path, opened: Callable[..., ExposureLog]
) -> None:
    log = opened(tmp_path)
    drawn = (*_PLACES[:2], Place("i9", 0.25, 3, 0.125, True, "popularity"))
    assert offer(log, 1)
    assert offer(log, 2, drawn)
    assert log.close()
    found = read(tmp_path)
    assert len(found) == 6
    assert found[-1] == Exposure(
        at="2026-05-10T09:00:00.000000+00:00",
        request_id="r2",
        user_id="u2",
        surface="home",
        context={"device": "phone"},
        item_id="i9",
        rank=3,
        score=0.25,
        propensity=0.125,
        explored=True,
        source="popularity",
        release="9f2c",
        arm="stable",
        fallbacks=("unknown_user",),
    )


def test_it_is_in_the_file_soon_though_nobody_closes_anything(
    tmp_path: Path, opened: Callable[..., ExposureLog]
) -> None:
    log = opened(tmp_path, flush_seconds=0.02)
    for number in range(3):
        offer(log, number)
        until(lambda number=number: len(read(tmp_path)) == 3 * (number + 1))  # type: ignore[misc]


def test_so_many_waiting_places_are_written_however_long_the_time(
    tmp_path: Path, opened: Callable[..., ExposureLog]
) -> None:
    log = opened(tmp_path, flush_seconds=3_600.0, flush_places=30)
    for number in range(9):
        offer(log, number)
    time.sleep(0.2)
    assert log.counts().written == 0
    offer(log, 9)
    until(lambda: log.counts().written == 30)


def test_an_empty_answer_leaves_no_place(tmp_path: Path, opened: Callable[..., ExposureLog]) -> None:
    log = opened(tmp_path)
    assert offer(log, 1, ())
    assert log.close()
    assert read(tmp_path) == []


def test_a_full_queue_drops_and_counts_and_never_waits(
    tmp_path: Path, opened: Callable[..., ExposureLog], stuck: threading.Event
) -> None:
    log = opened(tmp_path, capacity=30)
    began = time.process_time()
    taken = [offer(log, number) for number in range(1_000)]
    assert time.process_time() - began < 1.0
    assert taken == [True] * 10 + [False] * 990
    stuck.set()
    until(lambda: log.counts().written == 30)
    counts = log.counts()
    assert (counts.offered, counts.dropped, counts.lost, counts.waiting) == (3_000, 2_970, 0, 0)
    assert offer(log, 1_000)
    assert log.close()
    assert [one.request_id for one in read(tmp_path)[::3]] == [f"r{number}" for number in [*range(10), 1_000]]


def test_closing_writes_what_waits_and_takes_nothing_more(tmp_path: Path, opened: Callable[..., ExposureLog]) -> None:
    log = opened(tmp_path, flush_seconds=3_600.0)
    for number in range(500):
        assert offer(log, number)
    assert log.close()
    assert len(read(tmp_path)) == 1_500
    assert not offer(log, 501)
    assert log.counts().dropped == 3
    assert log.close()


def test_closing_waits_no_longer_than_it_is_told(
    tmp_path: Path, opened: Callable[..., ExposureLog], stuck: threading.Event
) -> None:
    log = opened(tmp_path)
    offer(log, 1)
    began = time.monotonic()
    assert not log.close(within=0.1)
    assert time.monotonic() - began < 5.0


def test_files_are_closed_by_size_and_read_in_order(tmp_path: Path, opened: Callable[..., ExposureLog]) -> None:
    log = opened(tmp_path, rotate_bytes=2_000, total_bytes=1 << 20)
    for number in range(200):
        offer(log, number)
    assert log.close()
    paths = files_in(tmp_path)
    assert len(paths) > 10
    assert log.counts().files == len(paths)
    assert all(path.stat().st_size <= 2_000 for path in paths)
    assert [one.request_id for one in read(tmp_path)[::3]] == [f"r{number}" for number in range(200)]


def test_a_file_is_closed_by_age_though_nothing_is_offered_any_more(
    tmp_path: Path, opened: Callable[..., ExposureLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposures, "_IDLE", 0.02)
    monkeypatch.setattr(exposures, "_DOZE", 0.02)
    log = opened(tmp_path, rotate_seconds=0.2)
    offer(log, 1)
    until(lambda: log.counts().files == 1)
    (path,) = files_in(tmp_path)

    def is_closed() -> bool:
        with closed(path) as free:
            return free

    until(is_closed)
    offer(log, 2)
    until(lambda: log.counts().files == 2)


def held_by(folder: Path) -> int:
    sizes = []
    for path in files_in(folder):
        with suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return sum(sizes)


def test_the_folder_never_holds_more_than_its_bound_and_what_went_is_counted(
    tmp_path: Path, opened: Callable[..., ExposureLog]
) -> None:
    log = opened(tmp_path, rotate_bytes=4_000, total_bytes=20_000, flush_seconds=0.001)
    most = 0
    for number in range(2_000):
        offer(log, number)
        if number % 20 == 0:
            time.sleep(0.001)
            most = max(most, held_by(tmp_path))
    # Thousands of small files: a busy machine takes its time.
    assert log.close(within=60)
    assert most <= 20_000
    counts = log.counts()
    assert counts.removed_files == counts.files - len(files_in(tmp_path)) > 0
    # The newest stay.
    assert read(tmp_path)[-1].request_id == "r1999"


def test_two_logs_of_one_folder_write_files_of_their_own(tmp_path: Path, opened: Callable[..., ExposureLog]) -> None:
    logs = [opened(tmp_path, rotate_bytes=4_000, total_bytes=1 << 20) for _ in range(2)]
    for number in range(200):
        offer(logs[number % 2], number)
    assert all(log.close() for log in logs)
    assert sum(log.counts().files for log in logs) == len(files_in(tmp_path))
    for path in files_in(tmp_path):
        whose = {
            int(one.request_id[1:]) % 2 for one in read_file(path, damaged=lambda damage: pytest.fail(str(damage)))
        }
        assert len(whose) == 1
    assert {one.request_id for one in read(tmp_path)} == {f"r{number}" for number in range(200)}


def test_an_offer_to_a_log_that_has_long_had_nothing_to_do_is_written_soon(
    tmp_path: Path, opened: Callable[..., ExposureLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposures, "_IDLE", 0.01)
    monkeypatch.setattr(exposures, "_DOZE", 3_600.0)
    log = opened(tmp_path, flush_seconds=0.01)
    for number in range(3):
        until(lambda: log._dozing)
        offer(log, number)
        until(lambda number=number: log.counts().written == 3 * (number + 1))  # type: ignore[misc]


def test_offers_of_several_threads_are_all_there(tmp_path: Path, opened: Callable[..., ExposureLog]) -> None:
    log = opened(tmp_path, flush_seconds=0.001)

    def many(begin: int) -> None:
        for number in range(begin, begin + 500):
            assert offer(log, number)

    threads = [threading.Thread(target=many, args=(500 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.close()
    assert sorted(int(one.request_id[1:]) for one in read(tmp_path)[::3]) == list(range(2_000))


@pytest.fixture
def refusing(tmp_path: Path) -> Path:
    """A folder that cannot be made: a file lies in its place. Permissions would not keep root out."""
    (tmp_path / "log").write_text("in the way")
    return tmp_path / "log"


def test_a_folder_that_takes_nothing_is_counted_told_once_and_tried_again(
    refusing: Path,
    opened: Callable[..., ExposureLog],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(exposures, "_RETRY", 0.01)
    log = opened(refusing, flush_seconds=0.01)
    with caplog.at_level(logging.ERROR, "rankgate.serving"):
        assert offer(log, 1)
        until(lambda: log.counts().failures > 5)
    told = [record for record in caplog.records if "cannot be written" in record.getMessage()]
    assert len(told) == 1
    assert "Answers go on." in told[0].getMessage()
    assert log.counts().waiting == 3
    refusing.unlink()
    until(lambda: log.counts().written == 3)
    assert [one.request_id for one in read(refusing)] == ["r1"] * 3


def test_what_a_disk_never_took_is_lost_and_counted_when_the_log_closes(
    refusing: Path, opened: Callable[..., ExposureLog]
) -> None:
    log = opened(refusing)
    for number in range(4):
        offer(log, number)
    assert not log.close()
    counts = log.counts()
    assert (counts.offered, counts.lost, counts.written, counts.waiting) == (12, 12, 0, 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_survived_and_what_waited_is_written_once_there_is_room(
    tmp_path: Path, opened: Callable[..., ExposureLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposures, "_RETRY", 0.01)
    log = opened(tmp_path, flush_seconds=0.001)
    offer(log, 1)
    until(lambda: log.counts().written == 3)
    file: Any = log._file
    kept, full = os.dup(file._file), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, file._file)
    offer(log, 2)
    until(lambda: log.counts().failures > 0)
    assert log.counts().written == 3
    # The device cannot be cut back to its length either, so the log begins a new file by itself.
    until(lambda: log.counts().written == 6)
    os.close(full)
    os.close(kept)
    assert log.close()
    assert [one.request_id for one in read(tmp_path)[::3]] == ["r1", "r2"]


def test_a_file_that_somebody_removes_is_followed_by_another(
    tmp_path: Path, opened: Callable[..., ExposureLog]
) -> None:
    log = opened(tmp_path, flush_seconds=0.001)
    offer(log, 1)
    until(lambda: log.counts().written == 3)
    for path in files_in(tmp_path):
        path.unlink()
    offer(log, 2)
    until(lambda: log.counts().written == 6)
    assert {one.request_id for one in read(tmp_path)} == {"r2"}


def test_a_list_that_no_line_can_be_made_of_takes_no_other_with_it(
    tmp_path: Path, opened: Callable[..., ExposureLog], caplog: pytest.LogCaptureFixture
) -> None:
    log = opened(tmp_path)
    offer(log, 1)
    offer(log, 2, (Place("i1", "much", 1, 1.0, False, "given"),))  # type: ignore[arg-type]
    offer(log, 3)
    assert not log.close()
    assert [one.request_id for one in read(tmp_path)[::3]] == ["r1", "r3"]
    assert log.counts().lost == 1
    assert "request 'r2'" in caplog.text


def _exposing(folder: Path, rate: float) -> subprocess.Popen[bytes]:
    program = Path(__file__).with_name("exposing_process.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, str(program), str(folder), str(rate), "20"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)


@pytest.mark.integration
def test_a_killed_process_loses_what_it_was_offered_last_and_its_file_reads_on(tmp_path: Path) -> None:
    """Under 500 lists a second: what was offered until a second before the kill is there, gapless, whatever was torn."""
    process = _exposing(tmp_path, 500.0)
    assert process.stdout
    offered, at = -1, {}
    began = time.monotonic()
    while time.monotonic() - began < 60.0 and offered < 2_000:
        offered = int(process.stdout.readline())
        at[offered] = time.monotonic()
    killed = time.monotonic()
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    offered = int(rest[-1]) if rest else offered

    damages: list[Damage] = []
    found = [one.request_id for one in read_exposures(tmp_path, damaged=damages.append)][::20]
    assert found == [f"{process.pid}-{number}" for number in range(len(found))]
    assert len(damages) <= 1
    long_before = max(number for number, moment in at.items() if moment < killed - 1.0)
    assert long_before < len(found) <= offered + 1
    # Its lock went with it: the next process, and the conversion, may have the files.
    for path in files_in(tmp_path):
        with closed(path) as free:
            assert free


@pytest.mark.integration
def test_processes_that_share_a_folder_do_not_mix(tmp_path: Path) -> None:
    processes = [_exposing(tmp_path, 200.0) for _ in range(2)]
    for process in processes:
        assert process.stdout
        while int(process.stdout.readline()) < 300:
            pass
    for process in processes:
        process.kill()
        process.communicate()
    for path in files_in(tmp_path):
        whose = {line.partition(b'"request_id":"')[2].partition(b"-")[0] for line in path.read_bytes().splitlines()[1:]}
        assert len(whose - {b""}) == 1
        assert f"-{next(iter(whose)).decode()}-" in path.name


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"capacity": 0}, "capacity: found 0; needed more than 0"),
        ({"flush_seconds": float("nan")}, "flush_seconds: found nan"),
        ({"total_bytes": 10, "rotate_bytes": 6}, "total_bytes: found 10; needed at least twice"),
    ],
)
def test_limits_that_are_none_are_refused(changes: dict[str, Any], needed: str) -> None:
    with pytest.raises(FaultyInputError, match=needed):
        Limits(**changes)


def test_without_a_folder_nothing_is_logged() -> None:
    assert log_of({}) is None
    assert log_of({FOLDER_VARIABLE: ""}) is None


def test_the_environment_names_folder_size_and_time(tmp_path: Path) -> None:
    log = log_of({FOLDER_VARIABLE: str(tmp_path), BYTES_VARIABLE: "16777216", KEEP_VARIABLE: "0.5"})
    assert log is not None
    log.close()
    limits: Limits = log._limits
    assert (limits.total_bytes, limits.rotate_bytes, limits.keep_seconds) == (1 << 24, 1 << 21, 1_800.0)


def test_every_fault_of_the_environment_is_told_at_once(tmp_path: Path) -> None:
    said = {FOLDER_VARIABLE: str(tmp_path), BYTES_VARIABLE: "1000", KEEP_VARIABLE: "long"}
    with pytest.raises(FaultyInputError) as caught:
        log_of(said)
    assert BYTES_VARIABLE in str(caught.value)
    assert f"{KEEP_VARIABLE}: found 'long'" in str(caught.value)
