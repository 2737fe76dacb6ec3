"""What leaves the events room: a Snapshot, and the dataset contract it was taken under.

A snapshot is a directory:

    snapshot.json        this module's `Snapshot`
    contract.json        the resolved dataset contract (`DatasetContract`, canonical JSON); each `path` holds the names of the
                         files that were read, as in `Snapshot.sources`
    events.parquet       user_id, item_id: string; ts: timestamp[us, UTC]; event: string; request_id: string (null where
                         the log has none); position: int32 (1-based, null where unknown); value: double (null);
                         ingested_at: timestamp[us, UTC] (never null: `ts` where the log has none); then the context
                         columns (string), in the contract's order. Rows in one total order: ts, user_id, item_id, event,
                         request_id, position, value, ingested_at, context.
    users.parquet        user_id: string, unique, ascending; then each declared attribute whose role is not `ignore`
                         (string or double; null = unknown)
    items.parquet        item_id: string, unique, ascending; then each declared attribute whose role is not `ignore`
    quarantine.parquet   table, source, source_row (int64, 0-based), reason, row (JSON text: the team's columns as they were
                         given, each as text or null)

Integer ids are kept as their decimal text; `id_types` says what they were. Users and items that only occur in events get
a row with null attributes, so that a join never loses an event.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

Role = Literal["feature", "segment", "sensitive", "context", "ignore"]
AttributeType = Literal["category", "number"]
Bucket = Literal["hour", "day"]


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class TableSource(_Declared):
    """Where one table lies and what its columns are called there.

    `path` is a file, a glob or a list of them, local (relative to the contract file) or `s3://`; `format` is read off
    the suffix when absent. `columns` maps our name to the team's; a name that is absent is the same in both.

    The events table may carry an optional `reject_reason` (string): a row where it is not null goes to quarantine under
    that reason, before any check of ours, and counts as rejected. An importer that knows why a line is no clean event
    (a cancelled invoice) says so there, so that the line is counted and kept instead of left out.
    """

    path: tuple[str, ...]
    format: Literal["parquet", "csv"] | None = None
    columns: dict[str, str] = Field(default_factory=dict)


class Tables(_Declared):
    events: TableSource
    users: TableSource | None = None
    items: TableSource | None = None


class EventKind(_Declared):
    """What one event name means: an impression, or an outcome worth `gain` (>= 0) to a ranking."""

    role: Literal["impression", "outcome", "ignore"] = "outcome"
    gain: Annotated[float, Field(ge=0)] = 1.0
    per_value: bool = False
    """True where the outcome counts in proportion to `value` (a rating); else each occurrence counts once."""


class Attribute(_Declared):
    role: Role
    type: AttributeType = "category"
    intersect: tuple[str, ...] = ()
    """Other attributes of the same table this one is pre-declared to be crossed with, for fairness."""


class Attributes(_Declared):
    users: dict[str, Attribute] = Field(default_factory=dict)
    items: dict[str, Attribute] = Field(default_factory=dict)
    events: dict[str, Attribute] = Field(default_factory=dict)
    """Columns of the event log; role `context` or `ignore` only."""


class ItemMeaning(_Declared):
    """Which item attribute plays which part; absent where the team has none."""

    category: str | None = None
    provider: str | None = None
    price: str | None = None
    available_from: str | None = None
    """A timestamp column of the items table; an item is eligible from then on."""


class Requests(_Declared):
    """How ranking requests come to be (design.md, "Events").

    `logged`: impressions share a request_id; outcomes of the same user and item within `attribution` of the impression
    are its label. `sampled`: only outcomes are known; at each of `cuts` training times, `horizon` apart, every active
    user asks once and what they take within `horizon` is the label, against `negatives` items a user that were
    available then.
    """

    mode: Literal["logged", "sampled"]
    attribution: timedelta = timedelta(hours=24)
    horizon: timedelta = timedelta(days=14)
    cuts: Annotated[int, Field(ge=1, le=52)] = 3
    negatives: Annotated[int, Field(ge=1, le=1000)] = 100


class Holdout(_Declared):
    """How much of the log's end is held out: a length of time, or a share of the outcome rows in canonical order."""

    days: Annotated[float, Field(gt=0)] | None = None
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None


class SplitRule(_Declared):
    test: Holdout = Holdout(days=7)
    validation: Holdout = Holdout(days=7)
    gap: timedelta = timedelta(0)
    """Kept free between the last training label and the first validation or test request."""


class Evaluation(_Declared):
    cutoffs: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = (5, 10, 20)
    exclude_seen: bool = False
    """Sampled mode: rank only items the user has not taken before, and count only those as relevant."""


class Consent(_Declared):
    """Users whose consent column holds none of `values` leave no row in the snapshot."""

    column: str
    table: Literal["users", "events"] = "users"
    values: tuple[str, ...] = ("true", "yes", "1")


class Tolerance(_Declared):
    rejected_share: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest share of a table's rows that may be quarantined; more stops the run."""


class DatasetContract(_Declared):
    """The team's promise about its own tables (YAML, `rankgate/dataset/v1`)."""

    schema_: Literal["rankgate/dataset/v1"] = Field(alias="schema")
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    owner: str = ""
    description: str = ""
    tables: Tables
    events: dict[str, EventKind]
    attributes: Attributes = Attributes()
    item: ItemMeaning = ItemMeaning()
    requests: Requests
    bucket: Bucket = "hour"
    as_of: AwareDatetime | None = None
    """The moment the log is judged from; the run's start where absent."""
    freshness: timedelta | None = timedelta(days=7)
    retention: timedelta | None = None
    consent: Consent | None = None
    tolerance: Tolerance = Tolerance()
    split: SplitRule = SplitRule()
    evaluation: Evaluation = Evaluation()


@dataclass(frozen=True, slots=True)
class TableCount:
    """Rows of one source table: read = kept + rejected + excluded (consent, retention: lawful, not faulty)."""

    table: str
    read: int
    kept: int
    rejected: dict[str, int]
    excluded: dict[str, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The manifest of a snapshot. `digest` names its content: equal rows give equal digests, whatever their order or files.

    The digest covers the canonical rows of events, users and items and the contract's meaning (not its paths).
    """

    schema_version: int
    digest: str
    name: str
    as_of: str
    """ISO 8601, UTC."""
    first_ts: str
    last_ts: str
    users: int
    items: int
    event_counts: dict[str, int]
    tables: tuple[TableCount, ...]
    id_types: dict[str, Literal["string", "integer"]]
    sources: dict[str, str]
    """sha256 of each source file that was read, by `table: name`. Names say nothing of the machine: they are relative to
    the folder that the table's files share, or s3:// addresses."""
    unjoined: dict[str, int] = field(default_factory=dict)
    """Users and items of the kept events that their table does not name, for each such table that the contract has."""
