"""A shared store against a real server, well and ill: every user is answered, in time, and to the bit as without it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis_process
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import InputError
from components.ranker.refreshing import refresh_ranker
from components.ranker.scoring import LoadedRanker
from components.serving.answering import Answerer
from components.serving.contract import MISSING_FEATURES, UNKNOWN_USER, Answer, Ask, Interaction, Looked
from components.serving.shared_store import FOUND, REASONS, SharedStore, StoreSettings, store_of
from components.serving.shared_store_address import Address, address_of
from components.serving.shared_store_metrics import StoreMetrics
from components.serving.shared_store_values import mark_key, unpack, user_key
from components.serving.shared_store_writing import Shared, share_users

pytestmark = pytest.mark.integration

WEEK = 7 * 24 * 3_600
AMPLE = 2.0
"""Seconds of budget that no machine needs."""


@pytest.fixture(scope="module")
def elsewhere(small_ranker: Path) -> LoadedRanker:
    return LoadedRanker.open(small_ranker, users_elsewhere=True)


@pytest.fixture(scope="module")
def within(small_ranker: Path) -> Answerer:
    return Answerer(LoadedRanker.open(small_ranker), release="d" * 64, arm="")


@pytest.fixture(scope="module")
def shop(elsewhere: LoadedRanker) -> Answerer:
    return Answerer(elsewhere, release="d" * 64, arm="")


def shared(ranker: LoadedRanker, url: str, environment: dict[str, str] | None = None, **said: Any) -> Shared:
    address = address_of(url, environment or {})
    return asyncio.run(share_users(ranker, address, keep_seconds=WEEK, **said))


@asynccontextmanager
async def reading(
    ranker: LoadedRanker, url: str, *, budget: float = AMPLE, environment: dict[str, str] | None = None
) -> AsyncIterator[SharedStore]:
    said = StoreSettings(address_of(url, environment or {}), budget)
    store = SharedStore(said, wanted=lambda: ranker.user_set)
    store.start()
    try:
        yield store
    finally:
        await store.close()


async def until(holds: Callable[[], bool], *, within: float = 15.0) -> None:
    limit = time.monotonic() + within
    while not holds():
        assert time.monotonic() < limit, "it never came to that"
        await asyncio.sleep(0.01)


async def whole(store: SharedStore) -> None:
    await until(lambda: store.state().whole)


async def one(store: SharedStore, ranker: LoadedRanker, user_id: str, *, seconds: float = 60.0) -> Looked:
    return (await store.users(ranker, [user_id], seconds=seconds))[user_id]


async def found_again(store: SharedStore, ranker: LoadedRanker, user_id: str) -> None:
    limit = time.monotonic() + 15.0
    while (await one(store, ranker, user_id)).reason:
        assert time.monotonic() < limit, "it never came to that"
        await asyncio.sleep(0.05)


def lists(answer: Answer) -> Answer:
    return replace(answer, stages={}, fallbacks=tuple(said for said in answer.fallbacks if said != MISSING_FEATURES))


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_answers_with_users_from_the_store_are_to_the_bit_those_from_memory(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker, shop: Answerer, within: Answerer
) -> None:
    server = redis_server()
    done = shared(elsewhere, server.url)
    assert done.written == done.users == len(elsewhere.user_ids)

    async def work() -> None:
        async with reading(elsewhere, server.url) as store:
            await whole(store)
            for number, user_id in enumerate(elsewhere.user_ids):
                looked = await one(store, elsewhere, user_id)
                assert (looked.reason, looked.user is not None) == ("", True)
                candidates = tuple(elsewhere.item_ids[number % 50 :: 7]) if number % 3 else None
                ask = Ask("r", user_id, candidates, 20, {"device": "mobile"}, explain=number % 20 == 0)
                found, wanted = shop.answer(ask, looked), within.answer(ask)
                assert replace(found, stages={}) == replace(wanted, stages={})
                assert found.stages["store"] == looked.seconds
            assert store.state().outcomes[FOUND] == len(elsewhere.user_ids)

    run(work())


@pytest.fixture(scope="module")
def values(elsewhere: LoadedRanker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """Every user's value, as a server gives it back."""
    if redis_process.BINARY is None:
        pytest.skip(redis_process.ABSENT)
    server = redis_process.RedisServer(tmp_path_factory.mktemp("redis"))
    shared(elsewhere, server.url)
    yield {user: server.get(user_key(elsewhere.user_set, user)) for user in elsewhere.user_ids}
    server.kill()


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_every_feature_and_every_score_of_any_request_is_to_the_bit_that_from_memory(
    values: dict[str, bytes], elsewhere: LoadedRanker, shop: Answerer, within: Answerer, data: st.DataObject
) -> None:
    user = data.draw(st.sampled_from(list(values)))
    names = data.draw(st.none() | st.lists(st.sampled_from([*elsewhere.item_ids, "no such item"]), max_size=60))
    context = data.draw(st.sampled_from([{}, {"device": "mobile"}, {"device": "fax"}]))
    exclude = data.draw(st.frozensets(st.sampled_from(elsewhere.item_ids), max_size=20))
    held = unpack(values[user], shape=elsewhere.shape, user_set=elsewhere.user_set, user_id=user)
    candidates = None if names is None else tuple(names)
    session = data.draw(st.lists(st.builds(
        Interaction, st.sampled_from(elsewhere.item_ids), st.sampled_from(elsewhere.events), st.floats(0, 600)
    ), max_size=3))  # fmt: skip
    ask = Ask("r", user, candidates, data.draw(st.integers(1, 60)), context, exclude, tuple(session))
    found, wanted = shop.answer(ask, Looked(held, "", 0.0)), within.answer(ask)
    assert replace(found, stages={}) == replace(wanted, stages={})
    items = np.array([elsewhere._items.get(name, -1) for name in names or elsewhere.item_ids], dtype=np.int32)
    one, bucket = elsewhere.knowing(user, held), elsewhere.latest_bucket
    left = one._inputs(0, items, context, bucket=bucket)
    right = within.ranker._inputs(within.ranker._users[user], items, context, bucket=bucket)
    assert left.shape == (len(items), len(elsewhere.manifest.features))
    for place, feature in enumerate(elsewhere.manifest.features):
        assert left[:, place].tobytes() == right[:, place].tobytes(), feature


def test_strangers_and_visitors_are_not_asked_for(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker, shop: Answerer
) -> None:
    server = redis_server()
    shared(elsewhere, server.url)

    async def work() -> None:
        async with reading(elsewhere, server.url) as store:
            await whole(store)
            assert await store.users(elsewhere, [None, "nobody"], seconds=60.0) == {}
            assert sum(store.state().outcomes.values()) == 0

    run(work())
    assert shop.answer(Ask("r", "nobody", None, 5)).fallbacks == (UNKNOWN_USER,)


def test_the_users_of_a_batch_are_asked_for_in_one_command(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server = redis_server()
    shared(elsewhere, server.url)
    server.ask("CONFIG", "RESETSTAT")
    asked = [*elsewhere.user_ids[:30], None, "nobody", *elsewhere.user_ids[:5]]

    async def work() -> None:
        async with reading(elsewhere, server.url) as store:
            await whole(store)
            found = await store.users(elsewhere, asked, seconds=60.0)
            assert list(found) == list(elsewhere.user_ids[:30])
            assert {looked.reason for looked in found.values()} == {""}

    run(work())
    assert b"cmdstat_mget:calls=1," in server.ask("INFO", "commandstats")


def test_a_user_whose_key_was_evicted_is_looked_up_in_the_tables(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker, shop: Answerer, within: Answerer
) -> None:
    server, user = redis_server(), elsewhere.user_ids[3]
    shared(elsewhere, server.url)
    server.ask("DEL", user_key(elsewhere.user_set, user))
    ask = Ask("r", user, None, 20)

    async def work() -> None:
        async with reading(elsewhere, server.url) as store:
            await whole(store)
            looked = await one(store, elsewhere, user)
            assert looked.reason == "absent"
            found = shop.answer(ask, looked)
            assert found.fallbacks == (MISSING_FEATURES,)
            assert lists(found) == lists(within.answer(ask))
            assert (await one(store, elsewhere, elsewhere.user_ids[4])).reason == ""

    run(work())


def flipped(value: bytes) -> bytes:
    return value[:-1] + bytes([value[-1] ^ 1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (flipped, "damaged"),
        (lambda value: value[:50], "damaged"),
        (lambda _: b"", "damaged"),
        (lambda value: value[:3] + b"\0" + value[4:], "outdated"),
        (lambda value: value[:8] + b"\7" * 16 + value[24:], "foreign"),
    ],
)
def test_a_value_that_is_not_what_was_written_is_not_used(
    redis_server: Callable[..., Any],
    elsewhere: LoadedRanker,
    shop: Answerer,
    within: Answerer,
    change: Any,
    reason: str,
) -> None:
    server, user = redis_server(), elsewhere.user_ids[3]
    shared(elsewhere, server.url)
    key = user_key(elsewhere.user_set, user)
    server.ask("SET", key, change(server.get(key)))

    async def work() -> None:
        async with reading(elsewhere, server.url) as store:
            await whole(store)
            looked = await one(store, elsewhere, user)
            assert (looked.user, looked.reason) == (None, reason)
            ask = Ask("r", user, None, 20)
            assert shop.answer(ask, looked).fallbacks == (MISSING_FEATURES,)
            assert lists(shop.answer(ask, looked)) == lists(within.answer(ask))
            assert store.state().outcomes[reason] == 1

    run(work())


def test_a_server_that_stands_still_costs_the_budget_and_then_nothing(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker, shop: Answerer, within: Answerer
) -> None:
    server, users = redis_server(), elsewhere.user_ids
    shared(elsewhere, server.url)

    async def work() -> None:
        async with reading(elsewhere, server.url, budget=0.05) as store:
            await whole(store)
            server.freeze()
            try:
                reasons, took = [], []
                for number in range(12):
                    began = time.monotonic()
                    looked = await one(store, elsewhere, users[number])
                    took.append(time.monotonic() - began)
                    reasons.append(looked.reason)
                    ask = Ask("r", users[number], None, 9)
                    assert lists(shop.answer(ask, looked)) == lists(within.answer(ask))
                # A look of the store's own may have failed too.
                assert reasons[:4] == ["late"] * 4
                assert reasons[-6:] == ["resting"] * 6
                assert min(took[:4]) >= 0.05
                assert sorted(took[-6:])[3] < 0.05
                assert store.state().trips == 1
                assert not store.state().reached
            finally:
                server.thaw()
            # What the server answered late was nobody else's answer.
            for number in range(12):
                await found_again(store, elsewhere, users[number])
                looked = await one(store, elsewhere, users[number])
                ask = Ask("r", users[number], None, 9)
                assert lists(shop.answer(ask, looked)) == lists(within.answer(ask))

    run(work())


def test_a_reply_that_nobody_waited_for_is_thrown_away_and_the_connection_kept(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server, users = redis_server(), elsewhere.user_ids
    shared(elsewhere, server.url)

    async def work() -> None:
        async with reading(elsewhere, server.url) as store:
            await whole(store)
            server.freeze()
            try:
                given_up = await asyncio.gather(*(one(store, elsewhere, user, seconds=0.01) for user in users[:30]))
                # However many are in a hurry: that they did not wait is not the store's fault.
                assert [looked.reason for looked in given_up] == ["hurried"] * 30
                assert store.state().trips == 0
            finally:
                server.thaw()
            await asyncio.sleep(0.2)
            for number, user in enumerate(users[:20]):
                looked = await one(store, elsewhere, user)
                assert looked.user is not None
                ((_, wanted),) = elsewhere.stored_users(range(number, number + 1))
                assert looked.user.part.row.tobytes() == wanted.part.row.tobytes()
            assert store.state().connections == 1

    run(work())


def test_a_server_that_was_killed_is_reached_again_and_its_set_is_used_once_it_is_whole(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server, user = redis_server(), elsewhere.user_ids[0]
    shared(elsewhere, server.url)

    async def work() -> None:
        async with reading(elsewhere, server.url) as store:
            await whole(store)
            server.kill()
            reasons = {(await one(store, elsewhere, user)).reason for _ in range(5)}
            assert reasons <= {"lost", "unreachable"}
            assert (await one(store, elsewhere, user)).reason == "unreachable"
            server.start()
            await until(lambda: store.state().reached)
            assert (await one(store, elsewhere, user)).reason == "unshared"
            await asyncio.to_thread(shared, elsewhere, server.url)
            await whole(store)
            assert (await one(store, elsewhere, user)).reason == ""
            assert store.state().connections == 2

    run(work())


def test_without_a_server_everyone_is_answered_and_it_is_found_once_it_is_there(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker, shop: Answerer
) -> None:
    server, user = redis_server(), elsewhere.user_ids[0]
    server.kill()

    async def work() -> None:
        async with reading(elsewhere, server.url) as store:
            await asyncio.sleep(0.1)
            looked = await one(store, elsewhere, user)
            assert looked.reason == "unreachable"
            assert shop.answer(Ask("r", user, None, 5), looked).fallbacks == (MISSING_FEATURES,)
            server.start()
            await until(lambda: store.state().reached)

    run(work())


def test_a_password_is_sent_and_a_wrong_one_is_told_without_it(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    server, user = redis_server("--requirepass", "s3cret"), elsewhere.user_ids[0]
    file = tmp_path / "password"
    file.write_text("wr0ng\n")
    with pytest.raises(InputError, match="needed a password") as refused:
        shared(elsewhere, server.url)
    assert "NOAUTH" in str(refused.value)
    with pytest.raises(InputError, match=r"WRONGPASS") as refused:
        shared(elsewhere, server.url, {"RANKGATE_STORE_PASSWORD": "wr0ng"})
    assert "wr0ng" not in str(refused.value)
    shared(elsewhere, server.url, {"RANKGATE_STORE_PASSWORD": "s3cret"})

    async def work() -> None:
        environment = {"RANKGATE_STORE_PASSWORD_FILE": str(file)}
        async with reading(elsewhere, server.url, environment=environment) as store:
            await asyncio.sleep(0.5)
            assert (await one(store, elsewhere, user)).reason == "unreachable"
            file.write_text("s3cret\n")
            await whole(store)
            assert (await one(store, elsewhere, user)).reason == ""

    with caplog.at_level(logging.INFO):
        run(work())
    assert "WRONGPASS" in caplog.text
    assert "wr0ng" not in caplog.text
    assert "s3cret" not in caplog.text


def test_a_user_who_may_not_read_is_refused_and_then_left_alone(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server, user = redis_server(), elsewhere.user_ids[0]
    shared(elsewhere, server.url)
    server.ask("ACL", "SETUSER", "pod", "on", ">pw", f"%R~{mark_key(elsewhere.user_set).decode()}", "+@read", "+ping")
    url = server.url.replace("redis://", "redis://pod@")

    async def work() -> None:
        async with reading(elsewhere, url, environment={"RANKGATE_STORE_PASSWORD": "pw"}) as store:
            await whole(store)
            reasons = [(await one(store, elsewhere, user)).reason for _ in range(7)]
            assert reasons == ["refused"] * 5 + ["resting"] * 2

    run(work())


@asynccontextmanager
async def slowly(port: int, seconds: Callable[[], float]) -> AsyncIterator[str]:
    """A server in between, which holds every piece of a reply back for so long."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there = await asyncio.open_connection("127.0.0.1", port)

        async def copy(source: asyncio.StreamReader, into: asyncio.StreamWriter, wait: Callable[[], float]) -> None:
            try:
                while piece := await source.read(1 << 16):
                    await asyncio.sleep(wait())
                    into.write(piece)
            except (OSError, asyncio.CancelledError):
                pass
            finally:
                into.close()

        await asyncio.gather(copy(reader, there, lambda: 0.0), copy(there_reader, writer, seconds))

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def test_a_server_that_is_too_slow_for_the_budget_is_left_alone_until_it_is_quick_again(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server, user = redis_server(), elsewhere.user_ids[0]
    shared(elsewhere, server.url)
    delay = [0.0]

    async def work() -> None:
        async with slowly(server.port, lambda: delay[0]) as url, reading(elsewhere, url, budget=0.05) as store:
            await whole(store)
            delay[0] = 0.2
            began = time.monotonic()
            reasons = [(await one(store, elsewhere, user)).reason for _ in range(50)]
            assert time.monotonic() - began < 2.0
            assert reasons.count("late") <= 5
            assert reasons[-40:] == ["resting"] * 40
            await asyncio.sleep(2.5)
            assert not store.state().reached
            delay[0] = 0.0
            await found_again(store, elsewhere, user)

    run(work())


def test_a_store_that_fails_now_and_then_is_still_asked(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server, user = redis_server(), elsewhere.user_ids[0]
    shared(elsewhere, server.url)
    number = [0]

    def every_tenth() -> float:
        number[0] += 1
        return 0.4 if number[0] % 10 == 0 else 0.0

    async def work() -> None:
        async with slowly(server.port, every_tenth) as url, reading(elsewhere, url, budget=0.15) as store:
            await whole(store)
            for _ in range(100):
                await one(store, elsewhere, user)
            assert store.state().trips == 0
            assert store.state().outcomes["late"] >= 5
            assert store.state().outcomes[FOUND] >= 80

    run(work())


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_reply_that_came_while_the_process_was_busy_is_not_late(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    server, users = redis_server(), elsewhere.user_ids
    shared(elsewhere, server.url)

    async def work() -> None:
        async with reading(elsewhere, server.url, budget=0.1) as store:
            await whole(store)
            for user in users[:3]:
                asked = asyncio.ensure_future(one(store, elsewhere, user))
                # Longer than the budget: somebody else's list is scored meanwhile, right after the command was given or later.
                asyncio.get_running_loop().call_soon(time.sleep, 0.3)
                assert (await asked).reason == ""
                asked = asyncio.ensure_future(one(store, elsewhere, user))
                await asyncio.sleep(0)
                time.sleep(0.3)
                assert (await asked).reason == ""

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(work())


def test_a_deadline_that_leaves_no_time_is_not_spent_on_asking(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server = redis_server()
    shared(elsewhere, server.url)

    async def work() -> None:
        async with reading(elsewhere, server.url) as store:
            await whole(store)
            assert (await one(store, elsewhere, elsewhere.user_ids[0], seconds=-0.1)).reason == "hurried"

    run(work())


def test_what_a_deadline_leaves_beside_scoring_may_be_spent_on_asking(elsewhere: LoadedRanker) -> None:
    now = [100.0]
    held = Answerer(elsewhere, release="d" * 64, arm="", clock=lambda: now[0])
    ask = Ask("r", None, tuple(elsewhere.item_ids[:9]), 5)
    assert held.spare(ask) == float("inf")
    assert held.spare(replace(ask, deadline=100.5)) == pytest.approx(0.5)

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(elsewhere, name)

        def show(self, *words: Any, **said: Any) -> Any:
            now[0] += 0.2
            return elsewhere.show(*words, **said)

    held._ranker = Slow()  # type: ignore[assignment]
    for _ in range(80):
        held.answer(ask)
    assert held.spare(replace(ask, deadline=now[0] + 0.5)) == pytest.approx(0.3, abs=0.01)


def test_another_set_becomes_current_under_load_and_no_request_notices(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker, shop: Answerer, within: Answerer
) -> None:
    """One half of the fleet has swapped newer features in already, the other has not."""
    server, users = redis_server(), elsewhere.user_ids
    shared(elsewhere, server.url)
    newer = object.__new__(LoadedRanker)
    newer.__dict__.update(elsewhere.__dict__)
    newer.user_set = "5e" * 32
    in_service = [elsewhere]

    async def work() -> None:
        said = StoreSettings(address_of(server.url, {}), AMPLE)
        store = SharedStore(said, wanted=lambda: in_service[0].user_set)
        store.start()
        answered, swapped = [], 0

        async def load() -> None:
            nonlocal swapped
            number = 0
            while swapped < 300:
                user = users[number % len(users)]
                ranker = in_service[0]
                looked = await one(store, ranker, user)
                ask = Ask("r", user, tuple(elsewhere.item_ids[:20]), 5)
                answered.append((looked.reason, shop.answer(ask, looked).places == within.answer(ask).places))
                number += 1
                swapped += ranker is newer

        async def share() -> None:
            done = await asyncio.to_thread(shared, newer, server.url)
            assert done.previous == elsewhere.user_set
            in_service[0] = newer

        try:
            await whole(store)
            await asyncio.gather(load(), load(), share())
        finally:
            await store.close()
        assert set(answered) == {("", True)}

    run(work())


def test_published_features_have_a_set_of_their_own_that_a_service_asks_for_once_it_has_swapped(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker, shop: Answerer, small_ranker: Path, tmp_path: Path
) -> None:
    server = redis_server()
    refresh_ranker(small_ranker.parent / "snapshot", ranker=small_ranker, out=tmp_path)
    newer = elsewhere.refreshed(tmp_path)
    assert newer.users_elsewhere
    assert newer.user_set != elsewhere.user_set
    within = Answerer(LoadedRanker.open(small_ranker).refreshed(tmp_path), release="d" * 64, arm="")
    swapped = shop.over(newer)
    shared(elsewhere, server.url)

    async def work() -> None:
        async with reading(elsewhere, server.url) as store:
            await whole(store)
            ask = Ask("r", newer.user_ids[3], None, 20)
            # Swapped before its users were shared: its own tables answer, never another moment's users.
            looked = await one(store, newer, newer.user_ids[3])
            assert looked.reason == "unshared"
            assert lists(swapped.answer(ask, looked)) == lists(within.answer(ask))
            assert (await one(store, elsewhere, elsewhere.user_ids[3])).reason == ""
            await asyncio.to_thread(shared, newer, server.url)
            await asyncio.sleep(1.2)
            for user_id in newer.user_ids[:50]:
                looked = await one(store, newer, user_id)
                assert looked.reason == ""
                ask = Ask("r", user_id, None, 20, {"device": "mobile"})
                assert replace(swapped.answer(ask, looked), stages={}) == replace(within.answer(ask), stages={})

    run(work())


def test_a_set_that_is_not_whole_yet_is_not_used(redis_server: Callable[..., Any], elsewhere: LoadedRanker) -> None:
    server, user = redis_server(), elsewhere.user_ids[0]
    shared(elsewhere, server.url)
    server.ask("DEL", mark_key(elsewhere.user_set))

    async def work() -> None:
        async with reading(elsewhere, server.url) as store:
            await until(lambda: store.state().reached)
            assert (await one(store, elsewhere, user)).reason == "unshared"
            assert not store.state().whole

    run(work())


def test_who_speaks_no_redis_is_told_so(elsewhere: LoadedRanker, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        web = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"redis://127.0.0.1:{web.sockets[0].getsockname()[1]}"
        async with reading(elsewhere, url) as store:
            await asyncio.sleep(0.5)
            assert (await one(store, elsewhere, elsewhere.user_ids[0])).reason == "unreachable"
        web.close()

    with caplog.at_level(logging.WARNING):
        run(work())
    assert "needed a server that speaks the Redis protocol" in caplog.text


def certificates(folder: Path) -> tuple[Path, list[str]]:
    """An authority that vouches for `localhost`, and a server's options."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def name(said: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, said)])

    def certificate(subject: str, key: Any, signer: Any, *, authority: bool) -> Any:
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
        )
        return made.sign(signer, hashes.SHA256())

    keys = {who: ec.generate_private_key(ec.SECP256R1()) for who in ("authority", "localhost")}
    for who, key in keys.items():
        made = certificate(who, key, keys["authority"], authority=who == "authority")
        (folder / f"{who}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (folder / f"{who}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    options = [
        "--tls-cert-file", str(folder / "localhost.crt"), "--tls-key-file", str(folder / "localhost.key"),
        "--tls-ca-cert-file", str(folder / "authority.crt"), "--tls-auth-clients", "no",
    ]  # fmt: skip
    return folder / "authority.crt", options


def test_over_tls_the_servers_name_is_vouched_for(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker, tmp_path: Path
) -> None:
    authority, options = certificates(tmp_path)
    server, user = redis_server(tls=options), elsewhere.user_ids[0]
    trusting = {"RANKGATE_STORE_CA": str(authority)}
    with pytest.raises(
        InputError, match=r"cannot be reached \(its certificate does not hold: self-signed certificate in"
    ):
        shared(elsewhere, server.url)
    with pytest.raises(InputError, match=r"cannot be reached \(its certificate does not hold: IP address mismatch"):
        shared(elsewhere, server.url.replace("localhost", "127.0.0.1"), trusting)
    with pytest.raises(InputError, match=r"with TLS: rediss://|cannot be reached"):
        shared(elsewhere, server.url.replace("rediss", "redis"))
    shared(elsewhere, server.url, trusting)

    async def work() -> None:
        async with reading(elsewhere, server.url, environment=trusting) as store:
            await whole(store)
            assert (await one(store, elsewhere, user)).reason == ""

    run(work())


def test_metrics_tell_outcomes_by_reason_and_how_long_the_set_lasts(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server = redis_server()
    shared(elsewhere, server.url)

    async def work() -> None:
        async with reading(elsewhere, server.url) as store:
            await whole(store)
            await store.users(elsewhere, elsewhere.user_ids[:4], seconds=60.0)
            await one(store, elsewhere, elsewhere.user_ids[0], seconds=0.0)
            found = {
                (sample.name, *sample.labels.values()): sample.value
                for metric in StoreMetrics(store.state).collect()
                for sample in metric.samples
            }
            assert found["rankgate_store_reached",] == found["rankgate_store_whole",] == 1.0
            assert WEEK - 60 < found["rankgate_store_expires_seconds",] <= WEEK
            assert found["rankgate_store_users_total", FOUND] == 4.0
            assert found["rankgate_store_users_total", "hurried"] == 1.0
            assert {key[1] for key in found if key[0] == "rankgate_store_users_total"} == {FOUND, *REASONS}
            assert found["rankgate_store_seconds_count",] == 2.0

    run(work())


def test_the_environment_says_where_the_store_is_and_how_long_it_may_take() -> None:
    assert store_of({}, wanted=lambda: "") is None
    found = StoreSettings.of({"RANKGATE_STORE": "redis://store/2", "RANKGATE_STORE_BUDGET_MS": "2.5"})
    assert found == StoreSettings(Address("store", 6379, 2, "", False, "", None, None), 0.0025)
    for said in ("0", "-1", "nan", "soon", "1001"):
        with pytest.raises(InputError, match=r"needed milliseconds from 0\.1 to 1000"):
            StoreSettings.of({"RANKGATE_STORE": "redis://store", "RANKGATE_STORE_BUDGET_MS": said})
