"""The card's front matter, read by the library that the hub's own tools use; nothing is sent anywhere."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import NoReturn

import pytest
import yaml

from .conftest import HEX, Run, Written, estimate

hub = pytest.importorskip("huggingface_hub")
Write = Callable[[Run], Written]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a card is read without a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def loaded(written: Written) -> object:
    """The card's data; a fault in them is an error, not a warning that is passed over."""
    return hub.ModelCard(written.markdown, ignore_metadata_errors=False).data


def test_results_arrive_with_value_data_set_and_interval(run: Run, write: Write) -> None:
    data = loaded(write(run))
    assert data.model_name == "small-shop-0123456789"
    results = {result.metric_type: result for result in data.eval_results}
    assert set(results) == {"map@10", "ndcg@10"}
    ndcg = results["ndcg@10"]
    assert (ndcg.metric_value, ndcg.metric_name, ndcg.verified) == (0.58, "NDCG@10", False)
    assert (ndcg.task_type, ndcg.dataset_name, ndcg.dataset_split) == ("tabular-regression", "small-shop", "test")
    assert ndcg.dataset_revision == HEX
    assert ndcg.metric_args == {"low": 0.56, "high": 0.6, "level": 0.95, "users": 120}


def test_what_the_library_writes_is_what_the_card_says(run: Run, write: Write) -> None:
    written = write(run)
    assert loaded(written).to_dict() == yaml.safe_load(written.markdown.split("---\n")[1])


@pytest.mark.parametrize(
    ("said", "licence", "name"),
    [("Apache-2.0", "apache-2.0", None), ("Ours: ask legal", "other", "Ours: ask legal"), ("", None, None)],
)
def test_the_licence_is_the_hubs_name_of_it_or_other(
    run: Run, write: Write, said: str, licence: str | None, name: str | None
) -> None:
    run.words = run.words.replace("licence: Apache-2.0", f'licence: "{said}"' if said else "licence:")
    data = loaded(write(run))
    assert (data.license, data.license_name) == (licence, name)


def test_a_run_without_results_is_a_card_all_the_same(run: Run, write: Write) -> None:
    run.evidence = {}
    data = loaded(write(run))
    assert data.eval_results is None
    assert data.library_name == "xgboost"


def test_a_metric_without_a_value_is_no_result(run: Run, write: Write) -> None:
    held = run.evidence["quality"]
    run.evidence["quality"] = type(held)(
        **{name: getattr(held, name) for name in held.__dataclass_fields__}
        | {"estimates": (estimate("ndcg@10", None), estimate("map@10", 0.4))}
    )
    assert [result.metric_type for result in loaded(write(run)).eval_results] == ["map@10"]
