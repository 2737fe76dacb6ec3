"""The content-addressed store."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.artifacts.digests import digest_tree
from components.artifacts.store import SCHEMA_VERSION, StepRecord, Store
from components.errors import InputError, RankgateError


def _filled(store: Store, content: bytes = b"content") -> Path:
    folder = store.work_directory("step-out")
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_bytes(content)
    return folder


def _record(key: str, **outputs: str) -> StepRecord:
    return StepRecord(SCHEMA_VERSION, "step", key, outputs, 0.1, 0.2, 0.3)


def test_an_object_is_found_under_its_digest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.put(_filled(store))
    assert (store.get(digest) / "deep" / "file").read_bytes() == b"content"
    assert digest_tree(store.object_path(digest)) == digest


def test_putting_the_same_content_twice_keeps_one_object(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.put(_filled(store)) == store.put(_filled(store))
    assert len(list((tmp_path / "objects").glob("*/*"))) == 1
    assert not any((tmp_path / "work").iterdir())


def test_objects_are_read_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    place = store.get(store.put(_filled(store)))
    assert (place / "deep" / "file").stat().st_mode & 0o222 == 0


def _tamper(store: Store, digest: str) -> None:
    file = store.object_path(digest) / "deep" / "file"
    file.chmod(0o644)
    file.write_bytes(b"tampered")


def test_a_changed_object_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.put(_filled(store))
    _tamper(store, digest)
    with pytest.raises(RankgateError, match="something changed"):
        store.get(digest)


def test_an_unknown_object_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not in the store"):
        Store(tmp_path).get("0" * 64)


def test_a_recorded_step_is_recalled(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record = _record("k", out=store.put(_filled(store)))
    assert store.recall("k") is None
    store.record(record)
    assert store.recall("k") == record


def test_a_record_whose_object_is_gone_is_not_recalled(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.record(_record("k", out="0" * 64))
    assert store.recall("k") is None


def test_a_record_whose_object_was_changed_is_not_recalled_and_the_step_can_be_done_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.put(_filled(store))
    store.record(_record("k", out=digest))
    _tamper(store, digest)
    assert store.recall("k") is None
    assert store.put(_filled(store)) == digest
    assert store.recall("k") is not None


def test_an_unreadable_record_is_not_recalled(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.record(_record("k", out=store.put(_filled(store))))
    (tmp_path / "steps" / "k.json").write_bytes(b"{")
    assert store.recall("k") is None


def test_a_digest_is_read_off_the_name_inside_the_store_and_computed_outside(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    digest = store.put(_filled(store))
    link = tmp_path / "link"
    link.symlink_to(store.object_path(digest), target_is_directory=True)
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "file").write_bytes(b"content")
    assert store.digest_of(link) == store.digest_of(outside) == digest


def test_sweeping_removes_unfinished_outputs_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.put(_filled(store))
    _filled(store, b"unfinished")
    store.sweep()
    assert not (tmp_path / "work").exists()
    assert store.get(digest).exists()
