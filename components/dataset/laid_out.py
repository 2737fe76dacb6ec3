"""Features laid out for a service, on disk: made once by whoever publishes them, mapped by every process that serves.

    online.json     `LaidOut`: of which tables, and where each array lies
    online.bin      the arrays, little-endian, one after the other, each from a multiple of 64 bytes

Laying out counts every user's pairs, seconds of work that would hold up whoever is answered meanwhile; opening this takes
milliseconds, and processes of one machine share the pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.artifacts import documents
from components.dataset.lookup import FeatureTables
from components.dataset.online import Ints, OnlineFeatures
from components.errors import InputError

SCHEMA_VERSION = 1

DOCUMENT = "online.json"
ARRAYS = "online.bin"
_ALIGNED = 64
_KINDS = ("<f4", "<f8", "<i4", "<i8")


@dataclass(frozen=True, slots=True)
class LaidOut:
    """What the bytes beside it mean."""

    schema_version: int
    latest_bucket: int
    features: tuple[str, ...]
    """Names, in the order of the answer's columns."""
    arrays: dict[str, tuple[str, tuple[int, ...], int]]
    """By name: kind, shape, and the byte where it begins."""


def save_online(online: OnlineFeatures, tables: FeatureTables, columns: Ints, folder: Path) -> LaidOut:
    """Write features that were laid out.

    Args:
        online: The features.
        tables: What they were laid out from.
        columns: As they were laid out.
        folder: An existing one.
    """
    layout: dict[str, tuple[str, tuple[int, ...], int]] = {}
    with (folder / ARRAYS).open("wb") as stream:
        for name, array in online.arrays().items():
            kind = np.dtype(array.dtype).newbyteorder("<")
            stream.write(b"\0" * (-stream.tell() % _ALIGNED))
            layout[name] = kind.str, array.shape, stream.tell()
            np.ascontiguousarray(array, kind).tofile(stream)
    made = LaidOut(SCHEMA_VERSION, tables.latest_bucket, _names(tables, columns), layout)
    documents.save(made, folder / DOCUMENT)
    return made


def open_online(folder: Path, tables: FeatureTables, columns: Ints) -> OnlineFeatures | None:
    """Features that `save_online` wrote, mapped; None where there are none, because they were too many to lay out.

    Args:
        folder: Where they lie.
        tables: What they were laid out from.
        columns: As they were laid out.

    Raises:
        InputError: If they are of other tables or columns, or not whole.
    """
    if not (folder / DOCUMENT).exists():
        return None
    made = documents.load(LaidOut, folder / DOCUMENT)
    if (made.latest_bucket, made.features) != (tables.latest_bucket, _names(tables, columns)):
        raise InputError(
            f"{folder / DOCUMENT}: laid out as of bucket {made.latest_bucket} for {len(made.features)} features; needed bucket "
            f"{tables.latest_bucket} and the {len(columns)} of the ranker."
        )
    try:
        mapped = np.asarray(np.memmap(folder / ARRAYS, np.uint8, mode="r"))
        arrays = {name: _array(mapped, *place) for name, place in made.arrays.items()}
        online = OnlineFeatures.of_arrays(arrays, tables, columns)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / ARRAYS}: cannot be opened ({error}); publish the features anew.") from error
    if online.users != tables.users:
        raise InputError(f"{folder / ARRAYS}: found {online.users} users; needed {tables.users}.")
    return online


def _names(tables: FeatureTables, columns: Sequence[int] | Ints) -> tuple[str, ...]:
    return tuple(tables.names[int(place)] for place in columns)


def _array(mapped: NDArray[np.uint8], kind: str, shape: tuple[int, ...], begin: int) -> NDArray[Any]:
    if kind not in _KINDS or begin % _ALIGNED or begin < 0 or min(shape, default=0) < 0:
        raise ValueError(f"no array of kind {kind!r} from byte {begin}")
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
    if begin + size > len(mapped):
        raise ValueError(f"it ends at byte {len(mapped)}, and an array at {begin + size}")
    return mapped[begin : begin + size].view(kind).reshape(shape)
