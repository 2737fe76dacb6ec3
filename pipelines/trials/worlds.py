"""Worlds that trials are run in, and the honest run (the base) that each seed starts from.

A base is a folder: source/ (tables and contract), snapshot/, dataset/, incumbent/, ranker/, rankings/ and base.json, which
is written last. Candidate and incumbent are two trainings of the same method on the same data that differ by their seed
alone: neither is better, so every `fail` of a base is a false one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from components.artifacts import documents
from components.artifacts.digests import digest_file, digest_json, digest_tree
from components.artifacts.progress import Progress, silent
from components.dataset.build import build_dataset
from components.errors import InputError
from components.events.declaration import load_contract
from components.events.importers.online_retail import import_online_retail
from components.events.shop import generate_shop
from components.events.snapshot import take_snapshot
from components.ranker.ranking import rank
from components.ranker.train import train_ranker

BASE_FILE = "base.json"
PARTS = ("source", "snapshot", "dataset", "incumbent", "ranker", "rankings")


@dataclass(frozen=True, slots=True)
class World:
    """Where the data of a trial comes from, and the policy that judges it."""

    name: str
    size: str
    """How much of it: for a person, and to tell worlds apart."""
    policy: str
    """Folder below policies/."""
    trains_again: bool = True
    """Whether harms that need a training of their own are planted: it is what costs most."""
    deals: bool = False
    """Whether the two rankers' lists are dealt to the two names by a coin, user by user. A training on few data is a lottery
    (early stopping kept 10 trees for one seed and 347 for another of the same half of Online Retail), so that one of
    two trainings may truly be worse: dealt lists are of equal quality whatever the rankers are."""

    @property
    def label(self) -> str:
        return f"{self.name} {self.size}"


@dataclass(frozen=True, slots=True)
class Base:
    """Manifest of a base."""

    world: str
    seed: int
    made_by: str
    """What a small reference run came to (`reference`): a base of code that makes something else is made again."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Folders of one run, honest or with a harm planted in some of them."""

    snapshot: Path
    dataset: Path
    ranker: Path
    rankings: Path


def shop(scale: float) -> World:
    """The generated store at a scale."""
    return World(name="shop", size=f"x{scale:g}", policy="default", trains_again=scale < 1)


def retail() -> World:
    """UCI Online Retail, each seed a random half of its customers."""
    return World(name="online_retail", size="half", policy="retail", deals=True)


def base_of(
    world: World, seed: int, *, made_by: str, work: Path, data: Path | None = None, progress: Progress = silent
) -> Path:
    """The folder of the base for a world and seed, made where it is not there yet.

    Args:
        world: Which data.
        seed: Of everything: the data, the split of customers, both trainings.
        made_by: What `reference` gives.
        work: Where bases are kept.
        data: Folder of the real data sets; the retail world needs it.
        progress: Told what is being done.

    Raises:
        InputError: If the world needs data that is not there.
    """
    place = work / f"{world.name}-{world.size}-{seed}"
    wanted = Base(world=world.label, seed=seed, made_by=made_by)
    if (place / BASE_FILE).exists() and documents.load(Base, place / BASE_FILE) == wanted:
        return place
    shutil.rmtree(place, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=work))
    try:
        for part in PARTS:
            (folder / part).mkdir()
        progress(f"{world.label}, seed {seed}: making the honest run")
        contract = _SOURCES[world.name](world, seed, folder / "source", data)
        honest_run(contract, folder, seed=seed)
        documents.save(wanted, folder / BASE_FILE)
        folder.rename(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return place


def parts_of(base: Path) -> Parts:
    """The parts of an honest run."""
    return Parts(base / "snapshot", base / "dataset", base / "ranker", base / "rankings")


def honest_run(contract: Path, folder: Path, *, seed: int) -> None:
    """Everything from the contract to rankings, into the existing, empty folders of `PARTS` in `folder`."""
    declared = load_contract(contract)
    if declared.as_of is None:
        raise InputError(f"{contract.name}: found no as_of; needed one, or a trial would depend on the clock.")
    take_snapshot(declared, base=contract.parent, as_of=declared.as_of, out=folder / "snapshot")
    build_dataset(folder / "snapshot", out=folder / "dataset", seed=seed)
    train_both(folder, seed=seed)


def train_both(folder: Path, *, seed: int) -> None:
    """Incumbent, candidate and rankings of the dataset in `folder`."""
    dataset = folder / "dataset"
    train_ranker(dataset, out=folder / "incumbent", seed=2 * seed, threads=1)
    train_ranker(dataset, out=folder / "ranker", seed=2 * seed + 1, threads=1)
    rank(
        dataset,
        folder / "ranker",
        incumbent=folder / "incumbent",
        out=folder / "rankings",
        seed=seed,
        threads=1,
    )


def reference(folder: Path) -> str:
    """What the rooms make of the smallest store: a digest of its dataset, model and rankings.

    Code that makes the same of it makes the same bases, however it was rewritten. `folder` is empty, and left full.
    """
    for part in PARTS:
        (folder / part).mkdir()
    honest_run(generate_shop(folder / "source", seed=0, scale=0.05), folder, seed=0)
    made = {name: digest_tree(folder / name) for name in ("dataset", "rankings")}
    return digest_json({**made, "model": digest_file(folder / "ranker" / "model.ubj")})


def _shop_source(world: World, seed: int, out: Path, data: Path | None) -> Path:  # noqa: ARG001  one shape for all
    return generate_shop(out, seed=seed, scale=float(world.size.removeprefix("x")))


def _retail_source(world: World, seed: int, out: Path, data: Path | None) -> Path:  # noqa: ARG001  one shape for all
    raw = data / "online_retail" / "raw.parquet" if data else None
    if raw is None or not raw.is_file():
        raise InputError(
            f"online_retail: found no raw.parquet at {raw or 'any place'}; needed the invoice lines. "
            "Name the folder of the data sets with --data, or leave this world out with --world shop."
        )
    rng = np.random.default_rng(seed)
    lines = pq.read_table(raw)
    users = lines["user_id"].to_pandas()
    known = np.sort(users.dropna().unique())
    chosen = rng.permutation(known)[: len(known) // 2]
    # As many of the lines that name no customer as of those that name one: half of the customers may buy more than half,
    # and the contract tolerates little more rejected lines than the file is known to hold.
    theirs, nobody = users.isin(chosen).to_numpy(), users.isna().to_numpy()
    kept = theirs | (nobody & (rng.random(len(users)) < theirs.sum() / (~nobody).sum()))
    half = out / "half.parquet"
    pq.write_table(lines.filter(kept), half)
    return import_online_retail(half, out=out)


_SOURCES: Mapping[str, Callable[[World, int, Path, Path | None], Path]] = {
    "shop": _shop_source,
    "online_retail": _retail_source,
}
