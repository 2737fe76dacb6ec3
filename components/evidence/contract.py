"""What leaves the evidence room: one Evidence a question, with the tables that any later question needs.

An evidence directory holds, for each question that was measured in it:

    <question>.json      this module's `Evidence`, canonical JSON
    tables named in `Evidence.tables` (Parquet) and pictures named in `Evidence.reports` (HTML), beside it

Per-user tables have one row a user: user: int32, n_requests: int32, then one column a metric and system
(`ndcg@10:candidate`; null where none of the user's requests had a positive). A user's value is the mean over their
requests; the overall estimate is the mean over users, so that every user counts once and rows are independent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

SCHEMA_VERSION = 1

Question = Literal[
    "data",
    "leakage",
    "proxies",
    "quality",
    "calibration",
    "fairness-users",
    "fairness-providers",
    "drift",
    "servability",
]
QUESTIONS: tuple[Question, ...] = get_args(Question)

Statistic = Literal["value", "difference", "ratio", "change"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One number, on whom, and how sure.

    `value`, `low`, `high` are None where nothing could be measured (an empty group): a gate reads that as missing, never
    as zero. For counts and shares known exactly, low == value == high and method is "exact".
    """

    metric: str
    """Such as `ndcg@10`, `exposure@10`, `distance`, `ece`, `rejected_share`."""
    statistic: Statistic
    """`value` of the subject; `difference` or `ratio` subject against `versus`; `change` of a gap against the incumbent's."""
    subject: str
    """A system (`candidate`), a feature, a provider, a table: what the number is about."""
    versus: str
    """A system (`popularity`, `incumbent`), `rest`, `reference`, `catalogue`, `relevance`; empty for a plain value."""
    segment: dict[str, str]
    """Attribute -> value of the users it was measured on; empty = everyone. Two entries = an intersection."""
    value: float | None
    low: float | None
    high: float | None
    level: float
    """Confidence of [low, high], such as 0.95."""
    n_users: int
    n_requests: int
    method: str
    """How the interval was made, such as `user bootstrap, max-t over 12`."""
    mde: float | None
    """Smallest true effect this n would show with power 0.8 at this level; None where it has no meaning."""
    family: str = ""
    """Estimates whose intervals hold together; empty = stands alone."""
    detail: dict[str, float] = field(default_factory=dict)
    """Further figures that a picture or sentence needs (a threshold, an importance, a share)."""


@dataclass(frozen=True, slots=True)
class Evidence:
    schema_version: int
    question: Question
    estimates: tuple[Estimate, ...]
    conventions: dict[str, str]
    """What the reader must know to read the numbers: empty requests, ties, gains, units, multiplicity."""
    inputs: dict[str, str]
    """Digests of what it was measured on, by name."""
    tables: dict[str, str]
    """File in the same directory, by name."""
    reports: dict[str, str]
    libraries: dict[str, str]
    """Version of each library a number came from."""
    seed: int
    sentences: tuple[str, ...] = ()
    """What was found, in words that a product manager understands; measured facts only, no verdict."""
