"""Tables in S3-compatible object storage: a real SeaweedFS on loopback, with and without credentials."""

from __future__ import annotations

import glob
import json
import os
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.errors import InputError
from components.events.declaration import parse_contract
from components.events.object_storage import matches
from components.events.sources import source_digests

from ...seaweedfs import Storage, free_ports


def at(shop: Any, place: str) -> Any:
    """The shop with its tables in object storage."""
    for name, table in shop.contract["tables"].items():
        table["path"] = f"{place}/{name}*"
    return shop


@pytest.mark.integration
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_tables_in_a_private_bucket_give_the_snapshot_that_local_ones_give(
    shop: Any, storage: Storage, owner_account: None, form: str
) -> None:
    local, _ = shop.take(form=form, cuts=[7])
    storage.put(shop.folder / "data-1", f"{storage.private}/{form}")
    remote, _ = at(shop, f"s3://{storage.private}/{form}").take(form=form)
    assert remote.digest == local.digest
    assert list(remote.sources) == [
        f"events: s3://{storage.private}/{form}/events-0.{form}",
        f"events: s3://{storage.private}/{form}/events-1.{form}",
        f"users: s3://{storage.private}/{form}/users.{form}",
        f"items: s3://{storage.private}/{form}/items.{form}",
    ]
    assert list(remote.sources.values()) == list(local.sources.values())


@pytest.mark.integration
def test_a_public_bucket_is_read_without_credentials_and_a_private_one_is_not(
    shop: Any, storage: Storage, no_account: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", storage.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # the more specific variable goes first
    base = shop.write()
    for bucket in (storage.public, storage.private):
        storage.put(base, f"{bucket}/open")
    snapshot, _ = at(shop, f"s3://{storage.public}/open").take()
    assert snapshot.tables[0].kept == 24
    with pytest.raises(InputError, match=r"s3://private-shop/open/events\*: cannot be read .*needed read access"):
        at(shop, f"s3://{storage.private}/open").take()


@pytest.mark.integration
def test_an_object_keeps_its_identity_until_its_content_changes(
    shop: Any, storage: Storage, owner_account: None
) -> None:
    base = shop.write()
    place = f"{storage.private}/identity"
    contract = parse_contract(json.dumps(at(shop, f"s3://{place}").contract).replace("*", "*.parquet"), subject="c")

    def digests() -> dict[str, str]:
        storage.put(base, place)
        return source_digests(contract, base=base)

    first = digests()
    assert set(first) == {
        f"events: s3://{place}/events-0.parquet",
        f"users: s3://{place}/users.parquet",
        f"items: s3://{place}/items.parquet",
    }
    assert digests() == first  # written again, same bytes
    (base / "users.parquet").write_bytes((base / "users.parquet").read_bytes()[:-1] + b"x")
    changed = digests()
    assert {key for key in first if changed[key] != first[key]} == {f"users: s3://{place}/users.parquet"}


@pytest.mark.integration
def test_what_is_not_in_the_bucket_is_named(shop: Any, storage: Storage, owner_account: None) -> None:
    for place in (
        f"s3://{storage.private}/nothing/events.parquet",
        f"s3://{storage.private}/nothing/*.parquet",
        "s3://no-such-bucket/*.parquet",
    ):
        shop.contract["tables"]["events"]["path"] = place
        with pytest.raises(InputError) as caught:
            shop.take()
        assert str(caught.value).startswith(f"{place}: ")
        assert "AWS_ENDPOINT_URL" in str(caught.value)


@pytest.mark.integration
def test_wrong_credentials_are_told_as_such(
    shop: Any, storage: Storage, owner_account: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "guessed")
    with pytest.raises(
        InputError, match=r"cannot be read .*Check AWS_ENDPOINT_URL, AWS_REGION and the AWS credentials"
    ):
        at(shop, f"s3://{storage.private}/parquet").take()


def test_storage_that_is_not_there_is_told_soon(shop: Any, no_account: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    started = time.monotonic()
    with pytest.raises(InputError, match=r"s3://shop/events\*: cannot be read"):
        at(shop, "s3://shop").take()
    assert time.monotonic() - started < 30


def test_a_pattern_in_the_name_of_the_bucket_is_refused(shop: Any, no_account: None) -> None:
    with pytest.raises(InputError, match=r"needed s3://bucket/ before any"):
        at(shop, "s3://sh*p/data").take()


names = st.text(st.sampled_from("ab.-1"), min_size=1, max_size=3)
pieces = st.text(st.sampled_from("ab.-1*?"), min_size=1, max_size=3) | st.sampled_from(["**", "[ab]", "[!a]*", "[]a]"])


def levels(kind: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(kind.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3)


@settings(max_examples=150, deadline=None, derandomize=True)
@example(paths=[["1"]], pattern=["1", "**"])
@given(paths=st.lists(levels(names), max_size=5), pattern=levels(pieces))
def test_patterns_mean_in_storage_what_they_mean_on_disk(
    tmp_path_factory: pytest.TempPathFactory, paths: list[list[str]], pattern: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    for path in paths:
        place = folder.joinpath(*path)
        if not place.exists() and not any(parent.is_file() for parent in place.parents):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    found = glob.glob("/".join(pattern), root_dir=folder, recursive=True)  # noqa: PTH207
    on_disk = {name for name in found if os.path.isfile(os.path.join(folder, name))}  # noqa: PTH113, PTH118
    assert {name for name in files if matches(name.split("/"), pattern)} == on_disk
