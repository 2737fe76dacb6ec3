"""The bucket tables on disk: what the kernel looks back on, for every entity of a snapshot (`preparing` makes them).

    tables/tables.json               `TablesManifest`
    tables/trails.int64              the arrays of every `Trail`, little-endian 64-bit numbers end to end; the manifest says
                                     where each lies. One file, because opening hundreds takes longer than a request may.
    tables/takings.*.npy             what each user took
    tables/nearby_<bucket>.*.npy     co-visitation as of that boundary, by the item that is looked up
    tables/{users,items}.*.npy       attributes of role feature, categories, providers, prices, availability

numpy maps the arrays without reading them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.dataset.contract import Feature
from components.dataset.covisitation import Neighbours, Takings
from components.dataset.kernel import Trail

SCHEMA_VERSION = 1
PRICE_UNITS = 10_000
"""Prices are summed as whole ten-thousandths: sums of whole numbers are exact in any order."""

MANIFEST = "tables.json"
TRAILS = "trails.int64"
MOST_KEYS = 1 << 63
"""A key and a bucket share one signed 64-bit number."""
NEVER = np.iinfo(np.int64).max
_NPY_HEADER_BYTES = 128
NUMBER = np.dtype("<i8")


@dataclass(frozen=True, slots=True)
class TablesManifest:
    """What the arrays beside it mean."""

    schema_version: int
    features: tuple[Feature, ...]
    bucket_seconds: int
    origin: int
    stride: int
    first_bucket: int
    latest_bucket: int
    windows: tuple[int, ...]
    """Lengths in buckets that the trails were prepared for, ascending."""
    trails: tuple[str, ...]
    layout: dict[str, dict[str, tuple[int, int]]]
    """By trail and array, where it begins in `trails.int64`, and its length, in numbers."""
    boundaries: tuple[int, ...]
    """Buckets at which co-visitation was computed, ascending."""
    users: int
    items: int
    categories: int
    providers: int
    outcomes: tuple[str, ...]
    impression: str
    context: dict[str, tuple[str, ...]]
    """Known values of each context column, ascending: a value's place is its code."""


def counted_windows(features: Sequence[Feature]) -> dict[str, set[float]]:
    """Lengths in days over which each trail is counted; 0 is ever."""
    found: dict[str, set[float]] = {}

    def count(entity: str, event: str, *days: float) -> None:
        found.setdefault(f"{entity}:{event}", set()).update(days)

    for feature in features:
        entity, event, days = feature.entity, feature.event, feature.window_days
        match feature.family:
            case "count":
                count(entity, event, days)
            case "trend":
                count(entity, event, 7.0, days)
            case "rate":
                count(entity, event, days)
                count(entity, "!", days)
                count("catalogue", event, 0.0)
                count("catalogue", "!", 0.0)
            case "share":
                count(entity, event, days)
                count("catalogue" if entity == "item" else "user", event, days)
            case "price":
                count("user", "$", days)
                count("user", "#", days)
    return found


def in_buckets(days: float, bucket_seconds: int) -> int:
    """A length of time in whole buckets."""
    return round(days * 86_400 / bucket_seconds)


def file_name(name: str) -> str:
    """A name as part of a file name; distinct names stay distinct."""
    return "".join(char if char.isalnum() or char in "_-" else f"%{ord(char):02x}" for char in name)


def load_array(folder: Path, name: str) -> NDArray[Any]:
    """One array, mapped into memory rather than read."""
    path = folder / f"{name}.npy"
    # An empty array has no bytes that could be mapped.
    empty = path.stat().st_size <= _NPY_HEADER_BYTES
    # A plain view of the map: numpy's memmap class makes every small slice several times dearer.
    held: NDArray[Any] = np.asarray(np.load(path, mmap_mode=None if empty else "r", allow_pickle=False))
    return held


def load_trails(folder: Path, manifest: TablesManifest) -> dict[str, Trail]:
    """Every trail by its name, mapped into memory.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is shorter or longer than the manifest says, or lacks an array.
    """
    mapped = np.asarray(np.memmap(folder / TRAILS, NUMBER, mode="r"))
    needed = sum(length for arrays in manifest.layout.values() for _, length in arrays.values())
    if len(mapped) != needed:
        raise ValueError(f"{TRAILS} holds {len(mapped):,} numbers, the manifest says {needed:,}")
    windows = np.array(manifest.windows, np.int64)
    return {
        name: Trail.from_arrays(
            {array: mapped[start : start + length] for array, (start, length) in arrays.items()},
            origin=manifest.origin,
            stride=manifest.stride,
            windows=windows,
        )
        for name, arrays in manifest.layout.items()
    }


def load_takings(folder: Path) -> Takings:
    """What each user took."""
    return Takings(*(load_array(folder, f"takings.{name}") for name in ("starts", "enter", "items")))


def load_nearby(folder: Path, boundary: int) -> Neighbours:
    """Co-visitation as of one boundary, turned: row j holds the items that count j among their nearest."""
    parts = (load_array(folder, f"nearby_{boundary}.{name}") for name in ("starts", "items", "similarity"))
    return Neighbours(*parts)


def load_attribute(folder: Path, owner: str, name: str) -> NDArray[Any]:
    """One attribute of users or items; `category!`, `provider!`, `price!` and `available!` are the parts items play."""
    return load_array(folder, f"{owner}.{name if name.endswith('!') else file_name(name)}")
