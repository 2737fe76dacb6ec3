"""Hugging Face model card metadata: the candidate's overall figures as results."""

from __future__ import annotations

from typing import Any

import yaml

from components.card.chapters.looking import estimates, main_cutoff
from components.card.contract import Card
from components.card.sources import Opened
from components.card.words import metric
from components.ranker.contract import CANDIDATE


def front_matter(card: Card, opened: Opened) -> str:
    """YAML between the `---` lines; no results where quality was not measured."""
    k = main_cutoff(opened)
    wanted = tuple(f"{name}@{k}" for name in ("ndcg", "map", "recall", "mrr", "hit_rate"))
    metrics = [
        {"type": e.metric, "name": metric(e.metric), "value": round(e.value, 6), "verified": False}
        for e in sorted(estimates(opened, "quality"), key=lambda e: e.metric)
        if (e.metric in wanted and e.statistic == "value" and e.subject == CANDIDATE)
        and not e.segment
        and e.value is not None
    ]
    value: dict[str, Any] = {
        "library_name": "xgboost",
        "pipeline_tag": "tabular-regression",
        "tags": ["learning-to-rank", "recommendation", "rankgate"],
    }
    if metrics:
        dataset = {"type": card.name, "name": card.name, "split": "test", "revision": card.lineage.snapshot}
        task = {"type": "tabular-regression", "name": "Ranking"}
        value["model-index"] = [{"name": card.run, "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}]
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000)
    return text
