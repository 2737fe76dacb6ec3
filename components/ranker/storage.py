"""A ranker's folder: written once with a digest of every file, opened only if every byte is still the same."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.artifacts import documents
from components.artifacts.digests import digest_file, tree_files
from components.dataset.contract import Dataset
from components.dataset.lookup import FeatureTables
from components.dataset.reading import OpenDataset
from components.errors import Fault, FaultyInputError
from components.ranker.booster import Booster
from components.ranker.calibration import Calibration
from components.ranker.candidates.index import Index, save_index
from components.ranker.contract import Ranker
from components.ranker.vocabulary import Vocabulary, vocabulary_of

MANIFEST = "ranker.json"
MODEL = "model.ubj"
CALIBRATION = "calibration.json"
DATASET = "dataset.json"
CANDIDATES = "candidates"
TABLES = "tables"
ONLINE = "online"
"""Of refreshed features: what a service lays out of them, made once for all."""
USERS = "users.parquet"
ITEMS = "items.parquet"


def write_ranker(
    manifest: Ranker,
    *,
    booster: Booster,
    calibration: Calibration,
    index: Index,
    data: OpenDataset,
    out: Path,
) -> Ranker:
    """Write a ranker's folder; the manifest, with the digest of every other file, comes last."""
    (out / MODEL).write_bytes(booster.to_bytes())
    documents.save(calibration, out / CALIBRATION)
    write_data(data, index=index, out=out)
    written = replace(manifest, files=file_digests(out))
    documents.save(written, out / MANIFEST)
    return written


def write_data(data: OpenDataset, *, index: Index, out: Path) -> None:
    """Write what a ranker looks up: users, items, bucket tables, the retrieval index, and what they are.

    Users leave with their `feature` attributes only: what a reviewer measures by is no business of the service.
    """
    documents.save(data.manifest, out / DATASET)
    (out / CANDIDATES).mkdir()
    save_index(index, out / CANDIDATES)
    shutil.copytree(data.path / TABLES, out / TABLES, copy_function=shutil.copyfile)
    pq.write_table(data.users.select(["user", "user_id", *_user_features(data.manifest, data.users)]), out / USERS)
    pq.write_table(data.items, out / ITEMS)


def _user_features(manifest: Dataset, users: pa.Table) -> list[str]:
    withheld = {*manifest.segments, *manifest.sensitive}
    used = {feature.attribute for feature in manifest.features if feature.entity == "user" and feature.attribute}
    return [name for name in users.column_names[2:] if name in used and name not in withheld]


def parts_of(manifest: Dataset) -> tuple[str, ...]:
    """Of category, provider and price, the parts that a data set's items play."""
    played = {"category": manifest.category, "provider": manifest.provider, "price": manifest.price}
    return tuple(part for part, attribute in played.items() if attribute)


def file_digests(folder: Path) -> dict[str, str]:
    """sha256 of each file of a ranker but its manifest, by relative path."""
    return {name: digest_file(path) for name, path in tree_files(folder) if name != MANIFEST}


@dataclass(frozen=True)
class RankerFolder:
    """An opened ranker's documents and model; the files behind them are those the manifest names."""

    path: Path
    manifest: Ranker
    dataset: Dataset
    calibration: Calibration
    booster: Booster
    refreshed: Path | None = None
    """Folder of later users, items, bucket tables and candidates, which stand in for the ranker's own."""

    @property
    def data(self) -> Path:
        """Where what the ranker looks up lies."""
        return self.refreshed or self.path

    def digests(self) -> dict[str, str]:
        """sha256 of each file of what the ranker looks up, by relative path; the ranker's own were checked as it was opened."""
        return self.manifest.files if self.refreshed is None else file_digests(self.refreshed)

    @cached_property
    def users(self) -> pa.Table:
        return pq.read_table(self.data / USERS)

    @cached_property
    def items(self) -> pa.Table:
        return pq.read_table(self.data / ITEMS).sort_by("item")

    @cached_property
    def tables(self) -> FeatureTables:
        return FeatureTables.open(self.data / TABLES)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Texts behind the codes that the model was trained on: those of the ranker's own data, refreshed or not."""
        own = self if self.refreshed is None else replace(self, refreshed=None)
        return vocabulary_of(self.dataset.features, users=own.users, items=own.items, context=own.tables.context_values)


def open_ranker(folder: Path, *, threads: int) -> RankerFolder:
    """Open a ranker after comparing every file with the manifest.

    Raises:
        InputError: If the manifest cannot be read.
        FaultyInputError: If a file is absent, foreign or changed.
    """
    manifest = documents.load(Ranker, folder / MANIFEST)
    _verify(folder, manifest.files)
    booster = Booster.load((folder / MODEL).read_bytes(), threads=threads)
    if booster.n_features != len(manifest.features):
        fault = Fault(
            MODEL, f"{booster.n_features} features", f"the {len(manifest.features)} of {MANIFEST}", "Train it again."
        )
        raise FaultyInputError(str(folder), [fault])
    return RankerFolder(
        path=folder,
        manifest=manifest,
        dataset=documents.load(Dataset, folder / DATASET),
        calibration=documents.load(Calibration, folder / CALIBRATION),
        booster=booster,
    )


def _verify(folder: Path, promised: dict[str, str]) -> None:
    found = file_digests(folder)
    faults = [
        *_named(promised.keys() - found.keys(), "no such file", "the file that the manifest names"),
        *_named(found.keys() - promised.keys(), "a file that the manifest does not name", "only what it names"),
        *(
            Fault(
                name,
                f"sha256 {found[name][:12]}",
                f"{digest[:12]}, as the manifest says",
                "Restore it, or train again.",
            )
            for name, digest in sorted(promised.items())
            if name in found and found[name] != digest
        ),
    ]
    needed = {MODEL, CALIBRATION, DATASET, USERS, ITEMS}
    faults += _named(needed - promised.keys(), "not named in the manifest", "a digest of it")
    if faults:
        raise FaultyInputError(f"ranker {folder}", faults)


def _named(names: Collection[str], found: str, needed: str) -> list[Fault]:
    return [Fault(name, found, needed, "Restore it, or train again.") for name in sorted(names)]
