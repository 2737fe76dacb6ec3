"""What lies in a shared store, and what is refused of it: bytes in, the same user out or none."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from components.dataset.online import PartShape, UserPart
from components.errors import InputError
from components.ranker.stored_users import StoredUser
from components.serving.shared_store_address import PASSWORD_FILE_VARIABLE, PASSWORD_VARIABLE, address_of
from components.serving.shared_store_values import (
    DAMAGED,
    FOREIGN,
    OUTDATED,
    Mark,
    UnusableError,
    mark_key,
    pack,
    pointer_key,
    progress_key,
    unpack,
    user_key,
)
from components.serving.shared_store_wire import Failure, IncompleteError, command, parsed

SET = "ab" * 32
SHAPE = PartShape(3, 1, (("user_category", 2), ("user_item", 1), ("user_provider", 0)))
floats32 = st.floats(width=32)
numbers = arrays.arrays(np.int32, st.integers(0, 30), elements=st.integers(0, 2**31 - 1))


@st.composite
def stored(draw: st.DrawFn) -> tuple[PartShape, StoredUser]:
    """Users of any shape, with any bits in their numbers."""
    shape = PartShape(
        draw(st.integers(0, 6)),
        draw(st.integers(0, 2)),
        tuple((f"user_{number}", draw(st.integers(0, 4))) for number in range(draw(st.integers(0, 3)))),
    )
    pairs = []
    for _, columns in shape.pairs:
        count = draw(st.integers(0, 12))
        seconds = draw(arrays.arrays(np.int64, count, elements=st.integers(0, 2**31 - 1)))
        pairs.append((seconds, draw(arrays.arrays(np.float32, (count, columns), elements=floats32))))
    part = UserPart(
        draw(arrays.arrays(np.float32, shape.user, elements=floats32)),
        draw(arrays.arrays(np.float64, shape.prices, elements=st.floats())),
        tuple(pairs),
        draw(numbers),
    )
    return shape, StoredUser(part, draw(numbers))


def bits(user: StoredUser) -> list[tuple[bytes, tuple[int, ...], str]]:
    part = user.part
    held = [part.row, part.usual, *(array for pair in part.pairs for array in pair), part.taken, user.seen]
    return [(array.tobytes(), array.shape, str(array.dtype)) for array in held]


@settings(deadline=None)
@given(stored(), st.text(max_size=9))
def test_a_user_comes_back_to_the_bit(made: tuple[PartShape, StoredUser], user_id: str) -> None:
    shape, user = made
    value = pack(user, user_set=SET, user_id=user_id)
    assert bits(unpack(value, shape=shape, user_set=SET, user_id=user_id)) == bits(user)


def some_user() -> StoredUser:
    rng = np.random.default_rng(0)
    pairs = tuple(
        (np.arange(count, dtype=np.int64), rng.random((count, columns), np.float32))
        for count, (_, columns) in zip((3, 5, 2), SHAPE.pairs, strict=True)
    )
    part = UserPart(rng.random(3, np.float32), np.array([np.nan]), pairs, np.arange(4, dtype=np.int32))
    return StoredUser(part, np.arange(2, dtype=np.int32))


VALUE = pack(some_user(), user_set=SET, user_id="u1")


def test_the_layout_is_the_one_that_its_version_names() -> None:
    """Where this fails values mean something else than those that lie in stores: `LAYOUT` has to be raised with it."""
    part = UserPart(
        np.array([1.5, -2.0, np.inf], np.float32),
        np.array([0.25]),
        (
            (np.array([3]), np.array([[7.0, 8.0]], np.float32)),
            (np.array([1, 2]), np.array([[5.0], [6.0]], np.float32)),
            (np.empty(0, np.int64), np.empty((0, 0), np.float32)),
        ),
        np.array([9], np.int32),
    )
    value = pack(StoredUser(part, np.array([4, 2], np.int32)), user_set=SET, user_id="u1")
    head, counts = "72677501 58b1ac6f" + " abababab" * 4, "01000000 02000000 01000000 02000000 00000000 00000000"
    numbers = "00000000 0000d03f 0000c03f 000000c0 0000807f"
    pairs = "03000000 0000e040 00000041 01000000 02000000 0000a040 0000c040"
    items = "09000000 04000000 02000000"
    assert value.hex(" ", -4) == " ".join([head, counts, numbers, pairs, items])


def reason(value: bytes, *, shape: PartShape = SHAPE, user_set: str = SET, user_id: str = "u1") -> str:
    with pytest.raises(UnusableError) as refused:
        unpack(value, shape=shape, user_set=user_set, user_id=user_id)
    return refused.value.reason


@pytest.mark.parametrize("place", range(len(VALUE)))
def test_no_bit_can_be_turned_unseen(place: int) -> None:
    for bit in range(8):
        damaged = bytearray(VALUE)
        damaged[place] ^= 1 << bit
        assert reason(bytes(damaged)) in {DAMAGED, FOREIGN, OUTDATED}


@pytest.mark.parametrize("length", range(0, len(VALUE), 7))
def test_a_value_that_was_cut_is_damaged(length: int) -> None:
    assert reason(VALUE[:length]) == DAMAGED


def test_what_is_wrong_with_a_value_is_told_apart() -> None:
    assert reason(b"") == reason(b"hello, this is no user at all") == DAMAGED
    assert reason(VALUE + b"\0") == DAMAGED
    assert reason(VALUE, user_id="u2") == DAMAGED
    assert reason(VALUE, user_set="cd" * 32) == FOREIGN
    assert reason(VALUE[:3] + b"\0" + VALUE[4:]) == OUTDATED
    assert reason(VALUE[:3] + b"\2" + VALUE[4:]) == OUTDATED


def test_a_value_of_another_shape_under_this_sets_name_is_not_read() -> None:
    for other in (replace(SHAPE, user=4), replace(SHAPE, prices=0), replace(SHAPE, pairs=SHAPE.pairs[:2])):
        assert reason(VALUE, shape=other) == FOREIGN


def test_lengths_that_lie_are_refused_before_anything_is_read() -> None:
    lying = bytearray(VALUE)
    struct.pack_into("<I", lying, 24, 2**32 - 1)
    # With the right sum: whoever wrote it meant it.
    struct.pack_into("<I", lying, 4, zlib.crc32(bytes(lying[8:]), zlib.crc32(b"u1")))
    assert reason(bytes(lying)) == FOREIGN


def test_keys_are_of_one_set_each_and_no_user_can_be_called_as_a_set_is() -> None:
    assert user_key(SET, "u1") == b"rankgate:" + b"ab" * 16 + b":u:u1"
    keys = {user_key(SET, "whole"), mark_key(SET), progress_key(SET), pointer_key(SET), user_key(SET, ":whole")}
    assert len(keys) == 5
    assert user_key(SET, "käthe\n") == b"rankgate:" + b"ab" * 16 + b":u:" + "käthe\n".encode()


def test_a_mark_is_read_back_and_anything_else_is_none() -> None:
    mark = Mark(SET, 12, 1_800_000_000)
    assert Mark.parse(mark.to_bytes()) == mark
    for other in (b"", b"1", b"{}", b"[]", b'{"layout": 2, "set": "", "users": 1, "until": 1}', b"\xff"):
        assert Mark.parse(other) is None


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=4), st.integers(1, 40))
def test_replies_are_read_whole_however_they_come(texts: list[bytes], cut: int) -> None:
    said = command(*texts) + b"$-1\r\n:42\r\n-OOM no memory\r\n+OK\r\n*-1\r\n"
    found, place = [], 0
    while place < len(said):
        reply, place = parsed(said, place)
        found.append(reply)
    assert found == [texts, None, 42, Failure("refused", "OOM no memory"), b"OK", None]
    first = len(command(*texts))
    with pytest.raises(IncompleteError):
        parsed(said[: first - min(cut, first)], 0)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400\r\n", b"$x\r\n", b"$3\r\nabcd\r\n", b"\r\n"])
def test_what_is_no_reply_is_refused(said: bytes) -> None:
    with pytest.raises(ValueError, match=r"no reply|invalid literal|does not end"):
        parsed(said, 0)


def test_an_address_names_server_port_and_database() -> None:
    found = address_of("redis://pod@store.ranking:7000/3", {PASSWORD_VARIABLE: "s3cret"})
    assert (found.host, found.port, found.database, found.user, found.encrypted) == (
        "store.ranking",
        7000,
        3,
        "pod",
        False,
    )
    assert (str(found), found.secret()) == ("redis://store.ranking:7000/3", "s3cret")
    assert "s3cret" not in repr(found)
    plain = address_of("rediss://[::1]", {})
    assert (str(plain), plain.encrypted, plain.secret()) == ("rediss://[::1]:6379/0", True, "")
    assert address_of("valkey://store", {}).encrypted is False


def test_a_password_file_is_read_again_each_time(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    found = address_of("redis://store", {PASSWORD_FILE_VARIABLE: str(file), PASSWORD_VARIABLE: "other"})
    assert found.secret() == "first"
    file.write_text("second")
    assert found.secret() == "second"
    file.write_text("\n")
    with pytest.raises(InputError, match="found nothing in it"):
        found.secret()
    file.unlink()
    with pytest.raises(InputError, match="FileNotFoundError"):
        found.secret()


@pytest.mark.parametrize(
    "text",
    ["", "store:6379", "http://store", "redis://", "redis://store:x", "redis://store/a", "redis://store/0?x=1",
     "redis://u:s3cret@store", "s3cret://store", "redis://:s3cret@store/x", "redis://store/0/1"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InputError, match=r"address of the store \(RANKGATE_STORE, --to\): found") as refused:
        address_of(text, {})
    assert "s3cret@" not in str(refused.value)
    assert "needed" in str(refused.value)
