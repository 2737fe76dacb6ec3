"""The exposure log: what was shown, written beside the answering and never in its way.

    offer(ask, answer, at)  -> bounded queue -> one writing thread -> files of `exposure_files`

A request pays for a tuple and an append to a queue: nothing is woken up for it, the writing thread looks by itself. Where that
does not keep up, or cannot write at all, exposures are dropped and counted, and answers go on. What was offered is in the file,
beyond the reach of `kill -9`, within `flush_seconds` as long as the disk takes it. Files are closed by size and by age; the
oldest closed file makes room for the next.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from components.errors import Fault, FaultyInputError
from components.serving.contract import Answer, Ask
from components.serving.exposure_files import ExposureFile, Shown, line_of, make_room

_LOG = logging.getLogger("rankgate.serving")

FOLDER_VARIABLE = "RANKGATE_EXPOSURES"
"""Names the folder; nothing is logged without it."""
BYTES_VARIABLE = "RANKGATE_EXPOSURE_BYTES"
KEEP_VARIABLE = "RANKGATE_EXPOSURE_KEEP_HOURS"

_PORTION = 400
"""Places, an answer counting as `_ANSWER` more: about 0.1 ms of work."""
_ANSWER = 30
_BREATH = 0.0002
"""Seconds that the writing thread leaves the interpreter to the answering one after each portion of lines. Without it an answer
that begins meanwhile waits for the interpreter's switch interval, 5 ms; with portions of a millisecond one in forty waits that
long."""
_WRITE_BYTES = 1 << 18
_LEAST_BYTES = 16 << 20
"""Of all files: eight of them, each with room for the longest line."""
_RETRY = 1.0
_IDLE = 1.0
_DOZE = 1.0
_STEP = 0.05
_TOLD_EVERY = 60.0
_TIDIED_EVERY = 60.0


_Offered = tuple[datetime, str, str | None, str, Mapping[str, str], Answer]
"""Of an ask only what is logged: its candidates would take most of the memory."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the log may hold, for how long."""

    capacity: int = 200_000
    """Places that may wait to be written; about 200 bytes of memory each."""
    flush_seconds: float = 0.05
    """From an offer to its being written."""
    flush_places: int = 20_000
    """So many waiting places are written at once, however short the time."""
    rotate_bytes: int = 32 << 20
    """Of a file; one line may exceed it."""
    rotate_seconds: float = 900.0
    total_bytes: int = 1 << 30
    """Of all files in the folder, those of other processes included."""
    keep_seconds: float = 7 * 86_400.0
    """Closed files are removed so long after their last line, converted or not: they name people."""

    def __post_init__(self) -> None:
        faults = [
            Fault(f"exposure log, {field.name}", str(getattr(self, field.name)), "more than 0")
            for field in fields(self)
            if not getattr(self, field.name) > 0
        ]
        if not faults and self.total_bytes < 2 * self.rotate_bytes:
            needed = f"at least twice the size of one file, {2 * self.rotate_bytes}"
            faults.append(Fault("exposure log, total_bytes", str(self.total_bytes), needed))
        if faults:
            raise FaultyInputError("exposure log", faults)


@dataclass(frozen=True, slots=True)
class Counts:
    """What has become of everything offered, in places but for files and bytes; all since the log was opened."""

    offered: int
    written: int
    dropped: int
    """Not taken in: too many were waiting, or the log was closed."""
    lost: int
    """Taken in and not written: no line could be made of them, or the log was closed before the disk took them."""
    waiting: int
    bytes_written: int
    failures: int
    """Times that the system refused to make or to write a file."""
    files: int
    removed_files: int


class ExposureLog:
    """Takes in what was shown; a thread of its own writes it. One a process."""

    def __init__(self, folder: Path, *, limits: Limits | None = None) -> None:
        """Begin. A folder that cannot be written is no error here: it is told in the log and counted, and tried again."""
        self._folder, self._limits = folder, limits or Limits()
        self._queue: deque[_Offered] = deque()
        self._offering = threading.Lock()
        self._taken_in = self._dropped = 0
        self._written = self._lost = self._bytes = self._failures = self._files = self._removed = 0
        self._file: ExposureFile | None = None
        self._began = self._tidied = 0.0
        self._told = -_TOLD_EVERY
        self._wake, self._closing, self._dozing = threading.Event(), threading.Event(), False
        self._held: tuple[bytes, int] = (b"", 0)
        self._thread = threading.Thread(target=self._run, name="exposure-log", daemon=True)
        self._thread.start()

    def offer(self, ask: Ask, answer: Answer, at: datetime) -> bool:
        """Take in a list that was shown; never blocks.

        Args:
            ask: What was asked.
            answer: What is shown for it.
            at: When, with its zone.

        Returns:
            Whether it was taken in; what was not is counted as dropped.
        """
        count = len(answer.places)
        if not count:
            return True
        # Producers alone wait for one another here, for less than a microsecond; the writer never holds this lock.
        with self._offering:
            waiting = self._taken_in - self._written - self._lost
            if waiting + count > self._limits.capacity or self._closing.is_set():
                self._dropped += count
                return False
            self._taken_in += count
            self._queue.append((at, ask.request_id, ask.user_id, ask.surface, ask.context, answer))
        if self._dozing:
            self._wake.set()
        return True

    def counts(self) -> Counts:
        """As of now."""
        return Counts(
            offered=self._taken_in + self._dropped,
            written=self._written,
            dropped=self._dropped,
            lost=self._lost,
            waiting=max(0, self._taken_in - self._written - self._lost),
            bytes_written=self._bytes,
            failures=self._failures,
            files=self._files,
            removed_files=self._removed,
        )

    def close(self, *, within: float = 5.0) -> bool:
        """Take in nothing more, write what waits and close the file.

        Args:
            within: Seconds to wait for that at most.

        Returns:
            Whether everything that was taken in has been written.
        """
        with self._offering:
            self._closing.set()
        self._wake.set()
        self._thread.join(within)
        return not self._thread.is_alive() and self._lost == 0

    def _run(self) -> None:
        while True:
            if not self._held[0]:
                self._wait()
            closing, refused = self._closing.is_set(), False
            try:
                self._drain()
                self._keep_house()
            except Exception as error:
                # Mostly the disk's; but whatever it is, without this thread nothing is ever logged again.
                refused = True
                self._refused(error)
            if closing and (refused or not (self._queue or self._held[0])):
                self._end()
                return
            if refused:
                self._closing.wait(_RETRY)

    def _wait(self) -> None:
        """Until there is something to write, `flush_seconds` or `flush_places` of it; dozes where there long is nothing."""
        limits = self._limits
        step = min(_STEP, limits.flush_seconds)
        began, since = time.monotonic(), 0.0
        while not self._closing.is_set():
            time.sleep(step)
            now = time.monotonic()
            if self._queue:
                since = since or now
                if now - since >= limits.flush_seconds - step or self.counts().waiting >= limits.flush_places:
                    return
            elif now - began >= _IDLE:
                self._doze()
                return

    def _doze(self) -> None:
        # Told first, looked for after: an offer in between is seen here, or sees that it must wake.
        self._dozing = True
        if not self._queue and not self._closing.is_set():
            self._wake.wait(_DOZE)
        self._dozing = False
        self._wake.clear()

    def _drain(self) -> None:
        """Write all that waits."""
        lines, size, places, portion = [], 0, 0, 0
        most = min(_WRITE_BYTES, self._limits.rotate_bytes // 2)
        if self._held[0]:
            self._write(*self._held)
        while self._queue:
            at, request_id, user_id, surface, context, answer = self._queue.popleft()
            try:
                lines.append(line_of(Shown.of(at, request_id, user_id, surface, context, answer)))
            except (TypeError, ValueError, OverflowError) as error:
                self._lost += len(answer.places)
                self._tell(f"no line can be made of request {request_id[:64]!r}", error)
                continue
            size += len(lines[-1])
            places += len(answer.places)
            portion += _ANSWER + len(answer.places)
            if size >= most:
                self._write(b"".join(lines), places)
                lines, size, places = [], 0, 0
            if portion >= _PORTION and not self._closing.is_set():
                portion = 0
                time.sleep(_BREATH)
        if lines:
            self._write(b"".join(lines), places)

    def _write(self, lines: bytes, places: int) -> None:
        """Write lines; what the system refuses is held, and tried again before all else."""
        self._held = lines, places
        if self._file is not None and (self._file.size + len(lines) > self._limits.rotate_bytes or self._file.gone):
            self._close_file()
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._tidy(opening=1)
            self._file = ExposureFile(self._folder, begun=datetime.now(UTC))
            self._began = time.monotonic()
            self._files += 1
        self._file.append(lines)
        self._held = b"", 0
        self._written += places
        self._bytes += len(lines)

    def _keep_house(self) -> None:
        if self._file is not None and time.monotonic() - self._began >= self._limits.rotate_seconds:
            self._close_file()
        if self._files and time.monotonic() - self._tidied >= _TIDIED_EVERY:
            self._tidy(opening=0)

    def _tidy(self, *, opening: int) -> None:
        self._tidied = time.monotonic()
        removed = make_room(
            self._folder,
            most_bytes=self._limits.total_bytes,
            file_bytes=self._limits.rotate_bytes,
            opening=opening,
            oldest=time.time() - self._limits.keep_seconds,
        )
        if removed.files:
            self._removed += removed.files
            _LOG.warning(
                "exposure log: %d closed files (%d bytes) removed to keep to its bounds", removed.files, removed.bytes
            )

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _refused(self, error: Exception) -> None:
        self._failures += 1
        self._tell(
            f"{self._folder} cannot be written, {self._failures} times so far, {self._dropped} places dropped", error
        )

    def _tell(self, what: str, error: Exception) -> None:
        if time.monotonic() - self._told >= _TOLD_EVERY:
            self._told = time.monotonic()
            _LOG.error("exposure log: %s (%s: %s). Answers go on.", what, type(error).__name__, error)

    def _end(self) -> None:
        self._lost += self._held[1] + sum(len(answer.places) for *_, answer in self._queue)
        self._held = b"", 0
        self._queue.clear()
        try:
            self._close_file()
        except OSError as error:
            self._refused(error)


def log_of(environment: Mapping[str, str]) -> ExposureLog | None:
    """The log that the environment asks for; none where it names no folder.

    Raises:
        FaultyInputError: If it gives a size or a time that is none.
    """
    folder = environment.get(FOLDER_VARIABLE, "")
    if not folder:
        return None
    standard = Limits()
    faults: list[Fault] = []
    total = _number(environment, BYTES_VARIABLE, float(standard.total_bytes), faults, least=_LEAST_BYTES)
    keep = _number(environment, KEEP_VARIABLE, standard.keep_seconds / 3_600, faults)
    if faults:
        raise FaultyInputError("exposure log", faults)
    limits = Limits(
        total_bytes=int(total),
        # A folder holds some closed files beside those that are written to: otherwise room is made by losing nearly all.
        rotate_bytes=min(standard.rotate_bytes, int(total) // 8),
        keep_seconds=keep * 3_600,
    )
    return ExposureLog(Path(folder), limits=limits)


def _number(
    environment: Mapping[str, str], name: str, otherwise: float, faults: list[Fault], *, least: float = 0.0
) -> float:
    said = environment.get(name, "")
    try:
        found = float(said) if said else otherwise
    except ValueError:
        found = -1.0
    if not max(least, 1e-6) <= found < 1e15:
        faults.append(
            Fault(name, repr(said[:40]), f"a number of at least {least:.0f}" if least else "a number above 0")
        )
        return otherwise
    return found
