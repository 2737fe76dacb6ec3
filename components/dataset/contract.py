"""What leaves the dataset room: requests x candidates with features, labels, groups and split.

A dataset is a directory:

    dataset.json         this module's `Dataset`
    users.parquet        user: int32 (0..n-1, ascending user_id), user_id: string, then every attribute of role feature,
                         segment or sensitive (null = unknown)
    items.parquet        item: int32 (0..m-1, ascending item_id), item_id: string, then every declared attribute,
                         first_bucket: int64 (bucket in which the item became available or was first seen, whichever is
                         earlier; the log's end where neither is known)
    requests.parquet     request: int32 (0..r-1, ordered by split, ts, user_id), request_id: string, user: int32,
                         ts: timestamp[us, UTC], bucket: int64, split: train | validation | test, cut: int32 (index into
                         `cuts` whose history this request may know), then the context columns (string)
    rows.parquet         request: int32 (ascending), item: int32, position: int16 (0 = not logged), gain: float32,
                         weight: float32, positive: bool (gain > 0), one bool column per outcome event (`is_click`,
                         ...), then one float32 column per feature, by name. `logged`: every shown item of every split.
                         `sampled`: positives and sampled negatives of the training requests only.
    relevance.parquet    `sampled`, validation and test requests: request, item, gain (one row a relevant item,
                         eligible or not), eligible: bool (item could have been shown). Empty table for `logged`.
    history.parquet      outcome events in the order they became known (bucket, ts, user, item, event): user, item: int32,
                         ts: timestamp, bucket: int64 (first bucket that may know it), gain: float32, event: string
    tables/              the bucket tables (`FeatureTables`), memory-mappable; covers the whole snapshot

Buckets are whole periods since the epoch; bucket b starts at b * bucket_seconds. A feature of bucket b is made of events
with ts and ingested_at before that start. Categories are coded by ascending text, -1 unknown; NaN is a missing number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 1

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Feature:
    """One entry of the declarative list: the only source of training, serving, leakage test and documentation."""

    name: str
    entity: Literal["catalogue", "user", "item", "user_category", "user_provider", "user_item", "request"]
    family: Literal[
        "count", "rate", "share", "recency", "tenure", "trend", "covisitation", "attribute", "context", "price"
    ]
    event: str
    """Event name the family looks at; `*` any outcome, `+` a user's first outcome with an item; empty: every event
    (`tenure`), or none."""
    window_days: float
    """Length of the look-back; 0 means since the beginning."""
    type: Literal["number", "category"]
    meaning: str
    """One sentence that a product manager understands."""
    attribute: str = ""


@dataclass(frozen=True, slots=True)
class Cut:
    """A moment up to which history is known: `history_rows` rows of history.parquet, bucket tables up to `bucket`."""

    name: str
    ts: str
    bucket: int
    history_rows: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """The manifest of a dataset. `cuts` ends with the test cut, then `release` (all of the snapshot), which serving uses."""

    schema_version: int
    snapshot: str
    """Digest of the snapshot it was built from."""
    name: str
    mode: Literal["logged", "sampled"]
    bucket_seconds: int
    features: tuple[Feature, ...]
    cuts: tuple[Cut, ...]
    outcomes: tuple[str, ...]
    """Outcome events in ascending gain; row column `is_<event>` says whether it happened."""
    context: tuple[str, ...]
    segments: tuple[str, ...]
    sensitive: tuple[str, ...]
    intersections: tuple[tuple[str, ...], ...]
    category: str
    """Names of the item attributes that play these parts; empty where there is none."""
    provider: str
    price: str
    cutoffs: tuple[int, ...]
    exclude_seen: bool
    users: int
    items: int
    requests: dict[str, int]
    """Requests of each split."""
    rows: dict[str, int]
    positives: dict[str, int]
    seed: int
