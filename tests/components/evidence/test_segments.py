from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from components.errors import EvidenceError
from components.evidence.segments import user_groups

USERS = pa.table(
    {
        "user": pa.array(range(8), pa.int32()),
        "country": ["DE", "FR", None, "DE", "FR", "DE", "DE", None],
        "plan": pa.array(["free", "paid", "free", None, "free", "paid", "paid", None]).dictionary_encode(),
        "age": [20.0, 30.0, math.nan, 40.0, None, 20.0, 30.0, 40.0],
    }
)


def found(**options: object) -> dict[str, list[int]]:
    groups = user_groups(USERS, np.arange(8), **options)  # type: ignore[arg-type]
    return {", ".join(f"{k}={v}" for k, v in g.segment.items()): np.flatnonzero(g.members).tolist() for g in groups}


def test_every_value_is_a_group_and_the_unknown_come_last() -> None:
    assert found(attributes=["country"]) == {
        "country=DE": [0, 3, 5, 6],
        "country=FR": [1, 4],
        "country=unknown": [2, 7],
    }
    assert list(found(attributes=["plan"])) == ["plan=free", "plan=paid", "plan=unknown"]


def test_few_numbers_are_values_and_a_missing_one_is_unknown() -> None:
    assert found(attributes=["age"]) == {
        "age=20": [0, 5],
        "age=30": [1, 6],
        "age=40": [3, 7],
        "age=unknown": [2, 4],
    }


def test_many_numbers_are_cut_into_quarters_of_the_users() -> None:
    users = pa.table({"age": pa.array(np.arange(100.0))})
    groups = user_groups(users, np.arange(100), attributes=["age"])
    assert [int(group.members.sum()) for group in groups] == [25, 25, 25, 25]
    assert sum(group.members.astype(int) for group in groups).tolist() == [1] * 100  # type: ignore[union-attr]
    assert {group.segment["age"] for group in groups} == {
        "below 24.75",
        "24.75 to 49.5",
        "49.5 to 74.25",
        "74.25 or more",
    }


def test_intersections_hold_only_what_occurs() -> None:
    crossed = found(attributes=[], intersections=[("country", "plan")])
    assert crossed == {
        "country=DE, plan=free": [0],
        "country=DE, plan=paid": [5, 6],
        "country=DE, plan=unknown": [3],
        "country=FR, plan=free": [4],
        "country=FR, plan=paid": [1],
        "country=unknown, plan=free": [2],
        "country=unknown, plan=unknown": [7],
    }


def test_only_the_wanted_users_are_grouped_in_their_order() -> None:
    groups = user_groups(USERS, np.array([4, 0]), attributes=["country"])
    assert [(g.segment["country"], g.members.tolist()) for g in groups] == [
        ("DE", [False, True]),
        ("FR", [True, False]),
    ]


def test_a_declared_attribute_that_the_table_lacks_is_refused() -> None:
    with pytest.raises(EvidenceError, match="needed also shoe_size"):
        found(attributes=["country"], intersections=[("country", "shoe_size")])
