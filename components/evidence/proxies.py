"""Sensitive proxies: how well the model's features, and the lists that it shows, give away a sensitive attribute.

A sensitive attribute is never a feature. That alone proves little: an income can stand in for an age. So one row a user is
made of what the model is given (`proxies_profiles`), the attribute is looked for in it (`proxies_learning`,
`proxies_power`), and each AUC gets an interval by user (`proxies_auc`). Which power is too much, a policy decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy
import sklearn
from numpy.typing import NDArray

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.artifacts.progress import Progress, silent
from components.dataset.contract import Dataset
from components.errors import EvidenceError
from components.evidence.contract import SCHEMA_VERSION, Estimate, Evidence
from components.evidence.proxies_figures import (
    INPUTS,
    LISTS,
    Attribute,
    Found,
    attribute_estimates,
    features_table,
    told_best,
)
from components.evidence.proxies_power import power_by_feature, power_together
from components.evidence.proxies_profiles import Profiles, Rows, input_profiles, list_profiles
from components.evidence.proxies_words import CONVENTIONS, NOTHING_DECLARED, describe
from components.evidence.ranked import Ranked, open_rankings, read_columns
from components.evidence.segments import user_groups
from components.ranker.contract import CANDIDATE, Ranker

__all__ = ["TABLE", "measure_proxies"]

Ints = NDArray[np.int64]

TABLE = "proxies-features.parquet"
_MOST_USERS = 20_000
"""A sample of users beyond that: an AUC is then known to about 0.01 even for a value that one user in twenty has."""


def measure_proxies(
    dataset: Path, ranker: Path, rankings: Path, *, out: Path, seed: int, progress: Progress = silent
) -> Evidence:
    """Measure how well each sensitive attribute is told, and write proxies.json and its table into `out`.

    Without a declared attribute there is nothing to measure: the evidence then has no estimates and says so. A value that
    too few users have is there without a figure, which a gate reads as missing.

    Args:
        dataset: Dataset directory.
        ranker: Ranker directory, for the features and their importance.
        rankings: Rankings directory.
        out: Existing directory that lacks these files.
        seed: Of blocks, multipliers and the sample of users.
        progress: Told which attribute is being looked for.

    Raises:
        InputError: If a manifest or table cannot be read or does not hold what its contract says.
    """
    ranked = open_rankings(dataset, rankings)
    trained = documents.load(Ranker, ranker / "ranker.json")
    found: list[Found] = []
    estimates: list[Estimate] = []
    sentences = [] if ranked.dataset.sensitive else [NOTHING_DECLARED]
    tables: dict[str, str] = {}
    importance = {held.feature: held.gain_share for held in trained.importance}
    if ranked.dataset.sensitive:
        users, inputs, lists, requests = _profiles(dataset, rankings, ranked, trained, seed=seed)
        for attribute in _attributes(dataset / "users.parquet", ranked.dataset, users):
            progress(f"stand-ins for {attribute.name}")
            held = _look_for(attribute, inputs, lists, seed=seed)
            own = list(attribute_estimates(held, inputs.features, importance, requests))
            told = told_best(held, inputs.features)
            found.append(held)
            estimates += own
            sentences += describe(attribute.name, own, told)
        pq.write_table(features_table(found, inputs.features, importance), out / TABLE, compression="zstd")
        tables = {"features": TABLE}
    evidence = Evidence(
        schema_version=SCHEMA_VERSION,
        question="proxies",
        estimates=tuple(estimates),
        conventions=CONVENTIONS,
        inputs={"dataset": ranked.manifest.dataset, "ranker": digest_tree(ranker), "rankings": digest_tree(rankings)},
        tables=tables,
        reports={},
        libraries={"numpy": np.__version__, "scikit-learn": sklearn.__version__, "scipy": scipy.__version__},
        seed=seed,
        sentences=tuple(sentences),
    )
    documents.save(evidence, out / "proxies.json")
    return evidence


def _look_for(attribute: Attribute, inputs: Profiles, lists: Profiles, *, seed: int) -> Found:
    return Found(
        attribute,
        {
            INPUTS: power_together(inputs.columns, attribute.labels, seed=seed),
            LISTS: power_together(lists.columns, attribute.labels, seed=seed),
        },
        power_by_feature(inputs.columns, inputs.owners, attribute.labels, features=len(inputs.features), seed=seed),
    )


def _profiles(
    dataset: Path, rankings: Path, ranked: Ranked, trained: Ranker, *, seed: int
) -> tuple[Ints, Profiles, Profiles, int]:
    """Users, their columns of what the model is given and of what it shows, and how many requests those come from."""
    known = {feature.name: feature for feature in ranked.dataset.features}
    if missing := [name for name in trained.features if name not in known]:
        raise EvidenceError(
            f"dataset.json: found no feature called {', '.join(missing)}, which the ranker takes. "
            "Train on this dataset, or measure on the dataset that it was trained on."
        )
    features = tuple(known[name] for name in trained.features)
    rows = read_columns(rankings / "features.parquet", ("user", "request", "item", *trained.features))
    owner = rows["user"].to_numpy().astype(np.int64)
    users = _sampled(np.unique(owner), seed=seed)
    if not users.size:
        raise EvidenceError("features.parquet: found no rows; needed those of validation and test. Rank again.")
    kept = np.isin(owner, users)
    rows = rows.filter(pa.array(kept))
    codes = _item_codes(dataset / "items.parquet", ranked.dataset)
    item = rows["item"].to_numpy().astype(np.int64)
    given = Rows(
        np.searchsorted(users, owner[kept]), users.size, {entity: code[item] for entity, code in codes.items()}
    )
    inputs = input_profiles(given, rows, features)
    requests = int(np.unique(rows["request"].to_numpy()).size)
    return users, inputs, _shown(ranked, users, codes), requests


def _shown(ranked: Ranked, users: Ints, codes: dict[str, Ints]) -> Profiles:
    """Columns of the first k places that the candidate fills for each user."""
    owners, items, scores, ranks = [], [], [], []
    for split in ("validation", "test"):
        requests = ranked.requests(split)
        rows = ranked.rows(CANDIDATE, requests)
        owner = requests.user[rows.place].astype(np.int64)
        kept = (rows.rank <= ranked.main_cutoff) & np.isin(owner, users)
        owners.append(np.searchsorted(users, owner[kept]))
        items.append(rows.item[kept].astype(np.int64))
        scores.append(rows.score[kept].astype(np.float64))
        ranks.append(rows.rank[kept].astype(np.float64))
    item = np.concatenate(items)
    names = {"user_category": ranked.dataset.category, "user_provider": ranked.dataset.provider}
    shown = Rows(np.concatenate(owners), users.size, {names[entity]: code[item] for entity, code in codes.items()})
    return list_profiles(shown, score=np.concatenate(scores), weight=1 / np.log2(1 + np.concatenate(ranks)))


def _item_codes(items: Path, built: Dataset) -> dict[str, Ints]:
    """Code of each item's category and provider, by the entity that a feature shares with a user; -1 = unknown."""
    wanted = {"user_category": built.category, "user_provider": built.provider}
    wanted = {entity: column for entity, column in wanted.items() if column}
    table = read_columns(items, ("item", *wanted.values()))
    order = np.argsort(table["item"].to_numpy(), kind="stable")
    found = {}
    for entity, column in wanted.items():
        texts = table[column].cast(pa.string()).to_pylist()
        known = {text: code for code, text in enumerate(sorted({text for text in texts if text is not None}))}
        found[entity] = np.array([-1 if text is None else known[text] for text in texts], dtype=np.int64)[order]
    return found


def _sampled(users: Ints, *, seed: int) -> Ints:
    if users.size <= _MOST_USERS:
        return users
    return np.sort(np.random.default_rng(seed).choice(users, _MOST_USERS, replace=False))


def _attributes(table: Path, built: Dataset, users: Ints) -> Iterator[Attribute]:
    everyone = read_columns(table, ("user", *built.sensitive)).sort_by("user")
    for name in built.sensitive:
        groups = user_groups(everyone, users, attributes=(name,))
        labels = np.zeros(users.size, dtype=np.int64)
        for code, group in enumerate(groups):
            labels[group.members] = code
        yield Attribute(name, tuple(group.segment[name] for group in groups), labels)
