"""The routes as ASGI: what is answered, what is refused and in which words, what is never read."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from bentos.ranker import reading
from bentos.ranker.application import Application
from bentos.ranker.messages import MOST_PAIRS, BatchAnswer, ExplainAnswer, RankAnswer, ReleaseAnswer
from bentos.ranker.reading import MOST_BYTES, Message, Receive, Send
from bentos.ranker.serving import Serving
from components.evidence.malformed import Malformed, malformed_requests
from components.ranker.contract import Exploration, RerankRules
from components.ranker.scoring import LoadedRanker
from components.serving.answering import Answerer
from components.serving.exposure_files import Damage, read_exposures
from components.serving.exposures import ExposureLog
from components.serving.logs import AccessLog, JsonLines
from components.serving.traces import Traces

JSON = {"content-type": "application/json"}


class Answered:
    """What an application sent."""

    def __init__(self, sent: list[dict[str, Any]]) -> None:
        self.status: int = sent[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        self.body: bytes = b"".join(message.get("body", b"") for message in sent[1:])

    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        assert int(self.headers["content-length"]) == len(self.body)
        return json.loads(self.body)

    @property
    def error(self) -> str:
        found = self.json()
        assert found.keys() == {"error"}
        return str(found["error"])


class Client:
    """Sends requests straight to an application."""

    def __init__(self, app: Application) -> None:
        self.app = app

    def send(
        self,
        method: str,
        path: str,
        *parts: bytes,
        headers: dict[str, str] | None = None,
        then: dict[str, Any] | None = None,
    ) -> Answered:
        """Parts of a body one by one; `then` is what the server says after them, nothing ever without it."""
        sent: list[dict[str, Any]] = []
        waiting = [
            {"type": "http.request", "body": part, "more_body": then is not None or place + 1 < len(parts)}
            for place, part in enumerate(parts or (b"",))
        ]
        if then is not None:
            waiting.append(then)

        async def receive() -> Message:
            if waiting:
                return waiting.pop(0)
            return await asyncio.Future()

        async def send(message: Message) -> None:
            sent.append(dict(message))

        named = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
        scope = {"type": "http", "method": method, "path": path, "headers": named}
        asyncio.run(self.app(scope, receive, send))
        return Answered(sent)

    def post(self, path: str, value: Any, **headers: str) -> Answered:
        return self.send("POST", path, json.dumps(value).encode(), headers=JSON | headers)


async def inner(scope: Message, receive: Receive, send: Send) -> None:
    raise AssertionError(f"BentoML's own application was asked for {scope}")


def served(ranker: LoadedRanker) -> tuple[Client, Serving]:
    serving = Serving()
    serving.answerer = Answerer(ranker, release="d" * 64, arm="canary")
    serving.answerer.warm_up()
    serving.ready = True
    return Client(Application(inner, serving=serving)), serving


@pytest.fixture(scope="module")
def ranker(small_ranker: Path) -> LoadedRanker:
    return LoadedRanker.open(small_ranker)


@pytest.fixture(scope="module")
def client(ranker: LoadedRanker) -> Client:
    return served(ranker)[0]


def test_given_candidates_are_ranked_to_the_bit_as_the_ranker_ranks_them(client: Client, ranker: LoadedRanker) -> None:
    for user in (None, "nobody", *ranker.user_ids[:10]):
        items = ranker.item_ids[:100]
        asked = {"user_id": user, "candidates": items, "k": 30, "context": {"device": "mobile"}}
        found = client.post("/rank", asked).json()
        RankAnswer.model_validate(found)
        expected = ranker.rank(user, items, k=30, context={"device": "mobile"})
        assert [(one["item_id"], one["score"]) for one in found["items"]] == expected
        assert [one["rank"] for one in found["items"]] == list(range(1, 31))
        assert (found["release"], found["arm"]) == ("d" * 64, "canary")
        assert found["fallbacks"] == (["unknown_user"] if user == "nobody" else [])
        assert found["fallback"] is (user == "nobody")


def test_without_candidates_they_are_retrieved_and_exclusions_make_room(client: Client, ranker: LoadedRanker) -> None:
    user = ranker.user_ids[0]
    found = client.post("/recommend", {"user_id": user, "k": 5}).json()
    RankAnswer.model_validate(found)
    assert [(one["item_id"], one["score"]) for one in found["items"]] == ranker.recommend(user, k=5)
    first = found["items"][0]["item_id"]
    again = client.post("/recommend", {"user_id": user, "k": 5, "exclude": [first]}).json()
    assert [one["item_id"] for one in again["items"]] == [item for item, _ in ranker.recommend(user, k=6)][1:]


def test_a_request_keeps_its_own_key_and_gets_one_otherwise(client: Client) -> None:
    assert client.post("/recommend", {"request_id": "feed-1"}).json()["request_id"] == "feed-1"
    made = {client.post("/recommend", {}).json()["request_id"] for _ in range(3)}
    assert len(made) == 3


def test_only_a_request_with_a_key_is_explored_and_the_same_key_draws_the_same(
    changed_ranker: Callable[..., Path],
) -> None:
    rules = RerankRules(0, 0, 5, exclude_seen=False, exploration=Exploration(1.0, (2,), 8, 0))
    client, _ = served(LoadedRanker.open(changed_ranker(rerank=rules)))
    one, again = (client.post("/recommend", {"k": 5, "request_id": "feed-1"}).json() for _ in range(2))
    assert one == again
    assert [item["explored"] for item in one["items"]] == [False, True, False, False, False]
    assert one["items"][1]["propensity"] < 1
    unkeyed = client.post("/recommend", {"k": 5}).json()["items"]
    assert {(item["explored"], item["propensity"]) for item in unkeyed} == {(False, 1.0)}


def test_explanations_add_up_and_name_as_many_features_as_asked(client: Client, ranker: LoadedRanker) -> None:
    user, items = ranker.user_ids[0], ranker.item_ids[:20]
    found = client.post("/explain", {"user_id": user, "candidates": items, "most": 3}).json()
    ExplainAnswer.model_validate(found)
    assert [(one["item_id"], one["score"]) for one in found["items"]] == ranker.rank(user, items, k=20)
    for one in found["items"]:
        assert len(one["contributions"]) <= 3
        total = one["base"] + sum(share["effect"] for share in one["contributions"]) + one["others"]
        assert total == pytest.approx(one["score"], abs=1e-5)
        effects = [abs(share["effect"]) for share in one["contributions"]]
        assert effects == sorted(effects, reverse=True)
        for share in one["contributions"]:
            assert f"({share['effect']:+.2f})" in share["words"]


def test_a_batch_is_answered_one_by_one_as_if_each_came_alone(client: Client, ranker: LoadedRanker) -> None:
    asked = [
        {"request_id": "a", "candidates": ranker.item_ids[:9], "k": 3},
        {"request_id": "b", "user_id": ranker.user_ids[0], "k": 4},
        {"request_id": "c", "user_id": "nobody", "candidates": ["x"], "deadline_ms": 60_000},
    ]
    found = client.post("/batch", {"requests": asked}).json()
    BatchAnswer.model_validate(found)
    alone = [client.post("/rank" if "candidates" in one else "/recommend", one).json() for one in asked]
    assert found["answers"] == alone


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"k": 0}, "requests.1.k: found 0"),
        ({"context": {"devise": "x"}}, "requests.1.context: found devise; needed one of: device."),
        ({"candidates": []}, "requests.1.candidates: found []"),
        ({"surprise": 1}, "requests.1.surprise: found an unknown field"),
    ],
)
def test_a_wrong_request_of_a_batch_is_named_by_its_place(client: Client, wrong: dict[str, Any], named: str) -> None:
    answer = client.post("/batch", {"requests": [{}, wrong]})
    assert answer.status == 400
    assert named in answer.error


def test_a_batch_has_bounds(client: Client) -> None:
    assert "requests: found []" in client.post("/batch", {"requests": []}).error
    assert "at most 64" in client.post("/batch", {"requests": [{}] * 65}).error
    many = [{"candidates": [str(item) for item in range(1_000)]}] * (MOST_PAIRS // 1_000 + 1)
    answer = client.post("/batch", {"requests": many})
    assert (answer.status, f"at most {MOST_PAIRS} candidates in all requests together" in answer.error) == (400, True)


def test_a_deadline_is_taken_from_the_field_then_from_the_header(client: Client) -> None:
    def late(asked: dict[str, Any], **headers: str) -> bool:
        return client.post("/recommend", asked, **headers).json()["fallbacks"] == ["deadline"]

    assert late({"deadline_ms": 0.001})
    assert late({}, **{"x-deadline-ms": "0.001"})
    assert not late({"deadline_ms": 60_000}, **{"x-deadline-ms": "0.001"})
    assert not late({}, **{"x-deadline-ms": "60000"})
    assert not late({})


def test_more_than_can_be_scored_is_answered_all_the_same(
    ranker: LoadedRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = served(ranker)
    monkeypatch.setattr(reading, "WAITS", 1e-6)
    found = client.post("/recommend", {"k": 5}).json()
    assert (len(found["items"]), found["fallbacks"]) == (5, ["deadline"])
    assert client.post("/recommend", {"k": 5, "deadline_ms": 60_000}).json()["fallbacks"] == []


@pytest.mark.parametrize("said", ["", "soon", "-1", "0", "nan", "inf", "60001", "1e400", "é"])
def test_a_deadline_that_is_none_is_refused(client: Client, said: str) -> None:
    for asked in ({}, {"deadline_ms": 50}):
        answer = client.post("/recommend", asked, **{"x-deadline-ms": said})
        assert answer.status == 400
        assert answer.error.startswith("x-deadline-ms: found ")


@pytest.mark.parametrize("wrong", malformed_requests("10008"), ids=lambda wrong: wrong.what)
def test_what_a_measurement_sends_wrong_is_refused_by_field(client: Client, wrong: Malformed) -> None:
    headers = {name.lower(): value for name, value in wrong.headers.items()}
    answer = client.send(wrong.method, wrong.path, wrong.body, headers=headers)
    assert wrong.refused_by(answer.status, answer.body), answer.body
    assert answer.error.count(": found ") >= 1
    assert len(answer.body) < 2_000


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"k": 0}, "k: found 0; needed greater than or equal to 1."),
        ({"k": "5"}, "k: found '5'; needed a valid integer."),
        ({"k": True}, "k: found True; needed a valid integer."),
        ({"user_id": 17}, "user_id: found 17; needed a valid string."),
        ({"kk": 1}, "kk: found an unknown field; needed one of this route's. Did you mean 'k'?"),
        ({"candidates": ["a"] * 1_001}, "candidates: found ['a', 'a', 'a', ...]; needed at most 1000 items."),
        ({"surface": "a b"}, "surface: found 'a b'; needed match pattern '^[A-Za-z0-9._:-]*$'."),
        ({"surface": "home\n"}, "surface: found 'home\\n'; needed match pattern '^[A-Za-z0-9._:-]*$'."),
        ({"deadline_ms": 0}, "deadline_ms: found 0; needed greater than 0."),
        ({"exclude": [""]}, "exclude.0: found ''; needed at least 1 character."),
    ],
)  # fmt: skip
def test_a_refusal_says_what_was_found_and_needed(client: Client, said: dict[str, Any], error: str) -> None:
    answer = client.post("/rank", {"candidates": ["10008"], **said})
    assert (answer.status, answer.error) == (400, error)


def test_a_whole_number_may_be_written_with_a_point(client: Client) -> None:
    assert len(client.send("POST", "/recommend", b'{"k": 3.0}', headers=JSON).json()["items"]) == 3
    for wrong in (b"3.5", b"1e300", b"1e400", b"true", b'"3"'):
        assert client.send("POST", "/recommend", b'{"k": %b}' % wrong, headers=JSON).error.startswith("k: found ")


def test_all_faults_of_a_request_are_told_at_once_up_to_five(client: Client) -> None:
    error = client.post("/rank", {"k": 0, "user_id": "", "surface": "?"}).error
    assert [part for part in ("k:", "user_id:", "surface:", "candidates:") if part in error] == [
        "k:", "user_id:", "surface:", "candidates:",
    ]  # fmt: skip
    many = {f"x{number}": 1 for number in range(50)}
    assert client.post("/rank", {"candidates": ["a"], **many}).error.count("found an unknown field") == 5


def test_an_unknown_route_and_a_wrong_method_are_told_what_there_is(client: Client) -> None:
    answer = client.send("GET", "/admin")
    assert answer.status == 404
    assert answer.error == (
        "path: found '/admin'; needed one of /rank, /recommend, /batch, /explain, /livez, /readyz, /metrics, "
        "/openapi.json, /release."
    )
    answer = client.send("PUT", "/rank", b"{}", headers=JSON)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert client.send("DELETE", "/readyz").headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_is_read_by_any_of_its_names(client: Client, kind: str) -> None:
    assert client.send("POST", "/recommend", b"{}", headers={"content-type": kind}).status == 200
    assert client.send("POST", "/recommend", b"{}").status == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data; boundary=x", "application/jsonp", "é", ";", "x" * 9_000]
)
def test_every_other_body_is_refused_with_what_was_found(client: Client, kind: str) -> None:
    answer = client.send("POST", "/rank", b"{}", headers={"content-type": kind})
    if kind == ";":
        # Says nothing, as if it were not there.
        assert answer.status == 400
        return
    assert answer.status == 415
    assert answer.error.startswith("content-type: found ")
    assert len(answer.body) < 300


def test_a_body_that_says_it_is_too_long_is_not_read(client: Client) -> None:
    async def receive() -> Message:
        raise AssertionError("the body was read")

    sent: list[Any] = []

    async def send(message: Message) -> None:
        sent.append(message)

    for length in (str(MOST_BYTES + 1), "9" * 5_000):
        sent.clear()
        headers = [(b"content-length", length.encode())]
        asyncio.run(client.app({"type": "http", "method": "POST", "path": "/rank", "headers": headers}, receive, send))
        assert Answered(sent).status == 413


def test_a_body_that_does_not_say_how_long_it_is_is_read_only_so_far(client: Client) -> None:
    parts = [b" " * 65_536] * 100
    answer = client.send("POST", "/recommend", *parts, headers=JSON)
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    exactly = b"{}" + b" " * (MOST_BYTES - 2)
    assert client.send("POST", "/recommend", exactly, headers=JSON).status == 200
    assert client.send("POST", "/recommend", exactly + b" ", headers=JSON).status == 413


def test_a_body_in_parts_is_put_together(client: Client) -> None:
    assert client.send("POST", "/recommend", b'{"k"', b": ", b"3}", headers=JSON).json()["items"][2]["rank"] == 3


def test_a_client_that_stops_sending_is_refused_and_one_that_leaves_is_not_answered(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BODY_WITHIN", 0.01)
    never = {"type": "http.request", "body": b"", "more_body": True}
    answer = client.send("POST", "/recommend", b'{"k"', headers=JSON, then=never)
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    with pytest.raises(IndexError):
        client.send("POST", "/recommend", b'{"k"', headers=JSON, then={"type": "http.disconnect"})


def test_what_fails_inside_is_answered_without_its_place_and_logged_with_it(
    ranker: LoadedRanker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, serving = served(ranker)

    def fail(*_: Any) -> Any:
        raise RuntimeError("secret place")

    assert serving.answerer
    monkeypatch.setattr(serving.answerer, "answer", fail)
    answer = client.post("/recommend", {})
    assert (answer.status, answer.error) == (500, "service: found an error of its own; needed none. Its log says more.")
    assert "secret place" in caplog.text


def test_lists_are_logged_as_they_were_shown_and_explanations_are_not(ranker: LoadedRanker, tmp_path: Path) -> None:
    client, serving = served(ranker)
    serving.exposures = ExposureLog(tmp_path)
    asked = {"user_id": ranker.user_ids[0], "k": 3, "surface": "home", "context": {"device": "mobile"}}
    answers = [
        client.post("/rank", {**asked, "request_id": "a", "candidates": ranker.item_ids[:9]}).json(),
        client.post("/recommend", {**asked, "request_id": "b"}).json(),
        *client.post("/batch", {"requests": [{"request_id": "c"}, {"request_id": "d"}]}).json()["answers"],
    ]
    client.post("/explain", {"candidates": ranker.item_ids[:2]})
    client.post("/rank", {"candidates": []})
    assert serving.exposures.close()
    damaged: list[Damage] = []
    logged = list(read_exposures(tmp_path, damaged=damaged.append))
    assert not damaged
    shown = [(answer["request_id"], one["item_id"], one["rank"]) for answer in answers for one in answer["items"]]
    assert [(one.request_id, one.item_id, one.rank) for one in logged] == shown
    first = logged[0]
    assert (first.user_id, first.surface, first.context) == (ranker.user_ids[0], "home", {"device": "mobile"})
    assert (first.release, first.arm, first.source, first.propensity) == ("d" * 64, "canary", "given", 1.0)


def test_until_a_ranker_is_open_there_is_life_but_no_list(ranker: LoadedRanker) -> None:
    client = Client(Application(inner, serving=Serving()))
    assert client.send("GET", "/livez").json() == {"status": "live"}
    for method, path in (
        ("GET", "/readyz"),
        ("POST", "/recommend"),
        ("GET", "/release"),
        ("GET", "/openapi.json"),
    ):
        answer = client.send(method, path, b"{}" if method == "POST" else b"")
        assert answer.status == 503
        assert "found no ranker" in answer.error
    client, _ = served(ranker)
    assert client.send("GET", "/readyz").json() == {"status": "ready"}


def test_while_it_drains_it_answers_but_sends_its_clients_elsewhere(ranker: LoadedRanker) -> None:
    client, serving = served(ranker)
    assert "connection" not in client.post("/recommend", {}).headers
    serving.draining = True
    assert client.send("GET", "/readyz").status == 503
    answer = client.post("/recommend", {})
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert client.send("GET", "/livez").status == 200


def test_what_is_served_is_told_to_get_and_to_post(client: Client, ranker: LoadedRanker) -> None:
    found = client.send("GET", "/release").json()
    ReleaseAnswer.model_validate(found)
    assert found["release"] == "d" * 64
    assert found == client.post("/release", {}).json()


def test_metrics_tell_of_requests_by_route_and_of_lists_by_surface(ranker: LoadedRanker) -> None:
    client, serving = served(ranker)
    serving.count_by(["home"])
    for surface in ("home", "home", "search", "made-up"):
        client.post("/recommend", {"k": 3, "surface": surface, "user_id": "nobody"})
    client.post("/batch", {"requests": [{"k": 1}, {"k": 1}]})
    client.post("/explain", {"candidates": ranker.item_ids[:2]})
    client.post("/rank", {"k": 0})
    for number in range(50):
        client.send("GET", f"/admin/{number}")
    answer = client.send("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    told = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    requests = {key[1:]: value for key, value in told.items() if key[0] == "rankgate_requests_total"}
    assert requests == {
        ("/recommend", "200"): 4.0,
        ("/batch", "200"): 1.0,
        ("/explain", "200"): 1.0,
        ("/rank", "400"): 1.0,
        ("404", "other"): 50.0,
    }
    lists = {key[1:]: value for key, value in told.items() if key[0] == "rankgate_answer_seconds_count"}
    assert lists == {
        ("canary", "home"): 2.0,
        ("canary", "other"): 2.0,
        ("canary", "unsaid"): 2.0,
        ("canary", "explain"): 1.0,
    }
    assert told["rankgate_stage_seconds_count", "canary", "explain", "explain"] == 1.0
    assert told["rankgate_fallbacks_total", "canary", "home", "unknown_user"] == 2.0
    assert told["rankgate_stage_seconds_count", "canary", "home", "retrieve"] == 2.0
    assert told["rankgate_release_info", "", "canary", "d" * 64] == 1.0
    assert told["rankgate_features_as_of_seconds",] == ranker.latest_bucket_start
    assert (told["rankgate_ready",], told["rankgate_draining",]) == (1.0, 0.0)
    assert told["process_resident_memory_bytes",] > 0


def test_who_went_away_before_the_request_was_whole_is_counted_and_gets_nothing(ranker: LoadedRanker) -> None:
    client, _ = served(ranker)
    with pytest.raises(IndexError):
        client.send("POST", "/rank", b"{", headers=JSON, then={"type": "http.disconnect"})
    assert b'rankgate_requests_total{route="/rank",status="499"} 1.0' in client.send("GET", "/metrics").body


def test_logs_tell_of_lists_and_refusals_and_name_neither_users_nor_items(
    ranker: LoadedRanker, caplog: pytest.LogCaptureFixture
) -> None:
    client, serving = served(ranker)
    serving.access = AccessLog(1)
    user, items = ranker.user_ids[0], ranker.item_ids[:3]
    with caplog.at_level(logging.INFO, "rankgate.access"):
        client.post("/rank", {"user_id": user, "candidates": items, "request_id": "feed-1"})
        client.post("/batch", {"requests": [{"k": 2, "user_id": user}, {"k": 1}]})
        client.post("/explain", {"user_id": user, "candidates": items})
        client.post("/rank", {"user_id": 17, "candidates": items, "k": 0})
        client.send("GET", "/readyz")
        client.send("POST", "/nothing")
        client.post("/recommend", {user: 1, "context": {items[0]: 3}, "k": 0})
        client.post("/batch", {"requests": [{}, {"k": 0, user: 1}]})
    told = [vars(record) for record in caplog.records]
    assert [(one["route"], one["status"]) for one in told] == [
        ("/rank", 200), ("/batch", 200), ("/explain", 200), ("/rank", 400), ("other", 404),
        ("/recommend", 400), ("/batch", 400),
    ]  # fmt: skip
    assert (told[0]["request_id"], told[0]["places"], told[0]["arm"]) == ("feed-1", 3, "canary")
    assert (told[1]["lists"], told[1]["places"]) == (2, 3)
    assert [one["refused"] for one in told[3:]] == ["user_id, k", "path", "context, k, another", "k, another"]
    words = " ".join(JsonLines().format(record) for record in caplog.records)
    assert not [name for name in (user, *items) if f'"{name}"' in words]


def test_a_request_is_a_span_of_its_callers_trace_where_traces_are_on(ranker: LoadedRanker) -> None:
    client, serving = served(ranker)
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    serving.traces = Traces(provider)
    client.post("/recommend", {"k": 3}, traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    client.send("GET", "/readyz")
    client.send("POST", "/secret-path")
    (listed, lost) = exporter.get_finished_spans()
    assert (listed.name, lost.name) == ("POST /recommend", "HTTP other")
    assert f"{listed.context.trace_id:032x}" == "a" * 32
    assert listed.attributes["rankgate.places"] == 3
    assert "secret" not in lost.to_json()


def test_the_start_and_the_end_of_the_process_are_bentomls(client: Client) -> None:
    asked: list[str] = []

    async def bentoml(scope: Message, receive: Receive, send: Send) -> None:
        asked.append(scope["type"])

    async def none(*_: Any) -> Any:
        raise AssertionError

    asyncio.run(Application(bentoml, serving=Serving())({"type": "lifespan"}, none, none))
    assert asked == ["lifespan"]


def test_the_document_describes_the_routes_that_there_are_and_its_examples_hold(client: Client) -> None:
    from bentos.ranker import messages

    document = client.send("GET", "/openapi.json").json()
    known = {path: {method.lower() for method in held} - {"head"} for path, held in client.app._routes.items()}
    assert {path: set(held) for path, held in document["paths"].items()} == known
    asked = [document["components"]["schemas"][name] for name in ("RankRequest", "BatchedRequest", "ExplainRequest")]
    assert [set(one["properties"]["context"]["properties"]) for one in asked] == [{"device"}] * 3
    examples = list(_examples(document))
    assert len(examples) >= 12
    for model, example in examples:
        getattr(messages, model).model_validate(example)
    for path, held in document["paths"].items():
        if "requestBody" not in held.get("post", {}):
            continue
        example = held["post"]["requestBody"]["content"]["application/json"]["example"]
        assert client.post(path, example).status == 200
        assert {"400", "408", "413", "415", "503"} <= held["post"]["responses"].keys()


def _examples(document: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for held in document["paths"].values():
        for operation in held.values():
            contents = [operation.get("requestBody", {}), *operation["responses"].values()]
            for content in contents:
                for media in content.get("content", {}).values():
                    if "example" in media:
                        yield media["schema"]["$ref"].rpartition("/")[2], media["example"]


def test_no_answer_holds_what_json_cannot(client: Client, ranker: LoadedRanker) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(name)

    for body in ({"k": 1_000}, {"k": 5, "deadline_ms": 0.001}):
        found = json.loads(client.post("/recommend", body).body, parse_constant=refuse)
        assert all(math.isfinite(one["score"]) for one in found["items"])
    odd = 'a"b\\c\u2028\x00é'
    assert client.post("/rank", {"candidates": [odd], "request_id": odd}).json()["items"][0]["item_id"] == odd


def test_a_session_is_read_checked_and_told_in_the_document(client: Client, ranker: LoadedRanker) -> None:
    taken = {"item_id": ranker.item_ids[5], "event": "click", "seconds_ago": 12.5}
    plain = client.post("/recommend", {"k": 300}).json()
    seeded = client.post("/recommend", {"k": 300, "session": [taken]}).json()
    RankAnswer.model_validate(seeded)
    assert {one["source"] for one in seeded["items"]} > {one["source"] for one in plain["items"]}
    batch = client.post("/batch", {"requests": [{"k": 300, "session": [taken]}, {"k": 300}]}).json()
    assert [one["items"] for one in batch["answers"]] == [seeded["items"], plain["items"]]
    for wrong, said in (
        ({"event": "wish"}, "session.0.event: found 'wish'; needed one of: add_to_cart, click, impression, purchase"),
        ({"seconds_ago": -1}, "session.0.seconds_ago: found -1"),
        ({"seconds_ago": 8 * 86_400}, "needed less than or equal to 604800"),
        ({"when": 3}, "session.0.when: found an unknown field"),
        ({"item_id": ""}, "session.0.item_id"),
    ):
        answer = client.post("/recommend", {"session": [taken | wrong]})
        assert answer.status == 400
        assert said in answer.error
    assert (
        "requests.1.session.0.event"
        in client.post("/batch", {"requests": [{}, {"session": [taken | {"event": "wish"}]}]}).error
    )
    assert client.post("/recommend", {"session": [taken] * 101}).status == 400
    event = client.send("GET", "/openapi.json").json()["components"]["schemas"]["SessionEvent"]["properties"]["event"]
    assert event["enum"] == ["add_to_cart", "click", "impression", "purchase"]
