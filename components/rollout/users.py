"""Who was shown lists on which arm, and what they did: for the check of the split and for outcomes, out of the exposure log.

    lists that arms have shown -> new users of a step, by arm
    lists + what users did     -> Contrast, user by user

Held in a DuckDB database that lives as long as the process: a controller that begins anew reads the logs again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from components.errors import InputError
from components.rollout.contract import CANARY
from components.serving.exposure_files import Shown
from components.statistics.sequential_users import Contrast, contrast

_BLOCK = 10_000


class UserLedger:
    """Lists by user, arm and step."""

    def __init__(self) -> None:
        self._database = duckdb.connect(":memory:", config={"memory_limit": "1GB", "threads": 1})
        self._database.execute(
            "create table lists (request_id varchar, person varchar, arm varchar, step integer, shown_at varchar)"
        )
        self._database.execute(
            "create table seen (person varchar, step integer, arm varchar, shown_at varchar, primary key (person, step))"
        )

    def add(self, lists: Iterable[Shown], *, steps: Mapping[int, str], counted_from: str = "") -> dict[str, int]:
        """Take in what was shown.

        Args:
            lists: In any order.
            steps: When each step began, ISO 8601 as exposures have it; what was shown before the first belongs to none.
            counted_from: Likewise: users who came before it are known, and were counted by somebody else.

        Returns:
            By arm, users whose first request of the latest step is among them; requests without a user count as one each.
        """
        found: dict[str, int] = {}
        block: list[tuple[str, str, str, int, str]] = []
        latest = max(steps, default=-1)
        for shown in lists:
            step = max((number for number, began in steps.items() if shown.at >= began), default=-1)
            if step < 0:
                continue
            person = f"u:{shown.user_id}" if shown.user_id is not None else f"r:{shown.request_id}"
            block.append((shown.request_id, person, shown.arm, step, shown.at))
            if len(block) == _BLOCK:
                _count(found, self._take(block, latest, counted_from))
                block = []
        if block:
            _count(found, self._take(block, latest, counted_from))
        return found

    def _take(self, block: list[tuple[str, str, str, int, str]], latest: int, counted_from: str) -> dict[str, int]:
        columns = ("request_id", "person", "arm", "step", "shown_at")
        table = pa.table(dict(zip(columns, map(list, zip(*block, strict=True)), strict=True)))
        self._database.register("arrived", table)
        self._database.execute("create or replace temp table block as from arrived")
        self._database.unregister("arrived")
        self._database.execute("insert into lists from block")
        news = self._database.execute(
            """
            insert into seen
            select person, step, arg_min(arm, shown_at), min(shown_at)
            from block anti join seen using (person, step) group by person, step
            returning step, arm, shown_at
            """
        ).fetchall()
        found: dict[str, int] = {}
        for step, arm, at in news:
            if step == latest and at >= counted_from:
                found[arm] = found.get(arm, 0) + 1
        return found

    def outcomes(self, events: Path, measure: str, *, other: str) -> Contrast:
        """What users did, of the canary against another arm.

        Args:
            events: Parquet or CSV files, or a folder of them, with `request_id` and `event`: one row each time that somebody did
                something with a list.
            measure: Which events count: for `clicks` those called `clicks` or `click`.
            other: The arm to compare with.

        Raises:
            InputError: If they cannot be read.
        """
        source = _source(events)
        told: dict[str, Any] = {"canary": CANARY, "other": other}
        if source is None:
            done = "select null::varchar as request_id, 0 as times where false"
        else:
            told |= {"measure": measure, "one": measure.removesuffix("s")}
            done = (
                f"select request_id::varchar as request_id, count(*) as times from {source} "  # noqa: S608
                "where event in ($measure, $one) group by 1"
            )
        statement = f"""
            with done as ({done})
            select dense_rank() over (order by person) - 1, step, arm = $canary, count(*)::double, coalesce(sum(times), 0)::double
            from lists left join done using (request_id) where arm in ($canary, $other)
            group by person, step, arm
        """  # noqa: S608
        try:
            table = self._database.execute(statement, told).fetchnumpy()
        except duckdb.Error as error:
            raise InputError(
                f"{events}: cannot be read as events ({error}); needed columns request_id and event."
            ) from error
        return contrast(*list(table.values()))


def _count(sums: dict[str, int], more: Mapping[str, int]) -> None:
    for arm, count in more.items():
        sums[arm] = sums.get(arm, 0) + count


def _source(events: Path) -> str | None:
    """The table function that reads them; None where there is nothing yet."""
    if events.is_dir():
        for suffix, reader in ((".parquet", "read_parquet"), (".csv", "read_csv")):
            if any(path.suffix == suffix for path in events.iterdir()):
                return _reading(reader, str(events / f"*{suffix}"))
        return None
    if not events.exists():
        return None
    return _reading("read_parquet" if events.suffix == ".parquet" else "read_csv", str(events))


def _reading(reader: str, places: str) -> str:
    # The last line of a file that somebody writes may be half there.
    options = ", header = true, all_varchar = true, ignore_errors = true" if reader == "read_csv" else ""
    return f"{reader}({_quoted(places)}{options})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
