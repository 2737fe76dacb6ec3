"""Writing a set of users to a real server: all of it or none is seen, whatever stops it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.digests import digest_bytes
from components.errors import InputError
from components.ranker.scoring import LoadedRanker
from components.serving import shared_store_writing
from components.serving.shared_store_address import address_of
from components.serving.shared_store_values import Mark, mark_key, pointer_key, progress_key, unpack, user_key
from components.serving.shared_store_wire import StoreError
from components.serving.shared_store_writing import Shared, share_users

pytestmark = pytest.mark.integration

DAY = 24 * 3_600


@pytest.fixture(scope="module")
def elsewhere(small_ranker: Path) -> LoadedRanker:
    return LoadedRanker.open(small_ranker, users_elsewhere=True)


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_store_writing, "_PORTION", 50)
    monkeypatch.setattr(shared_store_writing, "_PIPELINED", 7)


def share(ranker: LoadedRanker, url: str, *, keep: int = DAY, password: str = "", **said: Any) -> Shared:
    address = address_of(url, {"RANKGATE_STORE_PASSWORD": password})
    return asyncio.run(share_users(ranker, address, keep_seconds=keep, **said))


def expires(server: Any, key: bytes) -> int:
    return int(server.ask("EXPIRETIME", key).strip()[1:])


def test_every_user_is_there_and_then_the_mark_and_the_pointer(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker, small_ranker: Path
) -> None:
    server, told, now = redis_server(), [], time.time()
    done = share(elsewhere, server.url, progress=told.append)
    count, name = len(elsewhere.user_ids), digest_bytes((small_ranker / "ranker.json").read_bytes())
    assert (done.users, done.written, done.previous, done.ranker) == (count, count, "", name)
    assert now + DAY - 2 <= done.until <= now + DAY + 60
    assert told[0] == f"{count} users to write"
    assert told[-1] == f"{count} of {count} users"
    keys = {user_key(elsewhere.user_set, user) for user in elsewhere.user_ids}
    assert set(server.keys()) == {*keys, mark_key(elsewhere.user_set), pointer_key(name)}
    mark = Mark(elsewhere.user_set, count, done.until)
    assert Mark.parse(server.get(mark_key(elsewhere.user_set))) == Mark.parse(server.get(pointer_key(name))) == mark
    values = [server.get(user_key(elsewhere.user_set, user)) for user in elsewhere.user_ids[:5]]
    assert sum(map(len, values)) < done.value_bytes
    for user, value in zip(elsewhere.user_ids, values, strict=False):
        unpack(value, shape=elsewhere.shape, user_set=elsewhere.user_set, user_id=user)


def test_no_user_expires_before_the_mark_and_they_do_not_all_at_once(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server = redis_server()
    done = share(elsewhere, server.url)
    mark = expires(server, mark_key(elsewhere.user_set))
    users = [expires(server, user_key(elsewhere.user_set, user)) for user in elsewhere.user_ids]
    assert mark == done.until == expires(server, pointer_key(done.ranker))
    assert mark < min(users)
    assert max(users) <= mark + 3_601
    assert len(set(users)) > len(users) // 2


def test_a_set_that_is_there_is_not_written_again_until_half_its_time_is_over(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server = redis_server()
    first = share(elsewhere, server.url)
    again = share(elsewhere, server.url)
    assert (again.written, again.until, again.previous) == (0, first.until, elsewhere.user_set)
    longer = share(elsewhere, server.url, keep=3 * DAY)
    assert longer.written == longer.users
    assert longer.until > first.until + DAY
    assert expires(server, user_key(elsewhere.user_set, elsewhere.user_ids[0])) > longer.until
    assert share(elsewhere, server.url, again=True).written == first.users


def test_writing_twice_writes_the_same_bytes(redis_server: Callable[..., Any], elsewhere: LoadedRanker) -> None:
    server = redis_server()
    share(elsewhere, server.url)
    before = [server.get(user_key(elsewhere.user_set, user)) for user in elsewhere.user_ids]
    share(elsewhere, server.url, again=True)
    assert [server.get(user_key(elsewhere.user_set, user)) for user in elsewhere.user_ids] == before


class StoppedError(Exception):
    pass


def test_what_was_stopped_is_not_seen_and_goes_on_where_it_was(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server = redis_server()

    def stop(message: str) -> None:
        if message.startswith("100 of"):
            raise StoppedError

    with pytest.raises(StoppedError):
        share(elsewhere, server.url, progress=stop)
    assert server.get(mark_key(elsewhere.user_set)) == b""
    assert server.keys("*:current") == []
    assert len(server.keys("*:u:*")) == 100
    until = expires(server, progress_key(elsewhere.user_set))
    done = share(elsewhere, server.url)
    assert (done.written, done.until) == (done.users - 100, until)
    assert len(server.keys("*:u:*")) == done.users
    assert server.keys("*:progress") == []


def test_what_was_stopped_long_ago_begins_anew(redis_server: Callable[..., Any], elsewhere: LoadedRanker) -> None:
    server = redis_server()

    def stop(message: str) -> None:
        if message.startswith("100 of"):
            raise StoppedError

    with pytest.raises(StoppedError):
        share(elsewhere, server.url, progress=stop)
    later = share(elsewhere, server.url, clock=lambda: time.time() + 0.6 * DAY)
    assert later.written == later.users
    assert expires(server, user_key(elsewhere.user_set, elsewhere.user_ids[0])) > time.time() + 1.5 * DAY


def test_a_progress_that_cannot_be_read_is_no_progress(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server = redis_server()
    for said in ("", "nonsense", "[]", '{"layout": 1}', '{"layout": 7, "users": 9, "until": 9999999999}'):
        server.ask("FLUSHALL")
        server.ask("SET", progress_key(elsewhere.user_set), said)
        assert share(elsewhere, server.url).written == len(elsewhere.user_ids)


def test_the_set_that_was_current_stays_and_is_named(redis_server: Callable[..., Any], elsewhere: LoadedRanker) -> None:
    server = redis_server()
    share(elsewhere, server.url)
    newer = object.__new__(LoadedRanker)
    newer.__dict__.update(elsewhere.__dict__)
    newer.user_set = "5e" * 32
    done = share(newer, server.url)
    assert done.previous == elsewhere.user_set
    assert len(server.keys("*:u:*")) == 2 * done.users
    assert server.get(mark_key(elsewhere.user_set))
    # Back to the one before: it is still whole.
    back = share(elsewhere, server.url)
    assert (back.written, back.previous) == (0, newer.user_set)
    assert Mark.parse(server.get(pointer_key(done.ranker))) == Mark.parse(server.get(mark_key(elsewhere.user_set)))


def used(server: Any) -> int:
    said = server.ask("INFO", "memory").decode()
    return int(next(line for line in said.splitlines() if line.startswith("used_memory:")).partition(":")[2])


def test_a_store_that_runs_out_of_memory_is_told_and_nothing_is_seen(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server = redis_server("--maxmemory-policy", "noeviction")
    server.ask("CONFIG", "SET", "maxmemory", str(used(server) + 150_000))
    with pytest.raises(StoreError, match=r"out of memory \(OOM\); needed room for \d+ users") as refused:
        share(elsewhere, server.url)
    assert refused.value.exit_code == 2
    server.ask("CONFIG", "SET", "maxmemory", "0")
    assert server.get(mark_key(elsewhere.user_set)) == b""
    assert server.keys("*:current") == []
    assert 0 < len(server.keys("*:u:*")) < len(elsewhere.user_ids)
    # With more memory the same command goes on.
    assert share(elsewhere, server.url).users == len(server.keys("*:u:*"))


def test_a_store_that_evicts_while_it_is_written_to_is_told_and_nothing_is_seen(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server = redis_server("--maxmemory-policy", "allkeys-lru")
    server.ask("CONFIG", "SET", "maxmemory", str(used(server) + 150_000))
    with pytest.raises(StoreError, match=r"evicted keys .* \(maxmemory-policy allkeys-lru\)"):
        share(elsewhere, server.url)
    assert server.get(mark_key(elsewhere.user_set)) == b""
    assert server.keys("*:current") == []


def test_a_server_that_dies_meanwhile_is_told(redis_server: Callable[..., Any], elsewhere: LoadedRanker) -> None:
    server = redis_server()

    def kill(message: str) -> None:
        if message.startswith("100 of"):
            server.kill()

    with pytest.raises(StoreError, match="the connection was lost while it was written to"):
        share(elsewhere, server.url, progress=kill)


def test_a_server_that_does_not_answer_is_told(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = redis_server()
    monkeypatch.setattr(shared_store_writing, "_REPLY_SECONDS", 0.2)
    server.freeze()
    try:
        with pytest.raises(StoreError, match="was not answered"):
            share(elsewhere, server.url)
    finally:
        server.thaw()


def test_without_a_server_it_is_told_where_none_is(redis_server: Callable[..., Any], elsewhere: LoadedRanker) -> None:
    server = redis_server()
    server.kill()
    with pytest.raises(InputError, match=r"store redis://127\.0\.0\.1:\d+/0: cannot be reached \(Connection refused\)"):
        share(elsewhere, server.url)


def test_a_user_who_may_write_but_not_ask_for_figures_can_share(
    redis_server: Callable[..., Any], elsewhere: LoadedRanker
) -> None:
    server, told = redis_server(), []
    server.ask("ACL", "SETUSER", "job", "on", ">pw", "~rankgate:*", "+get", "+set", "+del", "+multi", "+exec", "+ping")
    server.ask("ACL", "SETUSER", "pod", "on", ">pw", "~rankgate:*", "+get", "+mget", "+ping")
    url = server.url.replace("redis://", "redis://job@")
    done = share(elsewhere, url, password="pw", progress=told.append)
    assert done.written == done.users
    assert "the store does not say whether it evicts (INFO is not permitted): not checked" in told
    assert done.store == f"{server.url}/0"
    with pytest.raises(StoreError, match="a write was refused"):
        share(elsewhere, url.replace("job@", "pod@"), password="pw", again=True)
