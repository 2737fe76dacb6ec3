"""Sensitive proxies from files to evidence: planted stand-ins are told, honest features are not, faults are named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.dataset.contract import Dataset, Feature
from components.errors import EvidenceError, InputError
from components.evidence.contract import Estimate, Evidence
from components.evidence.proxies import TABLE, measure_proxies
from components.evidence.proxies_words import NOTHING_DECLARED
from components.ranker.contract import Importance, Ranker, RerankRules

World = Any
USERS = 900
IMPORTANCE = {"user_income": 0.5, "item_age": 0.25, "user_category_share": 0.2, "user_plan": 0.05}
KINDS = {
    "user_income": ("user", "number"),
    "item_age": ("item", "number"),
    "user_category_share": ("user_category", "number"),
    "user_plan": ("user", "category"),
}


@dataclass(frozen=True)
class Run:
    """The three directories."""

    dataset: Path
    ranker: Path
    rankings: Path


def _ranker(place: Path, importance: dict[str, float] = IMPORTANCE) -> None:
    place.mkdir()
    documents.save(
        Ranker(
            1, "0" * 64, "small", "logged", "rank:ndcg", {}, tuple(importance), 1, "ndcg@10", (0.5,),
            tuple(Importance(name, share) for name, share in importance.items()), (), {}, RerankRules(0, 0, 10, False),
            0, 1, 10, 10, {},
        ),
        place / "ranker.json",
    )  # fmt: skip


@pytest.fixture(scope="module")
def honest(write_world: Callable[..., World], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A world in which gender and age have nothing to do with anything."""
    world = write_world(users=USERS, requests_per_user=1, items=60, shown=12, skills={"candidate": 1.0})
    folder = tmp_path_factory.mktemp("proxies")
    run = Run(folder / "dataset", folder / "ranker", folder / "rankings")
    shutil.copytree(world.dataset, run.dataset)
    shutil.copytree(world.rankings, run.rankings)
    _ranker(run.ranker)
    rng = np.random.default_rng(11)
    users = pq.read_table(run.dataset / "users.parquet")
    gender = rng.choice(["female", "male", None, "other"], USERS, p=[0.5, 0.32, 0.16, 0.02])
    users = users.append_column("gender", pa.array(gender.tolist(), pa.string()))
    users = users.append_column("age", pa.array(rng.integers(18, 80, USERS), pa.int32()))
    pq.write_table(users, run.dataset / "users.parquet")
    manifest = documents.load(Dataset, run.dataset / "dataset.json")
    features = tuple(
        Feature(name, entity, "attribute", "", 0.0, kind, "")  # type: ignore[arg-type]
        for name, (entity, kind) in KINDS.items()
    )
    documents.save(replace(manifest, features=features, sensitive=("gender",)), run.dataset / "dataset.json")
    shown = pq.read_table(run.rankings / "rankings.parquet")
    asked = pq.read_table(run.rankings / "requests.parquet")
    user = asked["user"].to_numpy()[shown["request"].to_numpy()]
    split = np.array(asked["split"].to_pylist())[shown["request"].to_numpy()]
    rows = len(user)
    income = rng.standard_normal(USERS)[user]
    income[rng.random(rows) < 0.05] = np.nan
    values = {
        "user_income": income,
        "item_age": rng.standard_normal(60)[shown["item"].to_numpy()],
        "user_category_share": rng.random(rows),
        "user_plan": rng.integers(0, 3, USERS)[user],
    }
    columns = {
        "split": split.tolist(),
        "request": shown["request"],
        "user": pa.array(user, pa.int32()),
        "item": shown["item"],
        **{name: pa.array(held.astype(np.float32)) for name, held in values.items()},
    }
    pq.write_table(pa.table(columns), run.rankings / "features.parquet")
    return run


@pytest.fixture
def copied(honest: Run, tmp_path: Path) -> Run:
    """A copy of the honest run that a test may change."""
    run = Run(tmp_path / "dataset", tmp_path / "ranker", tmp_path / "rankings")
    for source, target in ((honest.dataset, run.dataset), (honest.ranker, run.ranker), (honest.rankings, run.rankings)):
        shutil.copytree(source, target)
    return run


def _measured(run: Run, out: Path, *, seed: int = 3) -> Evidence:
    out.mkdir()
    return measure_proxies(run.dataset, run.ranker, run.rankings, out=out, seed=seed)


@pytest.fixture(scope="module")
def measured(honest: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Path]:
    out = tmp_path_factory.mktemp("measured") / "evidence"
    return _measured(honest, out), out


def _of(evidence: Evidence, metric: str, subject: str = "candidate", value: str = "") -> Estimate:
    (found,) = (
        e
        for e in evidence.estimates
        if (e.metric, e.subject) == (metric, subject) and (not value or e.segment.get("gender") == value)
    )
    return found


def _genders(run: Run) -> np.ndarray:
    return np.array(pq.read_table(run.dataset / "users.parquet")["gender"].to_pylist(), dtype=object)


def _plant(run: Run, name: str, change: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Rewrite a feature: (values, user, item) -> values."""
    path = run.rankings / "features.parquet"
    rows = pq.read_table(path)
    values = change(*(rows[column].to_numpy().copy() for column in (name, "user", "item")))
    place = rows.column_names.index(name)
    pq.write_table(rows.set_column(place, name, pa.array(values.astype(np.float32))), path)


# What is told


def test_honest_features_and_lists_are_ruled_out_as_stand_ins(measured: tuple[Evidence, Path]) -> None:
    evidence, _ = measured
    for estimate in evidence.estimates:
        if estimate.value is None or estimate.metric == "proxied_importance":
            continue
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= 0.5 <= estimate.high
        assert estimate.high < 0.75
    assert _of(evidence, "proxied_importance", "gender").high == 0
    assert "None of 4 features alone is shown to tell gender better than a guess" in " ".join(evidence.sentences)


def test_unknown_is_a_value_and_one_that_few_have_is_there_without_a_figure(measured: tuple[Evidence, Path]) -> None:
    evidence, _ = measured
    by_value = {e.segment["gender"]: e for e in evidence.estimates if e.metric == "inputs_auc"}
    assert list(by_value) == ["female", "male", "other", "unknown"]
    assert by_value["unknown"].value is not None
    other = by_value["other"]
    assert 0 < other.n_users < 30
    assert (other.value, other.low, other.high, other.mde) == (None, None, None, None)
    assert other.method == "not measured: too few users"
    assert sum(e.n_users for e in by_value.values()) == USERS
    assert sum(e.detail["share_of_users"] for e in by_value.values()) == pytest.approx(1)
    assert evidence.sentences[-1].startswith("Too few users to say anything of gender other: fewer than 30")


@pytest.mark.parametrize(("strength", "found"), [(4.0, True), (2.5, True), (0.3, False)])
def test_a_feature_that_stands_in_is_caught_with_what_it_carries(
    copied: Run, tmp_path: Path, strength: float, found: bool
) -> None:
    female = _genders(copied) == "female"
    _plant(copied, "user_income", lambda values, user, _: values + strength * female[user])
    evidence = _measured(copied, tmp_path / "evidence")
    income, together = _of(evidence, "feature_auc", "user_income"), _of(evidence, "inputs_auc", value="female")
    carried = _of(evidence, "proxied_importance", "gender")
    assert None not in (income.low, income.high, together.low, carried.low)
    assert (income.low > 0.75) is found  # type: ignore[operator]
    assert (together.low > 0.8) is found  # type: ignore[operator]
    assert (income.high < 0.75) is not found  # type: ignore[operator]
    assert carried.low == (0.5 if found else 0.0)
    assert (income.versus, income.detail["importance"]) == ("gender", 0.5)
    assert (_of(evidence, "feature_auc", "item_age").high or 1.0) < 0.75
    if found:
        assert "user_income (50.0% of the model) tells most: gender female" in " ".join(evidence.sentences)


def test_the_way_a_feature_is_missing_can_stand_in(copied: Run, tmp_path: Path) -> None:
    male = _genders(copied) == "male"
    _plant(copied, "user_income", lambda values, user, _: np.where(male[user], np.nan, values))
    evidence = _measured(copied, tmp_path / "evidence")
    assert (_of(evidence, "feature_auc", "user_income").low or 0.0) > 0.9


def test_a_code_can_stand_in_for_the_unknown(copied: Run, tmp_path: Path) -> None:
    unknown = _genders(copied) == None  # noqa: E711  element by element
    _plant(copied, "user_plan", lambda values, user, _: np.where(unknown[user], 7, values))
    evidence = _measured(copied, tmp_path / "evidence")
    assert (_of(evidence, "feature_auc", "user_plan").low or 0.0) > 0.9
    assert (_of(evidence, "inputs_auc", value="unknown").low or 0.0) > 0.8


def test_a_taste_for_one_category_is_seen_although_its_mean_over_categories_is_not(copied: Run, tmp_path: Path) -> None:
    """What a shop of garments knows: women and men like different categories, as much of them."""
    female = _genders(copied) == "female"
    items = pq.read_table(copied.dataset / "items.parquet")["category"].to_pylist()
    liked, other = (np.array([text == name for text in items]) for name in ("c1", "c2"))

    def tastes(values: np.ndarray, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        likes = np.where(female[user], liked[item], other[item])
        return np.asarray(values + 3.0 * likes)

    _plant(copied, "user_category_share", tastes)
    evidence = _measured(copied, tmp_path / "evidence")
    assert (_of(evidence, "feature_auc", "user_category_share").low or 0.0) > 0.75


def test_lists_that_differ_by_the_attribute_give_it_away(copied: Run, tmp_path: Path) -> None:
    female = _genders(copied) == "female"
    items = pq.read_table(copied.dataset / "items.parquet")["category"].to_pylist()
    path = copied.rankings / "rankings.parquet"
    rows = pq.read_table(path)
    asked = pq.read_table(copied.rankings / "requests.parquet")["user"].to_numpy()[rows["request"].to_numpy()]
    first = np.array([number for number, text in enumerate(items) if text == "c1"])
    item = rows["item"].to_numpy().copy()
    swapped = female[asked] & (rows["rank"].to_numpy() <= 4)
    item[swapped] = first[np.arange(swapped.sum()) % len(first)]
    pq.write_table(rows.set_column(rows.column_names.index("item"), "item", pa.array(item, pa.int32())), path)
    evidence = _measured(copied, tmp_path / "evidence")
    assert (_of(evidence, "lists_auc", value="female").low or 0.0) > 0.8
    assert (_of(evidence, "lists_macro_auc", "gender").low or 0.0) > 0.55
    assert (_of(evidence, "inputs_auc", value="female").high or 1.0) < 0.75


def test_a_user_with_many_rows_counts_once(copied: Run, tmp_path: Path, measured: tuple[Evidence, Path]) -> None:
    path = copied.rankings / "features.parquet"
    rows = pq.read_table(path)
    pq.write_table(pa.concat_tables([rows, rows.filter(pa.array(rows["user"].to_numpy() < 300))]), path)
    again = _measured(copied, tmp_path / "evidence")
    for before, after in zip(measured[0].estimates, again.estimates, strict=True):
        assert after.value == pytest.approx(before.value, abs=1e-9) or before.value is None
        assert after.n_users == before.n_users


def test_numbers_are_looked_for_in_quarters(copied: Run, tmp_path: Path, changed_manifest: Callable[..., None]) -> None:
    changed_manifest(Dataset, copied.dataset / "dataset.json", sensitive=("gender", "age"))
    evidence = _measured(copied, tmp_path / "evidence")
    ages = [e for e in evidence.estimates if e.metric == "inputs_auc" and "age" in e.segment]
    assert len(ages) == 4
    assert {e.family for e in ages} == {"inputs_auc of age"}
    assert {e.versus for e in evidence.estimates if e.metric == "feature_auc"} == {"gender", "age"}


def test_figures_of_one_attribute_do_not_depend_on_another(
    copied: Run, tmp_path: Path, changed_manifest: Callable[..., None], measured: tuple[Evidence, Path]
) -> None:
    changed_manifest(Dataset, copied.dataset / "dataset.json", sensitive=("age", "gender"))
    both = _measured(copied, tmp_path / "evidence")
    gender = [e for e in both.estimates if "gender" in (*e.segment, e.subject, e.versus)]
    assert gender == list(measured[0].estimates)


# Evidence and table


def test_the_table_holds_every_feature_for_every_value_that_a_hundred_users_have(
    measured: tuple[Evidence, Path],
) -> None:
    evidence, folder = measured
    assert evidence.tables == {"features": TABLE}
    rows = pq.read_table(folder / TABLE).to_pylist()
    assert {row["value"] for row in rows} == {"female", "male", "unknown"}
    assert len(rows) == 3 * len(IMPORTANCE)
    for feature in IMPORTANCE:
        own = [row for row in rows if row["feature"] == feature]
        told = _of(evidence, "feature_auc", feature)
        assert (told.low, told.high) == (max(row["low"] for row in own), max(row["high"] for row in own))
        assert sum(row["best"] for row in own) == 1
        assert all(row["low"] <= row["auc"] <= row["high"] for row in own)


def test_equal_inputs_give_equal_bytes_and_another_seed_others(
    honest: Run, measured: tuple[Evidence, Path], tmp_path: Path
) -> None:
    _measured(honest, tmp_path / "again")
    assert digest_tree(tmp_path / "again") == digest_tree(measured[1])
    _measured(honest, tmp_path / "other", seed=4)
    assert digest_tree(tmp_path / "other") != digest_tree(measured[1])


def test_the_reference_lists_these_metrics(measured: tuple[Evidence, Path], documented: dict[str, set[str]]) -> None:
    assert {estimate.metric for estimate in measured[0].estimates} == documented["proxies"]


def test_every_estimate_is_one_that_a_gate_may_read(measured: tuple[Evidence, Path]) -> None:
    for estimate in measured[0].estimates:
        if estimate.value is None:
            continue
        assert estimate.low is not None
        assert estimate.high is not None
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.level == 0.95
        assert estimate.n_requests == 2 * USERS
        if estimate.metric != "proxied_importance":
            assert estimate.mde is not None
            assert 0 < estimate.mde < 0.5


# Nothing to measure, and faults


def test_without_a_sensitive_attribute_there_is_nothing_to_measure_and_it_says_so(
    copied: Run, tmp_path: Path, changed_manifest: Callable[..., None]
) -> None:
    changed_manifest(Dataset, copied.dataset / "dataset.json", sensitive=())
    evidence = _measured(copied, tmp_path / "evidence")
    assert (evidence.estimates, evidence.tables) == ((), {})
    assert evidence.sentences == (NOTHING_DECLARED,)
    assert [path.name for path in (tmp_path / "evidence").iterdir()] == ["proxies.json"]


def test_an_attribute_whose_values_few_users_have_is_told_without_a_figure(copied: Run, tmp_path: Path) -> None:
    path = copied.dataset / "users.parquet"
    users = pq.read_table(path)
    rare = pa.array([f"g{row // 20}" for row in range(USERS)], pa.string())
    pq.write_table(users.set_column(users.column_names.index("gender"), "gender", rare), path)
    evidence = _measured(copied, tmp_path / "evidence")
    assert all(estimate.value is None for estimate in evidence.estimates)
    assert {e.metric for e in evidence.estimates} >= {"inputs_auc", "feature_auc", "inputs_macro_auc"}
    assert pq.read_table(tmp_path / "evidence" / TABLE).num_rows == 0
    assert evidence.sentences[0].startswith("Too few users to say anything of gender g0, g1")


def test_a_feature_that_the_dataset_does_not_know_is_named(copied: Run, tmp_path: Path) -> None:
    shutil.rmtree(copied.ranker)
    _ranker(copied.ranker, {"user_shoe_size": 1.0})
    with pytest.raises(EvidenceError, match="found no feature called user_shoe_size, which the ranker takes"):
        _measured(copied, tmp_path / "evidence")


@pytest.mark.parametrize(
    ("table", "column"), [("features", "user_income"), ("features", "item"), ("users", "gender"), ("items", "category")]
)
def test_a_table_without_a_column_is_named(copied: Run, tmp_path: Path, table: str, column: str) -> None:
    path = (copied.rankings if table == "features" else copied.dataset) / f"{table}.parquet"
    pq.write_table(pq.read_table(path).drop_columns([column]), path)
    with pytest.raises(InputError, match=f"{table}.parquet: found columns .* needed also {column}"):
        _measured(copied, tmp_path / "evidence")


def test_rows_that_are_not_there_are_named(copied: Run, tmp_path: Path) -> None:
    path = copied.rankings / "features.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(EvidenceError, match=r"features.parquet: found no rows; needed those of validation and test"):
        _measured(copied, tmp_path / "evidence")


def test_a_file_that_is_no_table_is_named(copied: Run, tmp_path: Path) -> None:
    (copied.rankings / "features.parquet").write_text("broken")
    with pytest.raises(EvidenceError, match=r"features.parquet: cannot be read as Parquet"):
        _measured(copied, tmp_path / "evidence")
