"""Files of the exposure log: a line for each answered list, each with its own checksum.

    rankgate/exposures/v1 header        89abcdef {"schema": "rankgate/exposures/v1", ...}
    one list that was shown             01234567 {"at": ..., "request_id": ..., "items": [...], ...}
    ...

The first eight characters are the CRC-32 of the rest of the line, so that a line holds or does not, whatever lies about it: a
process or a machine that ends in the middle of a line loses that line. Whoever writes a file holds a lock on it (`flock`); the
system frees the lock when the process ends, however it ends, so a file without one is closed. Files are named by their
beginning, so names sort by time, and no two processes share one.

JSON, and not Arrow: a line is readable by any log shipper, and of twenty places costs 10 us to write and 32 bytes a place.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import sys
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from components.errors import InputError
from components.serving.contract import SCHEMA_VERSION, Answer, Exposure, Place

SUFFIX = ".exposures"
_PARTIAL = ".partial"
_SCHEMA = f"rankgate/exposures/v{SCHEMA_VERSION}"
_CHECKED = 9
"""Bytes before a line's JSON: the checksum and a blank."""

_JSON = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))
_LETTERS = "abcdefghijklmnopqrstuvwxyz"

TORN = "torn tail"
DAMAGED = "damaged line"

Column = TypeVar("Column")


@dataclass(frozen=True, slots=True)
class Shown:
    """A list as it was shown, and what was asked for: one line."""

    at: str
    """ISO 8601, UTC, with microseconds."""
    request_id: str
    user_id: str | None
    surface: str
    context: Mapping[str, str]
    release: str
    arm: str
    fallbacks: tuple[str, ...]
    places: tuple[Place, ...]
    """Best first. Scores are kept as 32-bit floats, which is what a model's scores are."""

    @classmethod
    def of(
        cls,
        at: datetime,
        request_id: str,
        user_id: str | None,
        surface: str,
        context: Mapping[str, str],
        answer: Answer,
    ) -> Shown:
        """Of all that was asked and answered, what is logged."""
        moment = at.astimezone(UTC).isoformat(timespec="microseconds")
        return cls(
            moment, request_id, user_id, surface, context, answer.release, answer.arm, answer.fallbacks, answer.places
        )

    def exposures(self) -> Iterator[Exposure]:
        """One for each place, best first."""
        for place in self.places:
            yield Exposure(
                at=self.at,
                request_id=self.request_id,
                user_id=self.user_id,
                surface=self.surface,
                context=self.context,
                item_id=place.item_id,
                rank=place.rank,
                score=place.score,
                propensity=place.propensity,
                explored=place.explored,
                source=place.source,
                release=self.release,
                arm=self.arm,
                fallbacks=self.fallbacks,
            )


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a file that are no record."""

    file: str
    offset: int
    size: int
    kind: str
    """`TORN` where the file ends within a line: its writer was ended there. `DAMAGED` anywhere else."""


def line_of(shown: Shown) -> bytes:
    """A list as a line, newline included."""
    places = shown.places
    said: dict[str, Any] = {
        "at": shown.at,
        "request_id": shown.request_id,
        "user_id": shown.user_id,
        "surface": shown.surface,
        "context": dict(shown.context),
        "release": shown.release,
        "arm": shown.arm,
        "fallbacks": shown.fallbacks,
        "items": [place.item_id for place in places],
        "scores": _packed([place.score for place in places]),
        "sources": _coded([place.source for place in places]),
        "propensities": _once([place.propensity for place in places]),
        "explored": [place.rank for place in places if place.explored],
    }
    if any(place.rank != rank for rank, place in enumerate(places, start=1)):
        said["ranks"] = [place.rank for place in places]
    return _line(said)


def _line(said: Mapping[str, Any]) -> bytes:
    # Half a surrogate pair is no character: it becomes a question mark, as Parquet could not hold it either.
    text = _JSON.encode(said).encode("utf-8", "replace")
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _once(values: list[Column]) -> list[Column] | Column:
    """The one value where all are equal."""
    return values[0] if values and values.count(values[0]) == len(values) else values


def _coded(sources: list[str]) -> list[str]:
    """Each source once, and before them a letter for each place: sources are few, and their names are longer than ids."""
    names = dict(zip(sources, sources, strict=True))
    if len(names) < 2:
        return list(names)
    letters = dict(zip(names, _LETTERS, strict=False))
    return ["".join([letters[source] for source in sources]), *names]


def _decoded(said: list[str], count: int) -> list[str]:
    if len(said) < 2:
        return said * count
    names = dict(zip(_LETTERS, said[1:], strict=False))
    return [names[letter] for letter in said[0]]


def _packed(scores: Sequence[float]) -> str:
    """Little-endian 32-bit floats, base64: exact, a quarter of the time and half of the bytes of decimal digits."""
    packed = array("f", scores)
    if sys.byteorder == "big":
        packed.byteswap()
    return base64.b64encode(packed.tobytes()).decode()


def _unpacked(text: str) -> list[float]:
    packed = array("f", base64.b64decode(text, validate=True))
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()


def _shown(said: Mapping[str, Any]) -> Shown:
    """What a line says.

    Raises:
        ValueError, KeyError, TypeError: If it says something else.
    """
    items = said["items"]
    count = len(items)
    ranks = said.get("ranks") or range(1, count + 1)
    explored = set(said["explored"])
    places = tuple(
        Place(str(item), score, rank, propensity, rank in explored, source)
        for item, score, rank, propensity, source in zip(
            items,
            _unpacked(said["scores"]),
            ranks,
            _each(said["propensities"], count),
            _decoded(said["sources"], count),
            strict=True,
        )
    )
    datetime.fromisoformat(said["at"])
    return Shown(
        said["at"], said["request_id"], said["user_id"], said["surface"], said["context"], said["release"], said["arm"],
        tuple(said["fallbacks"]), places,
    )  # fmt: skip


def _each(values: Any, count: int) -> Sequence[Any]:
    return values if isinstance(values, list) else [values] * count


class ExposureFile:
    """A file that is written to: whole lines are appended to it, until it is closed."""

    def __init__(self, folder: Path, *, begun: datetime) -> None:
        """Begin a file.

        Raises:
            OSError: If the folder takes none.
        """
        name = f"{begun:%Y%m%dT%H%M%S.%fZ}-{os.getpid()}-{os.urandom(4).hex()}{SUFFIX}"
        beside = folder / f".{name}{_PARTIAL}"
        self.path = folder / name
        self._file = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self.size = 0
        self._broken = False
        try:
            # Locked before it has the name that others look for: nobody takes it for a closed one.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.append(_line({"schema": _SCHEMA, "begun": begun.isoformat(timespec="microseconds")}))
            beside.rename(self.path)
        except OSError:
            os.close(self._file)
            with suppress(OSError):
                beside.unlink()
            raise

    def append(self, lines: bytes) -> None:
        """All of the lines or none of them.

        Raises:
            OSError: If the system takes them not.
        """
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            # What went in before a full disk said no would be a torn line in the middle, and the whole is tried again.
            try:
                os.ftruncate(self._file, self.size)
            except OSError:
                self._broken = True
            raise
        self.size += len(lines)

    @property
    def gone(self) -> bool:
        """Whether nothing should be appended any more: somebody has removed the file, or its end is torn."""
        return self._broken or os.fstat(self._file).st_nlink == 0

    def close(self) -> None:
        """Once what was written is on the disk; another's to read from now on."""
        try:
            with suppress(OSError):
                os.fsync(self._file)
        finally:
            os.close(self._file)


def files_in(folder: Path) -> list[Path]:
    """The log's files, in the order in which they were begun."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror}); needed a folder of exposure files."
        ) from error


@contextmanager
def closed(path: Path, *, alone: bool = False) -> Iterator[bool]:
    """Whether nobody writes the file; as long as the block lasts it is not removed, or `alone`, not read either."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(file)


def read_file(path: Path, *, damaged: Callable[[Damage], None]) -> Iterator[Shown]:
    """The lists of a file, whatever happened to the file or its writer; what is no record is told and skipped.

    Raises:
        InputError: If the file cannot be read, or is of another schema.
    """
    try:
        with path.open("rb") as stream:
            offset = 0
            for line in stream:
                said = _checked(line)
                if offset == 0 and said is not None and said.get("schema", _SCHEMA) != _SCHEMA:
                    raise InputError(f"{path.name}: found schema {said['schema']!r}; needed {_SCHEMA}.")
                if said is None:
                    whole = line.endswith(b"\n")
                    damaged(Damage(path.name, offset, len(line), DAMAGED if whole else TORN))
                elif "schema" not in said:
                    try:
                        yield _shown(said)
                    except (ValueError, KeyError, TypeError):
                        damaged(Damage(path.name, offset, len(line), DAMAGED))
                offset += len(line)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); needed an exposure file.") from error


def shown_in(line: bytes) -> Shown | None:
    """The list of one line of a file; None for its first line, and for what is no record."""
    said = _checked(line)
    if said is None or "schema" in said:
        return None
    try:
        return _shown(said)
    except (ValueError, KeyError, TypeError):
        return None


def _checked(line: bytes) -> dict[str, Any] | None:
    text = line[_CHECKED:-1]
    if not line.endswith(b"\n") or line[:_CHECKED] != b"%08x " % zlib.crc32(text):
        return None
    try:
        said = json.loads(text)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def read_exposures(folder: Path, *, damaged: Callable[[Damage], None]) -> Iterator[Exposure]:
    """Every place that the log of a folder holds, files that are being written included.

    Args:
        folder: Where the log writes.
        damaged: Told of what is no record. A torn tail of a file that is being written is no damage, and told all the same.

    Raises:
        InputError: As `read_file`.
    """
    for path in files_in(folder):
        # Held while it is read; one that made room for others since the listing is no longer there.
        with closed(path) as held:
            if held or path.exists():
                for shown in read_file(path, damaged=damaged):
                    yield from shown.exposures()


@dataclass(frozen=True, slots=True)
class Removed:
    """Closed files that were removed."""

    files: int
    bytes: int


def make_room(folder: Path, *, most_bytes: int, file_bytes: int, opening: int, oldest: float) -> Removed:
    """Remove closed files, the oldest first, until the folder keeps to its bound.

    Args:
        folder: Where the log writes.
        most_bytes: Of all files together, once those that are written to have grown to their size.
        file_bytes: That size.
        opening: Files that the caller is about to begin.
        oldest: Closed files that were last written before this moment, seconds since 1970, are removed in any case.

    Raises:
        OSError: If the folder cannot be listed or changed.
    """
    sizes: dict[Path, int] = {}
    removed = []
    growing = opening
    for path in sorted(folder.iterdir()):
        with suppress(FileNotFoundError), closed(path, alone=True) as ours:
            if path.name.endswith(_PARTIAL):
                # Between its making and its name a file of another process lasts for microseconds.
                if ours and path.stat().st_mtime < oldest:
                    path.unlink()
            elif path.suffix == SUFFIX:
                kept = path.stat()
                if not ours:
                    growing += 1
                elif kept.st_mtime < oldest:
                    path.unlink()
                    removed.append(kept.st_size)
                else:
                    sizes[path] = kept.st_size
    bound = most_bytes - growing * file_bytes
    held = sum(sizes.values())
    for path, size in sizes.items():
        if held <= bound:
            break
        with suppress(FileNotFoundError), closed(path, alone=True) as ours:
            if ours:
                path.unlink()
                removed.append(size)
                held -= size
    return Removed(len(removed), sum(removed))
