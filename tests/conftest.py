"""Fixtures that more than one room's tests need."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from .seaweedfs import no_account, owner_account, storage  # noqa: F401  fixtures of whoever needs an object storage

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout the tests run in."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("RANKGATE_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "online_retail" / "raw.parquet").is_file():
        pytest.skip(f"real data is not at {folder}: set RANKGATE_SHARED_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def small_ranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a ranker trained on a small generated shop: context `device`, categories, providers, prices."""
    # Imported here: most tests need none of it.
    from components.dataset.build import build_dataset
    from components.events.declaration import load_contract
    from components.events.shop import generate_shop
    from components.events.snapshot import take_snapshot
    from components.ranker.train import train_ranker

    work = tmp_path_factory.mktemp("small-ranker")
    folders = [work / name for name in ("shop", "snapshot", "dataset", "ranker")]
    for folder in folders:
        folder.mkdir()
    shop, snapshot, dataset, ranker = folders
    contract_path = generate_shop(shop, seed=1, scale=0.05)
    contract = load_contract(contract_path)
    take_snapshot(contract, base=contract_path.parent, as_of=contract.as_of, out=snapshot)
    build_dataset(snapshot, out=dataset, seed=0)
    train_ranker(dataset, out=ranker, seed=0, threads=1)
    return ranker


@pytest.fixture(scope="session")
def changed_ranker(small_ranker: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The same ranker with another manifest, the one file that it does not promise."""
    from components.artifacts import documents
    from components.ranker.contract import Ranker

    def changed(**said: Any) -> Path:
        folder = tmp_path_factory.mktemp("changed") / "ranker"
        copytree(small_ranker, folder)
        manifest = documents.load(Ranker, folder / "ranker.json")
        documents.save(replace(manifest, **said), folder / "ranker.json")
        return folder

    return changed
