"""A rankings directory as arrays: what each system shows for each request, checked before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts import documents
from components.dataset.contract import Dataset, Split
from components.errors import EvidenceError, Fault, FaultyInputError
from components.evidence.ranking_metrics import pad_ranks
from components.ranker.contract import CANDIDATE, INCUMBENT, Rankings

_Kind = TypeVar("_Kind", bound=np.generic)

_REQUEST_COLUMNS = ("request", "user", "split", "n_relevant", "ideal_gains")
_ROW_COLUMNS = ("system", "request", "rank", "item", "score", "gain", "positive")
_CATALOGUE_COLUMNS = ("item", "eligible", "popularity")


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Requests of one split, ascending; arrays of shape (requests,)."""

    request: NDArray[np.int32]
    user: NDArray[np.int32]
    relevant: NDArray[np.int32]
    ideal_gains: NDArray[np.float32]
    """Shape (requests, largest list), descending, 0 past the end."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """One system's ranked rows; `place` is the row of `Requests` that each belongs to."""

    place: NDArray[np.intp]
    rank: NDArray[np.int32]
    item: NDArray[np.int32]
    score: NDArray[np.float32]
    gain: NDArray[np.float32]
    positive: NDArray[np.bool_]

    def top_gains(self, requests: int, *, depth: int) -> NDArray[np.float32]:
        """Gain at each rank, shape (requests, depth); 0 past the end of a list."""
        return pad_ranks(self.gain, self.place, self.rank, shape=(requests, depth)).astype(np.float32, copy=False)

    def top_items(self, requests: int, *, depth: int) -> NDArray[np.int32]:
        """Item at each rank, shape (requests, depth); -1 past the end of a list."""
        return pad_ranks(self.item + 1, self.place, self.rank, shape=(requests, depth)).astype(np.int32) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """An opened rankings directory, with the manifest of the dataset that it ranks."""

    dataset: Dataset
    manifest: Rankings
    eligible: NDArray[np.bool_]
    """By item index, at the test cut."""
    popularity: NDArray[np.float64]
    """By item index: outcomes before the test cut."""
    _requests: pa.Table
    _rows: pa.Table
    _slices: dict[str, tuple[int, int]]
    """First row and number of rows of each system."""

    @property
    def systems(self) -> tuple[str, ...]:
        """The candidate, the incumbent where there is one, then the others as the manifest lists them."""
        names = [system.name for system in self.manifest.systems]
        first = [name for name in (CANDIDATE, INCUMBENT) if name in names]
        return tuple(first + [name for name in names if name not in first])

    @property
    def main_cutoff(self) -> int:
        """The cut-off whose figures a gate looks at first: 10 where it is measured, else the middle one."""
        ordered = sorted(self.manifest.cutoffs)
        return 10 if 10 in ordered else ordered[len(ordered) // 2]

    def requests(self, split: Split) -> Requests:
        """The requests of a split."""
        table = self._requests.filter(pc.equal(self._requests["split"].cast(pa.string()), split))
        lists = table["ideal_gains"].combine_chunks()
        lengths = np.diff(lists.offsets.to_numpy())
        padded = np.zeros((table.num_rows, int(lengths.max(initial=0))), dtype=np.float32)
        padded[np.arange(padded.shape[1]) < lengths[:, None]] = lists.flatten().to_numpy(zero_copy_only=False)
        return Requests(
            request=_array(table, "request", np.int32),
            user=_array(table, "user", np.int32),
            relevant=_array(table, "n_relevant", np.int32),
            ideal_gains=padded,
        )

    def rows(self, system: str, requests: Requests) -> Rows:
        """A system's rows for these requests; a request that it has no rows for has an empty list."""
        chosen = self._rows.slice(*self._slices.get(system, (0, 0)))
        request = _array(chosen, "request", np.int32)
        place = np.searchsorted(requests.request, request)
        known = place < requests.request.size
        known[known] = requests.request[place[known]] == request[known]
        return Rows(
            place=place[known],
            rank=_array(chosen, "rank", np.int32)[known],
            item=_array(chosen, "item", np.int32)[known],
            score=_array(chosen, "score", np.float32)[known],
            gain=_array(chosen, "gain", np.float32)[known],
            positive=_array(chosen, "positive", np.bool_)[known],
        )


def open_rankings(dataset: Path, rankings: Path) -> Ranked:
    """Open a rankings directory.

    Raises:
        InputError: If a manifest cannot be read.
        FaultyInputError: If a table lacks a column, names an unknown request, item, user or system, has a rank below 1,
            or a number that is not finite.
    """
    manifest = documents.load(Rankings, rankings / "rankings.json")
    described = documents.load(Dataset, dataset / "dataset.json")
    requests = read_columns(rankings / "requests.parquet", _REQUEST_COLUMNS)
    rows = read_columns(rankings / "rankings.parquet", _ROW_COLUMNS, dictionary=("system",))
    catalogue = read_columns(rankings / "catalogue.parquet", _CATALOGUE_COLUMNS)
    requests = requests.sort_by("request")
    faults = _faults(described, manifest, requests, rows, catalogue)
    if faults:
        raise FaultyInputError(f"rankings {rankings.name}", faults)
    eligible, popularity = np.zeros(described.items, dtype=bool), np.zeros(described.items)
    item = _array(catalogue, "item", np.int64)
    eligible[item] = _array(catalogue, "eligible", np.bool_)
    popularity[item] = _array(catalogue, "popularity", np.float64)
    return Ranked(described, manifest, eligible, popularity, requests, rows, _slices(rows))


def taken_before_test(ranked: Ranked, dataset: Path) -> NDArray[np.int64]:
    """Outcomes of each user that were known at the test cut, by user index; `dataset` is its directory."""
    before = ranked.dataset.cuts[-2].history_rows if len(ranked.dataset.cuts) > 1 else 0
    known = read_columns(dataset / "history.parquet", ("user",)).slice(0, before)
    return np.bincount(known["user"].to_numpy(), minlength=ranked.dataset.users).astype(np.int64)


def read_columns(path: Path, columns: Sequence[str], *, dictionary: Sequence[str] = ()) -> pa.Table:
    """Columns of a Parquet file.

    Raises:
        EvidenceError: If the file cannot be read or lacks one of them.
    """
    try:
        present = pq.read_schema(path).names
        if missing := [name for name in columns if name not in present]:
            raise EvidenceError(
                f"{path.name}: found columns {', '.join(present)}; needed also {', '.join(missing)}. "
                "Run the step that makes it again."
            )
        return pq.read_table(path, columns=list(columns), read_dictionary=list(dictionary))
    except (OSError, pa.ArrowException) as error:
        raise EvidenceError(
            f"{path.name}: cannot be read as Parquet ({error}). Run the step that makes it again."
        ) from error


def _array(table: pa.Table, name: str, kind: type[_Kind]) -> NDArray[_Kind]:
    values: NDArray[_Kind] = table[name].to_numpy().astype(kind, copy=False)
    return values


def _faults(
    dataset: Dataset, manifest: Rankings, requests: pa.Table, rows: pa.Table, catalogue: pa.Table
) -> list[Fault]:
    tables = {"requests.parquet": requests, "rankings.parquet": rows, "catalogue.parquet": catalogue}
    nulls = [
        Fault(f"{name}, {column}", f"{table[column].null_count} nulls", "a value in every row")
        for name, table in tables.items()
        for column in table.column_names
        if table[column].null_count
    ]
    return nulls or [
        *_system_faults(manifest, rows),
        *_request_faults(requests, rows),
        *_order_faults(rows),
        *_range_faults(tables, "requests.parquet", "user", dataset.users),
        *_range_faults(tables, "rankings.parquet", "item", dataset.items),
        *_range_faults(tables, "catalogue.parquet", "item", dataset.items),
        *_finite_faults(tables, "rankings.parquet", "score"),
        *_finite_faults(tables, "rankings.parquet", "gain"),
        *_finite_faults(tables, "catalogue.parquet", "popularity"),
    ]


def _system_faults(manifest: Rankings, rows: pa.Table) -> list[Fault]:
    declared = {system.name for system in manifest.systems}
    if CANDIDATE not in declared:
        return [Fault("rankings.json, systems", ", ".join(sorted(declared)) or "none", f"one called {CANDIDATE}")]
    present = set(pc.unique(rows["system"].cast(pa.string())).to_pylist())
    if present != declared and rows.num_rows:
        return [Fault("rankings.parquet, system", ", ".join(sorted(present)), ", ".join(sorted(declared)))]
    return []


def _request_faults(requests: pa.Table, rows: pa.Table) -> list[Fault]:
    request = requests["request"].to_numpy()
    found = []
    if np.unique(request).size != request.size:
        found.append(Fault("requests.parquet, request", "the same request twice", "one row a request"))
    if unknown := int(np.isin(np.unique(rows["request"].to_numpy()), request, invert=True).sum()):
        found.append(
            Fault("rankings.parquet, request", f"{unknown} that requests.parquet lacks", "known requests only")
        )
    return found


def _codes(rows: pa.Table) -> tuple[list[str], NDArray[np.int64]]:
    """System names in order of appearance, and the place of each row's system among them."""
    system = rows["system"].combine_chunks()
    if pa.types.is_dictionary(system.type):
        # Chunks may carry dictionaries of their own; one encoding over all of them orders names by appearance.
        system = system.cast(system.type.value_type)
    encoded = system.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _slices(rows: pa.Table) -> dict[str, tuple[int, int]]:
    if not rows.num_rows:
        return {}
    names, code = _codes(rows)
    counts = np.bincount(code, minlength=len(names))
    starts = np.cumsum(counts) - counts
    return {name: (int(start), int(count)) for name, start, count in zip(names, starts, counts, strict=True)}


def _order_faults(rows: pa.Table) -> list[Fault]:
    """Ranks that do not count 1, 2, 3 within each list: a repeated or skipped rank would lose a row in silence."""
    if not rows.num_rows:
        return []
    code = _codes(rows)[1]
    if not (np.diff(code) >= 0).all():
        return [Fault("rankings.parquet, system", "a system's rows in several places", "rows ordered by system")]
    request, rank = rows["request"].to_numpy(), rows["rank"].to_numpy()
    same = (code[1:] == code[:-1]) & (request[1:] == request[:-1])
    wrong = int((rank[0] != 1) + np.sum(rank[1:] != np.where(same, rank[:-1] + 1, 1)))
    if not wrong:
        return []
    needed = "1, 2, 3, ... in each list, ordered by system, request, rank"
    return [Fault("rankings.parquet, rank", f"{wrong} rows out of sequence", needed)]


def _range_faults(tables: dict[str, pa.Table], name: str, column: str, size: int) -> list[Fault]:
    values = tables[name][column].to_numpy()
    if not values.size or (values.min() >= 0 and values.max() < size):
        return []
    return [Fault(f"{name}, {column}", f"{values.min()} to {values.max()}", f"0 to {size - 1}, as in the dataset")]


def _finite_faults(tables: dict[str, pa.Table], name: str, column: str) -> list[Fault]:
    if np.isfinite(tables[name][column].to_numpy().sum(dtype=np.float64)):
        return []
    return [Fault(f"{name}, {column}", "NaN or infinity", "finite numbers")]
