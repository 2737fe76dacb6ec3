"""Hugging Face model card metadata: licence, and the candidate's overall figures with their intervals as results."""

from __future__ import annotations

import re
from typing import Any

import yaml

from components.card.chapters.looking import estimates, main_cutoff
from components.card.contract import Card
from components.card.sources import Opened
from components.card.words import metric, one_line
from components.ranker.contract import CANDIDATE

_SPDX = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.+-]*$")


def front_matter(card: Card, opened: Opened) -> str:
    """YAML between the `---` lines; no results where quality was not measured."""
    k = main_cutoff(opened)
    wanted = tuple(f"{name}@{k}" for name in ("ndcg", "map", "recall", "mrr", "hit_rate"))
    metrics = [
        {
            "type": e.metric,
            "name": metric(e.metric),
            "value": round(e.value, 6),
            "args": {"low": e.low, "high": e.high, "level": e.level, "users": e.n_users},
            "verified": False,
        }
        for e in sorted(estimates(opened, "quality"), key=lambda e: e.metric)
        if (e.metric in wanted and e.statistic == "value" and e.subject == CANDIDATE)
        and not e.segment
        and e.value is not None
    ]
    value: dict[str, Any] = {
        "library_name": "xgboost",
        "pipeline_tag": "tabular-regression",
        "tags": ["learning-to-rank", "recommendation", "rankgate"],
        **_licence(card.purpose.licence),
    }
    if metrics:
        dataset = {"type": card.name, "name": card.name, "split": "test", "revision": card.lineage.snapshot}
        task = {"type": "tabular-regression", "name": "Ranking"}
        value["model-index"] = [{"name": card.run, "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}]
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
    return text


def _licence(said: str) -> dict[str, str]:
    """The hub's own name of a licence where the team gave one word, else `other` with the team's words; none if unwritten."""
    if not said:
        return {}
    return {"license": said.lower()} if _SPDX.match(said) else {"license": "other", "license_name": one_line(said)}
