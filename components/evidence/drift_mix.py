"""Who asks, and from where: the mix of contexts and of users' groups, as columns of their own.

A model may see every feature spread as before and still be asked by another crowd: more phones, another country. Each
declared context and each segment or sensitive attribute of the users is a column of the requests, and so are all
contexts together, because two devices and two languages can change places without either moving. A request counts once;
an unknown value is a value like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.dataset.contract import Dataset
from components.evidence.ranked import read_columns

Floats = NDArray[np.float64]

ALL_CONTEXTS = "mix of all contexts"

_MOST_VALUES = 50
"""Values are the commonest so many, and all others as one: a handful of requests says nothing of a share."""

_MOST_NUMBERS = 12
"""Different numbers from where on an attribute is a quantity, not a code."""


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    """One mix over all requests of the dataset."""

    name: str
    values: Floats
    """Of each request, shape (requests,): a code, or a number of an attribute that is one (NaN = unknown)."""
    categorical: bool


def mixes(dataset: Path, built: Dataset, requests: pa.Table) -> Iterator[Mix]:
    """Every mix that the dataset declares, one at a time.

    Args:
        dataset: Dataset directory.
        built: Its manifest.
        requests: Every request, with `user` and the contexts.

    Raises:
        EvidenceError: If users.parquet cannot be read or lacks a declared attribute.
    """
    contexts = []
    for name in built.context:
        contexts.append(_codes(requests[name]))
        yield Mix(f"mix of {name}", _commonest(contexts[-1]), categorical=True)
    if len(contexts) > 1:
        joint = contexts[0]
        for codes in contexts[1:]:
            joint = np.unique(joint * (codes.max(initial=0) + 1) + codes, return_inverse=True)[1].astype(np.int64)
        yield Mix(ALL_CONTEXTS, _commonest(joint), categorical=True)
    attributes = list(dict.fromkeys((*built.segments, *built.sensitive)))
    if not attributes:
        return
    users = read_columns(dataset / "users.parquet", attributes)
    of_request = requests["user"].to_numpy()
    for name in attributes:
        column = users[name]
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            numbers = column.cast(pa.float64()).to_numpy()[of_request]
            if len(np.unique(numbers)) > _MOST_NUMBERS:
                yield Mix(f"mix of {name}", numbers, categorical=False)
                continue
        yield Mix(f"mix of {name}", _commonest(_codes(column)[of_request]), categorical=True)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Dense code of each value, 0 where there is none."""
    encoded = column.combine_chunks().dictionary_encode().indices
    codes: NDArray[np.int64] = pc.fill_null(encoded, -1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
    return codes


def _commonest(codes: NDArray[np.int64]) -> Floats:
    """Codes by descending frequency, ties by code; the rarest as one."""
    counts = np.bincount(codes)
    rank = np.empty(len(counts), dtype=np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return np.minimum(rank[codes], _MOST_VALUES).astype(np.float64)
