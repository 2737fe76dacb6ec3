"""Artefacts in a real object storage: kept under their digest, fetched and checked."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from components.artifacts.digests import digest_tree
from components.errors import InputError
from components.events.object_folders import at_hand, digest_named, fetch_folder, keep_folder, named, split_name
from components.events.object_storage import store_object

from ...seaweedfs import Storage

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "ranker"
    (made / "tables" / "deep").mkdir(parents=True)
    (made / "ranker.json").write_text("{}")
    (made / "tables" / "deep" / "rows.parquet").write_bytes(b"\0\1" * 5000)
    (made / "empty").write_bytes(b"")
    return made


@pytest.mark.usefixtures("owner_account")
def test_a_folder_is_kept_under_its_digest_and_comes_back_byte_for_byte(
    folder: Path, tmp_path: Path, storage: Storage
) -> None:
    name = keep_folder(folder, f"s3://{storage.private}/rankgate")
    digest = digest_tree(folder)
    assert name == f"s3://{storage.private}/rankgate/objects/{digest[:2]}/{digest}#sha256={digest}"
    assert digest_named(name) == digest
    assert fetch_folder(name, tmp_path / "back") == digest
    assert digest_tree(tmp_path / "back") == digest
    with at_hand(name) as place:
        assert place
        assert digest_tree(place) == digest
    assert not place.exists()


@pytest.mark.usefixtures("owner_account")
def test_what_is_kept_is_not_written_again_but_half_a_folder_is(folder: Path, storage: Storage) -> None:
    place = split_name(keep_folder(folder, f"s3://{storage.private}/twice"))[0].removeprefix("s3://")
    storage.owner.delete_file(f"{place}/ranker.json")
    keep_folder(folder, f"s3://{storage.private}/twice")
    files = storage.owner.get_file_info(f"{place}/ranker.json")
    assert files.type.name == "NotFound"
    storage.owner.delete_file(f"{storage.private}/twice/complete/{digest_tree(folder)}")
    keep_folder(folder, f"s3://{storage.private}/twice")
    assert storage.owner.get_file_info(f"{place}/ranker.json").type.name == "File"


@pytest.mark.usefixtures("owner_account")
def test_what_was_put_there_instead_is_refused(folder: Path, tmp_path: Path, storage: Storage) -> None:
    name = keep_folder(folder, f"s3://{storage.private}/other")
    store_object(io.BytesIO(b'{"another": 1}'), f"{split_name(name)[0]}/ranker.json")
    with pytest.raises(InputError, match="Something else was put there"):
        fetch_folder(name, tmp_path / "back")


@pytest.mark.usefixtures("owner_account")
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, storage: Storage) -> None:
    with pytest.raises(InputError, match="found no object"):
        fetch_folder(f"s3://{storage.private}/nothing", tmp_path / "back")


@pytest.mark.usefixtures("no_account")
def test_without_an_account_nothing_is_written(folder: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", storage.endpoint)
    with pytest.raises(InputError, match=r"needed (read|write) access"):
        keep_folder(folder, f"s3://{storage.private}/refused")


def test_a_folder_on_this_machine_stays_where_it_is(folder: Path) -> None:
    with at_hand(str(folder)) as place:
        assert place == folder
    assert digest_named(str(folder)) == digest_tree(folder)
    with at_hand("") as nothing:
        assert nothing is None
    assert digest_named("") == ""


@pytest.mark.parametrize("name", ["folder", "s3://bucket/x#sha256=12", "gs://bucket/x"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="needed s3://bucket/folder"):
        split_name(name)


def test_a_step_does_not_take_a_place_whose_content_nobody_named() -> None:
    with pytest.raises(InputError, match="found no digest beside it"):
        digest_named("s3://bucket/ranker")
    assert digest_named(named("s3://bucket/ranker/", "0" * 64)) == "0" * 64
