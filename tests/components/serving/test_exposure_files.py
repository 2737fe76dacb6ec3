"""Files of the exposure log: what is written is read again, and damage takes only what it hits."""

from __future__ import annotations

import errno
import os
import struct
import tempfile
import time
import zlib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import InputError
from components.serving.contract import Answer, Place
from components.serving.exposure_files import (
    DAMAGED,
    TORN,
    Damage,
    ExposureFile,
    Shown,
    closed,
    files_in,
    line_of,
    make_room,
    read_exposures,
    read_file,
)

_BEGUN = datetime(2026, 5, 10, 9, tzinfo=UTC)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
places = st.lists(
    st.builds(
        Place,
        item_id=words,
        score=st.floats(width=32, allow_nan=False),
        rank=st.just(0),
        propensity=st.one_of(st.just(1.0), st.floats(0, 1, exclude_min=True)),
        explored=st.booleans(),
        source=st.sampled_from(["given", "popularity", "fallback"]),
    ),
    max_size=6,
).map(
    lambda found: tuple(
        Place(one.item_id, one.score, rank, one.propensity, one.explored, one.source)
        for rank, one in enumerate(found, start=1)
    )
)
lists = st.builds(
    Shown,
    at=st.datetimes(timezones=st.just(UTC)).map(lambda at: at.isoformat(timespec="microseconds")),
    request_id=words,
    user_id=st.none() | words,
    surface=words,
    context=st.dictionaries(words, words, max_size=3),
    release=words,
    arm=words,
    fallbacks=st.lists(st.sampled_from(["failed", "deadline"]), max_size=2).map(tuple),
    places=places,
)


def shown(number: int = 0, items: int = 3) -> Shown:
    return Shown(
        at="2026-05-10T09:00:00.000000+00:00",
        request_id=f"r{number}",
        user_id=f"u{number}",
        surface="home",
        context={"device": "phone"},
        release="9f2c" * 16,
        arm="stable",
        fallbacks=(),
        places=tuple(Place(f"i{rank}", 0.5, rank, 1.0, False, "given") for rank in range(1, items + 1)),
    )


def written(folder: Path, content: list[Shown]) -> Path:
    file = ExposureFile(folder, begun=_BEGUN)
    for one in content:
        file.append(line_of(one))
    file.close()
    return file.path


def read(path: Path) -> tuple[list[Shown], list[Damage]]:
    damages: list[Damage] = []
    return list(read_file(path, damaged=damages.append)), damages


@settings(max_examples=60, deadline=None)
@given(st.lists(lists, max_size=8))
def test_what_is_written_is_read_again_to_the_bit(content: list[Shown]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert read(written(Path(folder), content)) == (content, [])


@settings(max_examples=80, deadline=None)
@given(st.lists(lists, min_size=1, max_size=6), st.data())
def test_a_file_cut_anywhere_is_its_whole_lines_and_a_torn_tail(content: list[Shown], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), content)
        bytes_ = path.read_bytes()
        cut = data.draw(st.integers(0, len(bytes_)))
        path.write_bytes(bytes_[:cut])
        found, damages = read(path)
    whole = bytes_[:cut].count(b"\n")
    assert found == content[: max(0, whole - 1)]
    begins = bytes_[:cut].rfind(b"\n") + 1
    assert damages == ([Damage(path.name, begins, cut - begins, TORN)] if begins < cut else [])


@settings(max_examples=80, deadline=None)
@given(st.lists(lists, min_size=2, max_size=6), st.data())
def test_a_byte_that_changed_takes_its_own_line_and_no_other(content: list[Shown], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), content)
        bytes_ = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(bytes_) - 1))
        ends = bytes_[at] == ord("\n")
        bytes_[at] ^= data.draw(st.integers(1, 255).filter(lambda bits: bytes_[at] ^ bits != ord("\n")))
        path.write_bytes(bytes_)
        found, damages = read(path)
    hit = bytes_[:at].count(b"\n")
    gone = {hit, hit + 1} if ends else {hit}
    assert found == [one for number, one in enumerate(content, start=1) if number not in gone]
    assert len(damages) == 1


def test_half_a_surrogate_pair_is_a_question_mark_that_every_format_can_hold() -> None:
    assert b'"request_id":"r?"' in line_of(
        Shown("2026-05-10T09:00:00.000000+00:00", "r\ud800", None, "", {}, "", "", (), ())
    )


def test_scores_are_kept_as_the_32_bit_floats_that_they_are(tmp_path: Path) -> None:
    third = struct.unpack("f", struct.pack("f", 1 / 3))[0]
    places = tuple(Place(f"i{rank}", score, rank, 1.0, False, "given") for rank, score in enumerate((1 / 3, third), 1))
    one = Shown("2026-05-10T09:00:00.000000+00:00", "r", "u", "", {}, "", "", (), places)
    ((found,), _) = read(written(tmp_path, [one]))
    assert [place.score for place in found.places] == [third, third]


def test_the_moment_is_told_in_utc_whatever_zone_it_came_in() -> None:
    there = timezone(timedelta(hours=2))
    answer = Answer("r", (), "", "", (), {})
    moment = datetime(2026, 5, 10, 11, 0, 0, 123456, tzinfo=there)
    assert Shown.of(moment, "r", None, "", {}, answer).at == "2026-05-10T09:00:00.123456+00:00"


def test_a_list_of_twenty_takes_less_than_forty_bytes_a_place() -> None:
    assert len(line_of(shown(items=20))) < 40 * 20


def test_a_file_of_another_schema_is_refused_by_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, [shown()])
    content = path.read_bytes().replace(b"exposures/v1", b"exposures/v9")
    head, _, rest = content.partition(b"\n")
    path.write_bytes(b"%08x " % zlib.crc32(head[9:]) + head[9:] + b"\n" + rest)
    with pytest.raises(InputError, match=r"rankgate/exposures/v9.*needed.*rankgate/exposures/v1"):
        read(path)


def test_a_line_whose_checksum_holds_and_which_says_nothing_known_is_damage(tmp_path: Path) -> None:
    path = written(tmp_path, [shown()])
    with path.open("ab") as stream:
        for text in (b"{}", b"[]", b'{"at": 1}'):
            stream.write(b"%08x %b\n" % (zlib.crc32(text), text))
    found, damages = read(path)
    assert found == [shown()]
    assert [damage.kind for damage in damages] == [DAMAGED] * 3


def test_each_place_is_an_exposure_of_its_own(tmp_path: Path) -> None:
    written(tmp_path, [shown(1), shown(2)])
    found = list(read_exposures(tmp_path, damaged=pytest.fail))
    assert [(one.request_id, one.rank, one.item_id) for one in found] == [
        (f"r{number}", rank, f"i{rank}") for number in (1, 2) for rank in (1, 2, 3)
    ]
    assert {(one.user_id, one.at, one.arm, one.surface) for one in found if one.request_id == "r1"} == {
        ("u1", "2026-05-10T09:00:00.000000+00:00", "stable", "home")
    }


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert files_in(tmp_path / "none") == []


def test_a_file_is_open_until_it_is_closed_even_to_its_own_process(tmp_path: Path) -> None:
    file = ExposureFile(tmp_path, begun=_BEGUN)
    with closed(file.path) as free:
        assert not free
    file.close()
    with closed(file.path) as free:
        assert free


def test_what_is_being_read_is_not_taken_alone_and_others_may_read_too(tmp_path: Path) -> None:
    path = written(tmp_path, [shown()])
    with closed(path) as reading, closed(path) as another, closed(path, alone=True) as alone:
        assert (reading, another, alone) == (True, True, False)


def test_a_disk_that_fills_up_within_a_write_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ExposureFile(tmp_path, begun=_BEGUN)
    file.append(line_of(shown(1)))
    room = [10]
    write = os.write

    def little(descriptor: int, content: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content[: room.pop()])

    with monkeypatch.context() as full:
        full.setattr(os, "write", little)
        with pytest.raises(OSError, match="No space"):
            file.append(line_of(shown(2)))
    file.append(line_of(shown(3)))
    file.close()
    assert read(file.path) == ([shown(1), shown(3)], [])


def test_a_file_that_cannot_be_begun_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        ExposureFile(tmp_path, begun=_BEGUN)
    assert not list(tmp_path.iterdir())


def test_a_file_that_somebody_removed_is_gone(tmp_path: Path) -> None:
    file = ExposureFile(tmp_path, begun=_BEGUN)
    assert not file.gone
    file.path.unlink()
    assert file.gone
    file.close()


def _closed_files(folder: Path, count: int) -> list[Path]:
    paths = []
    for number in range(count):
        file = ExposureFile(folder, begun=_BEGUN + timedelta(seconds=number))
        file.append(line_of(shown(number)))
        file.close()
        paths.append(file.path)
    return paths


def test_room_is_made_by_the_oldest_closed_files_and_never_by_one_that_is_written(tmp_path: Path) -> None:
    growing = ExposureFile(tmp_path, begun=_BEGUN - timedelta(days=1))
    paths = _closed_files(tmp_path, 4)
    size = paths[0].stat().st_size
    # Room for the one that grows, one that begins, and two closed ones.
    removed = make_room(tmp_path, most_bytes=4 * size, file_bytes=size, opening=1, oldest=0.0)
    assert (removed.files, removed.bytes) == (2, 2 * size)
    assert files_in(tmp_path) == [growing.path, *paths[2:]]
    growing.close()


def test_exactly_as_many_bytes_as_allowed_stay(tmp_path: Path) -> None:
    size = _closed_files(tmp_path, 3)[0].stat().st_size
    assert make_room(tmp_path, most_bytes=3 * size, file_bytes=size, opening=0, oldest=0.0).files == 0
    assert make_room(tmp_path, most_bytes=3 * size - 1, file_bytes=size, opening=0, oldest=0.0).files == 1


def test_what_is_too_old_goes_however_much_room_there_is(tmp_path: Path) -> None:
    old, new = _closed_files(tmp_path, 2)
    os.utime(old, (time.time() - 100, time.time() - 100))
    (tmp_path / "notes.txt").write_text("not ours")
    os.utime(tmp_path / "notes.txt", (0, 0))
    make_room(tmp_path, most_bytes=1 << 30, file_bytes=1, opening=0, oldest=time.time() - 50)
    assert files_in(tmp_path) == [new]
    assert (tmp_path / "notes.txt").exists()


def test_a_file_that_is_being_converted_is_not_removed(tmp_path: Path) -> None:
    (path,) = _closed_files(tmp_path, 1)
    with closed(path):
        make_room(tmp_path, most_bytes=0, file_bytes=1, opening=0, oldest=time.time() + 10)
        assert path.exists()
    make_room(tmp_path, most_bytes=0, file_bytes=1, opening=0, oldest=0.0)
    assert not path.exists()
