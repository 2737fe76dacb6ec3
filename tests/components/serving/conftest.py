"""Small rankers to answer with, trained by the rooms upstream."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.artifacts import documents
from components.dataset.build import build_dataset
from components.events.declaration import load_contract
from components.events.shop import generate_shop
from components.events.snapshot import take_snapshot
from components.ranker.contract import Ranker
from components.ranker.scoring import LoadedRanker
from components.ranker.train import train_ranker

Changed = Callable[..., LoadedRanker]


@pytest.fixture(scope="session")
def shop_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of a small generated shop: context `device`, categories, providers, prices."""
    work = tmp_path_factory.mktemp("serving-shop")
    folders = [work / name for name in ("shop", "snapshot", "dataset")]
    for folder in folders:
        folder.mkdir()
    shop, snapshot, dataset = folders
    contract_path = generate_shop(shop, seed=1, scale=0.05)
    contract = load_contract(contract_path)
    take_snapshot(contract, base=contract_path.parent, as_of=contract.as_of, out=snapshot)
    build_dataset(snapshot, out=dataset, seed=0)
    return dataset


@pytest.fixture(scope="session")
def ranker_folder(shop_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("serving-ranker") / "ranker"
    out.mkdir()
    train_ranker(shop_dataset, out=out, seed=0, threads=1)
    return out


@pytest.fixture(scope="session")
def ranker(ranker_folder: Path) -> LoadedRanker:
    return LoadedRanker.open(ranker_folder)


@pytest.fixture(scope="session")
def changed(ranker_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Changed:
    """The same ranker with another manifest, the one file that it does not promise."""

    def open_with(**said: Any) -> LoadedRanker:
        folder = tmp_path_factory.mktemp("changed") / "ranker"
        shutil.copytree(ranker_folder, folder)
        manifest = documents.load(Ranker, folder / "ranker.json")
        documents.save(replace(manifest, **said), folder / "ranker.json")
        return LoadedRanker.open(folder)

    return open_with
