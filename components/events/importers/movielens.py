"""MovieLens (Harper and Konstan, 2015) as a dataset of ratings: ml-1m and ml-100k give the same tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.events.importers.movielens_files import Movie, MovieLens, Rating, User, read_movielens

LIKED_FROM = 4
"""Stars from which a rating is an outcome: the field's usual convention, stated in the contract."""

CONTRACT = """\
# MovieLens {layout} (Harper and Konstan, 2015; GroupLens' own licence): ratings of movies by volunteers.
schema: rankgate/dataset/v1
name: movielens-{layout}
owner: GroupLens
description: >
  {ratings} ratings of {movies} movies by {users} users. Most people rate everything they ever rate in one sitting, so time
  here is the time of rating, not of watching.

tables:
  events:
    path: [events.parquet]
  users:
    path: [users.parquet]
  items:
    path: [items.parquet]

# Convention: a rating of {liked} or 5 is an outcome, worth its value; a lower one is kept in the log as `low_rating` and is
# neither an outcome nor a reason to leave the movie out.
events:
  rating: {{role: outcome, gain: 1, per_value: true}}
  low_rating: {{role: ignore}}

attributes:
  users:
    gender: {{role: sensitive, intersect: [age]}}
    age: {{role: sensitive}}                # ml-1m's bands, in both layouts
    occupation: {{role: segment}}
  items:
    genre: {{role: feature}}                # the first that the movie is listed under
    year: {{role: feature, type: number}}   # of release
    title: {{role: ignore}}

item:
  category: genre

requests:
  mode: sampled
  horizon: 14d
  cuts: 3
  negatives: 100

bucket: day
as_of: "{as_of}"
freshness: 7d

split:
  test: {{fraction: 0.1}}                   # the last tenth of the outcomes in the order of time, user, item
  validation: {{fraction: 0.1}}

evaluation:
  cutoffs: [5, 10, 20]
  exclude_seen: true
"""


def import_movielens(folder: Path, *, out: Path) -> Path:
    """Write events, users, items and the dataset contract of a MovieLens folder into `out`.

    Args:
        folder: The unpacked data set, in either layout of `movielens_files`.
        out: An existing, empty directory.

    Returns:
        `out / "dataset.yaml"`.

    Raises:
        InputError: If the folder has the files of neither layout.
        FaultyInputError: If a line cannot be read, or two lines claim the same user or movie.
    """
    content = read_movielens(folder)
    pq.write_table(_events(content.ratings), out / "events.parquet")
    pq.write_table(_users(sorted(content.users)), out / "users.parquet")
    pq.write_table(_items(sorted(content.movies)), out / "items.parquet")
    contract = out / "dataset.yaml"
    contract.write_text(_contract(content), encoding="utf-8")
    return contract


def _contract(content: MovieLens) -> str:
    return CONTRACT.format(
        layout=content.layout,
        ratings=len(content.ratings),
        movies=len(content.movies),
        users=len(content.users),
        liked=LIKED_FROM,
        as_of=_midnight_after(max(rating.seconds for rating in content.ratings)),
    )


def _midnight_after(seconds: int) -> str:
    day = datetime.fromtimestamp(seconds, UTC).date() + timedelta(days=1)
    return f"{day.isoformat()}T00:00:00Z"


def _events(ratings: list[Rating]) -> pa.Table:
    stars = pa.array([rating.stars for rating in ratings], pa.int64())
    seconds = pa.array([rating.seconds for rating in ratings], pa.timestamp("s", tz="UTC"))
    return pa.table(
        {
            "user_id": pa.array([rating.user for rating in ratings], pa.int64()),
            "item_id": pa.array([rating.movie for rating in ratings], pa.int64()),
            "ts": seconds.cast(pa.timestamp("us", tz="UTC")),
            "event": pc.if_else(pc.greater_equal(stars, LIKED_FROM), "rating", "low_rating"),
            "value": stars.cast(pa.float64()),
        }
    )


def _users(users: list[User]) -> pa.Table:
    return pa.table(
        {
            "user_id": pa.array([user.user for user in users], pa.int64()),
            "gender": pa.array([user.gender for user in users], pa.string()),
            "age": pa.array([user.age for user in users], pa.string()),
            "occupation": pa.array([user.occupation for user in users], pa.string()),
        }
    )


def _items(movies: list[Movie]) -> pa.Table:
    return pa.table(
        {
            "item_id": pa.array([movie.movie for movie in movies], pa.int64()),
            "title": pa.array([movie.title for movie in movies], pa.string()),
            "genre": pa.array([movie.genre for movie in movies], pa.string()),
            "year": pa.array([movie.year for movie in movies], pa.float64()),
        }
    )
