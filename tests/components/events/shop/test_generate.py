"""What the generated shop promises, measured on its files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from components.artifacts.digests import digest_tree
from components.errors import InputError
from components.events.declaration import load_contract
from components.events.shop import generate_shop

AS_OF = pd.Timestamp("2026-05-10", tz="UTC")
START = pd.Timestamp("2026-03-01", tz="UTC")
KNOWN = {"impression", "click", "add_to_cart", "purchase"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shop")
    generate_shop(out, seed=3, scale=0.3)
    return out


@pytest.fixture(scope="module")
def log(shop: Path) -> pd.DataFrame:
    """Every row as written, dirt included."""
    return pq.read_table(shop / "events").to_pandas()


@pytest.fixture(scope="module")
def clean(log: pd.DataFrame) -> pd.DataFrame:
    rows = log.dropna(subset=["user_id", "item_id", "ts"])
    rows = rows[rows.event.isin(KNOWN) & (rows.ts < AS_OF) & ~(rows.position < 0)].drop_duplicates()
    return rows.assign(item_id=rows.item_id.astype(int), day=(rows.ts - START) // pd.Timedelta(days=1))


@pytest.fixture(scope="module")
def users(shop: Path) -> pd.DataFrame:
    return pq.read_table(shop / "users.parquet").to_pandas()


@pytest.fixture(scope="module")
def items(shop: Path) -> pd.DataFrame:
    return pq.read_table(shop / "items.parquet").to_pandas()


@pytest.fixture(scope="module")
def shown(clean: pd.DataFrame) -> pd.DataFrame:
    """Impressions, with whether they were clicked."""
    clicks = clean[clean.event == "click"].dropna(subset=["request_id"])
    keys = ["request_id", "user_id", "item_id"]
    shown = clean[clean.event == "impression"].merge(clicks[keys].assign(clicked=True), on=keys, how="left")
    return shown.assign(clicked=shown.clicked.notna())


def _bots(shown: pd.DataFrame) -> set[str]:
    views = shown.groupby("user_id").size()
    return set(views[views > 40 * 12 * 0.9].index)


def test_same_seed_and_scale_give_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        generate_shop(tmp_path / name, seed=seed, scale=0.05)
        digests.append(digest_tree(tmp_path / name))
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("scale", [0.01, 0.05])
def test_a_small_shop_still_has_everything(tmp_path: Path, scale: float) -> None:
    generate_shop(tmp_path, seed=5, scale=scale)
    log = pq.read_table(tmp_path / "events").to_pandas()
    assert set(log.event) == KNOWN | {"product_view"}
    assert log.ts.max() > AS_OF
    assert log[["user_id", "item_id", "ts"]].isna().any().all()


@pytest.mark.parametrize("arguments", [{"seed": 1, "scale": 0.0}, {"seed": 1, "scale": float("nan")}, {"seed": -1}])
def test_seed_or_scale_out_of_range_is_refused_before_anything_is_written(tmp_path: Path, arguments: dict) -> None:
    with pytest.raises(InputError, match="needed"):
        generate_shop(tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_contract_is_valid_and_judges_the_log_from_its_end(shop: Path) -> None:
    contract = load_contract(shop / "dataset.yaml")
    assert contract.requests.mode == "logged"
    assert contract.requests.attribution == timedelta(days=1)
    assert contract.as_of == datetime(2026, 5, 10, tzinfo=UTC)
    assert {name for name, kind in contract.events.items() if kind.role == "impression"} == {"impression"}


def test_requests_show_twelve_items_once_each_by_position_at_one_moment(shown: pd.DataFrame) -> None:
    requests = shown.groupby("request_id")
    assert (requests.size() == 12).mean() > 0.999
    assert not shown.duplicated(["request_id", "item_id"]).any()
    assert (requests.position.max() == 12).all()
    assert (requests[["ts", "user_id", "device"]].nunique() == 1).all().all()


def test_outcomes_carry_the_request_of_their_impression_and_follow_it(clean: pd.DataFrame) -> None:
    keys = ["request_id", "user_id", "item_id"]
    outcomes = clean[clean.event != "impression"]
    asked = outcomes.dropna(subset=["request_id"])
    joined = asked.merge(clean.loc[clean.event == "impression", [*keys, "ts"]], on=keys, suffixes=("", "_shown"))
    assert len(joined) > 0.999 * len(asked)
    assert (joined.ts > joined.ts_shown).all()
    searched = outcomes.request_id.isna().mean()
    assert 0.005 < searched < 0.10
    assert outcomes.position.isna().all()


def test_impressions_become_clicks_carts_and_purchases_in_that_order_of_frequency(clean: pd.DataFrame) -> None:
    counts = clean.event.value_counts()
    assert 0.07 < counts["click"] / counts["impression"] < 0.15
    assert 0.1 < counts["add_to_cart"] / counts["click"] < 0.5
    assert 0.2 < counts["purchase"] / counts["add_to_cart"] < 0.7
    assert clean.loc[clean.event == "purchase", "value"].gt(0).all()


def test_weekends_and_evenings_are_busier(shown: pd.DataFrame) -> None:
    asked = shown[~shown.user_id.isin(_bots(shown))].drop_duplicates("request_id")
    daily = asked.groupby("day").size()
    weekend = daily.index.to_numpy() % 7
    weekend = (weekend == 0) | (weekend == 6)
    assert 1.3 < daily[weekend].mean() / daily[~weekend].mean() < 1.75
    hourly = asked.ts.dt.hour.value_counts()
    assert hourly[20] > 5 * hourly[3]
    assert (
        asked[weekend[asked.day]].device.eq("mobile").mean()
        > asked[~weekend[asked.day]].device.eq("mobile").mean() + 0.08
    )


def test_position_biases_clicks_where_lists_were_random(shown: pd.DataFrame) -> None:
    people = shown[~shown.user_id.isin(_bots(shown)) & (shown.policy == "explore")]
    by_position = people.groupby("position").clicked.mean()
    assert by_position[1] > 1.3 * by_position[4] > 1.3 * 1.2 * by_position[12]
    last = people[people.position >= 9].groupby("device").clicked.mean()
    assert last["desktop"] > last["mobile"]


def test_a_fifth_of_the_requests_explores(shown: pd.DataFrame) -> None:
    explored = shown[shown.policy == "explore"]
    assert abs(explored.request_id.nunique() / shown.request_id.nunique() - 0.20) < 0.02
    ranked = shown[shown.policy == "ranked"]
    # At random, every item is shown about equally often; the old ranker has favourites.
    old = set(shown.loc[shown.day < 3, "item_id"])
    spread = [part[part.item_id.isin(old) & (part.day > 20)].item_id.value_counts() for part in (explored, ranked)]
    assert spread[0].std() / spread[0].mean() < 0.5 * spread[1].std() / spread[1].mean()


def test_past_clicks_by_category_tell_later_clicks(shown: pd.DataFrame, items: pd.DataFrame) -> None:
    people = shown[~shown.user_id.isin(_bots(shown))].merge(items[["item_id", "category"]], on="item_id")
    past = people[people.day < 56]
    rate = past.groupby(["user_id", "category"]).clicked.agg(["sum", "size"])
    own = ((rate["sum"] + 0.6) / (rate["size"] + 5)).rename("own").reset_index()
    later = people[(people.day >= 56) & (people.policy == "explore")].merge(own, on=["user_id", "category"])
    high = later.own > later.own.quantile(0.75)
    assert later[high].clicked.mean() > 2.0 * later[~high].clicked.mean()


def test_items_providers_and_prices_matter(shown: pd.DataFrame, items: pd.DataFrame) -> None:
    explored = shown[shown.policy == "explore"].merge(items, on="item_id")
    halves = [explored[explored.day < 35], explored[explored.day >= 35]]
    rates = [half.groupby("provider").clicked.mean() for half in halves]
    assert np.corrcoef(*pd.concat(rates, axis=1).dropna().to_numpy().T)[0, 1] > 0.3
    assert items.provider.nunique() == 25
    sizes = items.provider.value_counts()
    assert sizes.iloc[0] > 4 * sizes.iloc[-1]
    assert items.category.nunique() == 12


def test_new_items_are_launched_and_never_shown_before(shown: pd.DataFrame, items: pd.DataFrame) -> None:
    launch_day = (items.launched_at - START) / pd.Timedelta(days=1)
    assert 0.7 < (launch_day < 0).mean() < 0.9
    assert ((launch_day > 30) & (launch_day < 31)).mean() > 0.04
    assert ((launch_day > 51) & (launch_day < 52)).mean() > 0.03
    seen = shown.merge(items, on="item_id")
    assert (seen.ts >= seen.launched_at).all()
    fresh = seen[(seen.day >= 56) & (seen.launched_at > START + pd.Timedelta(days=51))]
    assert len(fresh) > 100


def test_segments_are_uneven_and_one_country_is_small(users: pd.DataFrame) -> None:
    countries = users.country.value_counts(normalize=True)
    assert len(countries) == 5
    assert 0.015 < countries["LU"] < 0.05 < 0.30 < countries["DE"]
    assert 0.05 < users.gender.eq("unknown").mean() < 0.13
    assert 0.02 < users.age_band.isna().mean() < 0.07
    assert set(users.plan) == {"free", "plus"}
    assert users.tenure_days.ge(0).all()
    assert 0.03 < users.tenure_days.eq(0).mean() < 0.25


@pytest.mark.parametrize("attribute", ["country", "gender", "age_band"])
def test_no_group_is_served_worse_by_nature(shown: pd.DataFrame, users: pd.DataFrame, attribute: str) -> None:
    people = shown[~shown.user_id.isin(_bots(shown))].merge(users, on="user_id")
    rates = people.groupby(["user_id", attribute]).clicked.mean().groupby(attribute)
    everyone = people.groupby("user_id").clicked.mean().mean()
    z = (rates.mean() - everyone) / (rates.std() / np.sqrt(rates.size()))
    assert z.abs().max() < 3.5


def test_plus_members_pay_for_more_of_their_carts(clean: pd.DataFrame, users: pd.DataFrame) -> None:
    counts = clean.merge(users, on="user_id").groupby(["plan", "event"]).size().unstack()
    paid = counts["purchase"] / counts["add_to_cart"]
    assert paid["plus"] > paid["free"] + 0.04


def test_bots_look_at_hundreds_of_items_and_buy_none(shown: pd.DataFrame, clean: pd.DataFrame) -> None:
    bots = _bots(shown) - set(clean.loc[clean.event == "purchase", "user_id"])
    assert bots
    rows = shown[shown.user_id.isin(bots)]
    assert rows.clicked.mean() < 0.10
    by_half = rows.groupby(rows.position > 6).clicked.mean()
    assert abs(by_half[True] - by_half[False]) < 0.03


def test_some_users_refuse_consent_and_some_are_only_in_the_log(clean: pd.DataFrame, users: pd.DataFrame) -> None:
    assert 0.01 < users.consent.eq("refused").mean() < 0.06
    assert set(users.consent) == {"granted", "refused"}
    strangers = set(clean.user_id) - set(users.user_id)
    assert 0.005 < len(strangers) / clean.user_id.nunique() < 0.05


def test_some_items_are_no_longer_in_the_items_table(clean: pd.DataFrame, items: pd.DataFrame) -> None:
    delisted = set(clean.item_id) - set(items.item_id)
    assert 0.003 < len(delisted) / clean.item_id.nunique() < 0.04


def test_about_two_in_a_hundred_rows_arrive_hours_late_and_none_after_the_end(
    log: pd.DataFrame, clean: pd.DataFrame
) -> None:
    late = (clean.ingested_at - clean.ts) > pd.Timedelta(hours=1)
    assert 0.01 < late.mean() < 0.03
    assert (clean.ingested_at > clean.ts).all()
    assert AS_OF - pd.Timedelta(hours=1) < log.ingested_at.max() < AS_OF


def test_dirt_is_of_every_kind_and_far_below_the_tolerance(shop: Path, log: pd.DataFrame, clean: pd.DataFrame) -> None:
    kinds = {
        "no user": log.user_id.isna(),
        "no item": log.item_id.isna(),
        "no time": log.ts.isna(),
        "unknown event": ~log.event.isin(KNOWN),
        "from the future": log.ts > AS_OF,
        "negative position": log.position < 0,
        "sent twice": log.duplicated(),
    }
    counts = {kind: int(rows.sum()) for kind, rows in kinds.items()}
    assert len(set(counts.values())) == 1, counts
    share = 1 - len(clean) / len(log)
    assert 0.004 < share < 0.006
    tolerance = yaml.safe_load((shop / "dataset.yaml").read_text())["tolerance"]["rejected_share"]
    assert share < tolerance / 2


def test_log_is_split_by_week_of_arrival_not_of_the_event(shop: Path) -> None:
    files = sorted((shop / "events").iterdir())
    assert len(files) == 10
    straddling = 0
    for number, path in enumerate(files):
        rows = pq.read_table(path, columns=["ts", "ingested_at"]).to_pandas()
        opens = START + pd.Timedelta(weeks=number)
        assert rows.ingested_at.between(opens, opens + pd.Timedelta(weeks=1), inclusive="left").all()
        straddling += int((rows.ts < opens).sum())
    assert straddling


def test_ids_are_text_for_users_and_integers_for_items(shop: Path, users: pd.DataFrame, items: pd.DataFrame) -> None:
    assert users.user_id.str.fullmatch(r"u\d{5}").all()
    assert items.item_id.dtype == np.int64
    assert pq.read_schema(shop / "events" / "week-01.parquet").field("item_id").type == "int64"
