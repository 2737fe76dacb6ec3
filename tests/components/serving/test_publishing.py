"""Features as they are published: what is in them, what is refused, and what a kill leaves behind."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from shutil import copytree
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.approval.keys import new_key, open_trusted
from components.artifacts import documents
from components.artifacts.digests import digest_file, tree_files
from components.dataset.contract import Dataset
from components.errors import InputError, NotApprovedError
from components.events.declaration import load_contract
from components.ranker import scoring
from components.ranker.scoring import LoadedRanker
from components.serving import features_root
from components.serving.features_contract import ENVELOPE_FILE, MANIFEST_FILE, POINTER
from components.serving.features_statement import check_publication
from components.serving.publishing import check_features, list_features, put_back, release_root


def _world() -> Any:
    name, path = "publishing_world", Path(__file__).with_name("publishing_world.py")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


world = _world()
LATE_ITEM = 999_999


@pytest.fixture(scope="module")
def shop(small_ranker: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return world.shop_of(small_ranker, tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def published(shop: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A publication that nobody changes."""
    return shop.publish(tmp_path_factory.mktemp("published"))


def lists_of(ranker: LoadedRanker) -> list[list[tuple[str, float]]]:
    return [ranker.recommend(user, k=20) for user in (None, "nobody", *ranker.user_ids[:60])]


def test_published_as_of_the_release_cut_from_the_same_tables_nothing_is_shown_otherwise(
    shop: Any, tmp_path: Path
) -> None:
    own = LoadedRanker.open(shop.ranker)
    done = shop.publish(tmp_path, hours=0)
    assert done.manifest.latest_bucket == own.latest_bucket
    served = own.refreshed(done.folder)
    assert lists_of(served) == lists_of(own)
    user = own.user_ids[3]
    assert served.explain(user, own.item_ids[:5]) == own.explain(user, own.item_ids[:5])


def test_users_are_found_alike_however_many_they_are(
    shop: Any, published: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = LoadedRanker.open(shop.ranker)
    few = own.refreshed(published.folder)
    monkeypatch.setattr(scoring, "_MANY_USERS", 10)
    many = own.refreshed(published.folder)
    assert type(many.user_ids) is not type(few.user_ids)
    assert list(many.user_ids) == list(few.user_ids)
    assert lists_of(many) == lists_of(few)
    assert [many.knows_user(name) for name in (*few.user_ids, "nobody", "", "zz")] == [
        few.knows_user(name) for name in (*few.user_ids, "nobody", "", "zz")
    ]


def test_a_publication_is_named_by_its_content_signed_and_pointed_at(shop: Any, tmp_path: Path) -> None:
    done = shop.publish(tmp_path)
    place = release_root(tmp_path, shop.release.digest)
    assert done.folder == place / done.digest
    assert (place / POINTER).is_symlink()
    assert features_root.read_pointer(place) == done.digest == digest_file(done.folder / MANIFEST_FILE)
    signed = check_publication(done.folder, trusted=open_trusted([shop.trust]))
    assert (signed.manifest, signed.publication) == (done.manifest, done.publication)
    names = {name for name, _ in tree_files(done.folder)} - {MANIFEST_FILE, ENVELOPE_FILE}
    assert {name: digest_file(done.folder / name) for name in names} == done.manifest.files
    assert done.manifest.as_of == "2026-05-10T02:00:00+00:00"
    assert (done.manifest.release, done.manifest.ranker) == (shop.release.digest, shop.release.approval.ranker)
    # Said of this moment only beside the content: the same tables are the same publication, whoever signs whenever.
    again = shop.publish(tmp_path, publisher="another", clock=lambda: world.NOW + timedelta(hours=1))
    assert again.digest == done.digest
    assert again.publication.published_by == "another"
    assert again.publication.published_at > done.publication.published_at
    assert [one.digest for one in list_features(tmp_path, shop.release.digest)] == [done.digest]


def test_neither_model_nor_what_reviewers_measure_by_is_published(published: Any) -> None:
    done = published
    assert not [name for name in done.manifest.files if "model" in name or "calibration" in name]
    manifest = documents.load(Dataset, done.folder / "dataset.json")
    columns = pq.read_schema(done.folder / "users.parquet").names
    assert not set(columns) & {*manifest.segments, *manifest.sensitive}
    assert set(columns) > {"user", "user_id"}


@pytest.fixture
def newer(shop: Any, tmp_path: Path) -> Any:
    """The shop's tables with a user and an item that joined later, a user who asked to be forgotten, and a new category."""
    tables = tmp_path / "tables"
    tables.mkdir()
    base = shop.folder / "shop"
    contract = load_contract(base / "dataset.yaml")
    events = pa.concat_tables([pq.read_table(path) for path in sorted((base / "events").glob("*.parquet"))])
    users, items = pq.read_table(base / "users.parquet"), pq.read_table(base / "items.parquet")
    last = events.filter(pa.compute.equal(events["event"], "click")).slice(0, 40).to_pylist()
    moment = world.END + timedelta(hours=1)
    for place, row in enumerate(last):
        row |= {
            "user_id": "u-late",
            "item_id": LATE_ITEM if place % 2 else row["item_id"],
            "request_id": f"late-{place}",
        }
        row |= {name: moment + timedelta(seconds=place) for name in ("ts", "ingested_at") if name in row}
    known = users.to_pylist()[0]
    thing = items.to_pylist()[0] | {"item_id": LATE_ITEM, "category": "brand-new", "launched_at": moment}
    someone = known | {"user_id": "u-late", "consent": "granted"}
    forgotten = LoadedRanker.open(shop.ranker).user_ids[0]
    events = pa.concat_tables([events, pa.Table.from_pylist(last, events.schema)])
    pq.write_table(events.filter(pa.compute.not_equal(events["user_id"], forgotten)), tables / "events.parquet")
    users = pa.concat_tables([users, pa.Table.from_pylist([someone], users.schema)])
    pq.write_table(users.filter(pa.compute.not_equal(users["user_id"], forgotten)), tables / "users.parquet")
    pq.write_table(pa.concat_tables([items, pa.Table.from_pylist([thing], items.schema)]), tables / "items.parquet")
    held = {
        name: getattr(contract.tables, name).model_copy(update={"path": (f"{name}.parquet",)})
        for name in ("events", "users", "items")
    }
    moved = contract.model_copy(update={"tables": contract.tables.model_copy(update=held)})
    return replace(shop.source(), contract=moved, base=tables), forgotten


def test_who_and_what_came_later_is_known_and_who_left_is_not(shop: Any, newer: Any, tmp_path: Path) -> None:
    source, forgotten = newer
    own = LoadedRanker.open(shop.ranker)
    done = shop.publish(tmp_path / "root", source=source)
    served = own.refreshed(done.folder)
    assert not own.knows_user("u-late")
    assert served.knows_user("u-late")
    assert served.knows_items([str(LATE_ITEM)])
    assert not served.knows_user(forgotten)
    assert own.knows_user(forgotten)
    assert served.recommend("u-late", k=5) != served.recommend(None, k=5)
    # A category that the model never saw is none that it knows: unknown, not another's code.
    (why,) = served.explain("u-late", [str(LATE_ITEM)])
    values = {one.feature: one.value for one in why.contributions}
    assert values.get("item_category", "unknown") == "unknown"


def test_late_is_counted_by_the_bucket_in_which_it_became_known(shop: Any, newer: Any, tmp_path: Path) -> None:
    source, _ = newer
    # At a quarter past one the bucket that the new events fell in is not over.
    done = shop.publish(tmp_path / "root", source=replace(source, as_of=world.END + timedelta(hours=1, minutes=15)))
    assert done.open_events == 40
    assert done.manifest.as_of == "2026-05-10T01:00:00+00:00"


def test_what_is_older_than_what_is_in_service_is_refused_unless_it_is_meant(shop: Any, tmp_path: Path) -> None:
    first = shop.publish(tmp_path, hours=5)
    with pytest.raises(InputError, match=r"as of: found 2026-05-10T02:00:00.*in service now.*--force"):
        shop.publish(tmp_path, hours=2)
    assert features_root.read_pointer(first.folder.parent) == first.digest
    forced = shop.publish(tmp_path, hours=2, force=True)
    assert forced.publication.put_back
    assert features_root.read_pointer(first.folder.parent) == forced.digest
    assert not first.publication.put_back


def test_what_is_older_than_the_releases_own_is_refused(shop: Any, tmp_path: Path) -> None:
    source = shop.source(hours=-30)
    with pytest.raises(InputError) as raised:
        # The log holds events from after that moment; a contract of its own tolerates them as faulty.
        shop.publish(tmp_path, source=replace(source, as_of=world.END - timedelta(hours=1)))
    assert "the release's own" in str(raised.value) or "future" in str(raised.value)


def test_all_that_is_odd_about_the_tables_is_told_at_once(shop: Any, newer: Any, tmp_path: Path) -> None:
    source, _ = newer
    users = pq.read_table(source.base / "users.parquet")
    pq.write_table(users.slice(0, 20), source.base / "users.parquet")
    stale = replace(source, as_of=world.END + timedelta(days=3))
    with pytest.raises(InputError) as raised:
        shop.publish(tmp_path / "root", source=stale)
    said = str(raised.value)
    assert "events: found none in the last" in said
    assert "a moment that has come" in said
    assert "users: found" in said
    assert not features_root.digests_in(release_root(tmp_path / "root", shop.release.digest))


def test_a_changed_contract_is_refused_before_anything_is_read(shop: Any, tmp_path: Path) -> None:
    source = shop.source(bucket="day")
    with pytest.raises(InputError, match=r"bucket: found another value.*trained on it"):
        shop.publish(tmp_path, source=replace(source, base=tmp_path / "nowhere"))


def test_more_faulty_rows_than_the_contract_tolerates_stop_it_as_they_stop_a_run(
    shop: Any, newer: Any, tmp_path: Path
) -> None:
    source, _ = newer
    events = pq.read_table(source.base / "events.parquet")
    broken = pa.array([None if place % 10 == 0 else item for place, item in enumerate(events["item_id"].to_pylist())])
    place = events.column_names.index("item_id")
    pq.write_table(events.set_column(place, "item_id", broken), source.base / "events.parquet")
    with pytest.raises(InputError, match=r"rows faulty.*item_id missing"):
        shop.publish(tmp_path / "root", source=source)


def test_another_ranker_than_the_approved_one_is_not_published_for(shop: Any, tmp_path: Path) -> None:
    approval = replace(shop.release.approval, ranker="0" * 64)
    with pytest.raises(NotApprovedError, match="needed the approved 000000000000"):
        shop.publish(tmp_path, release=replace(shop.release, approval=approval))


def test_without_a_private_key_nothing_is_begun(shop: Any, tmp_path: Path) -> None:
    (tmp_path / "pub").write_bytes(shop.trust.read_bytes())
    (tmp_path / "pub").chmod(0o600)
    with pytest.raises(InputError, match="no usable PEM private key"):
        shop.publish(tmp_path / "root", key=str(tmp_path / "pub"))
    assert not (tmp_path / "root").exists()


def test_only_so_many_stay(shop: Any, tmp_path: Path) -> None:
    first, second = shop.publish(tmp_path, hours=2, keep=1), shop.publish(tmp_path, hours=3, keep=1)
    assert second.removed == (first.digest,)
    assert features_root.digests_in(second.folder.parent) == [second.digest]


def test_the_one_in_service_stays_however_old_it_is_and_then_the_latest(tmp_path: Path) -> None:
    digests = [letter * 64 for letter in "abcdef"]
    for digest in digests:
        (tmp_path / digest).mkdir()
    features_root.point_at(tmp_path, digests[3])
    # One of them is nothing that could be listed: it goes first.
    removed = features_root.prune(tmp_path, order=digests[:5], keep=3)
    assert removed == [digests[2], digests[4], digests[5]]
    assert features_root.digests_in(tmp_path) == [digests[0], digests[1], digests[3]]
    assert not list(tmp_path.glob(".publishing.*"))


def test_an_earlier_publication_is_put_back_with_a_signature_that_says_so(shop: Any, tmp_path: Path) -> None:
    first, second = (shop.publish(tmp_path, hours=hours) for hours in (2, 3))
    said = {"root": tmp_path, "release": shop.release.digest, "key": str(shop.key), "publisher": "rita"}
    # The clock stands still: signatures are in order all the same.
    used = put_back(first.digest, **said, clock=lambda: world.NOW)
    assert used.publication.put_back
    assert used.publication.published_at > second.publication.published_at > first.publication.published_at
    signed = check_publication(first.folder, trusted=open_trusted([shop.trust]))
    assert signed.publication == used.publication
    assert [one.digest for one in list_features(tmp_path, shop.release.digest) if one.current] == [first.digest]
    with pytest.raises(InputError, match=r"found 0 publications.*needed one of"):
        put_back("beef", **said)
    with pytest.raises(InputError, match="found 2 publications"):
        put_back("", **said)
    (second.folder / "items.parquet").write_bytes(b"other")
    with pytest.raises(InputError, match=r"items\.parquet changed since"):
        put_back(second.digest, **said)


def test_a_folder_is_held_against_its_manifest_and_the_ranker_it_was_made_for(
    shop: Any, published: Any, tmp_path: Path
) -> None:
    assert check_features(published.folder, ranker=shop.ranker) == published.manifest
    with pytest.raises(InputError, match="made for ranker"):
        check_features(published.folder, ranker=shop.folder / "snapshot")
    copytree(published.folder, tmp_path / published.digest)
    (tmp_path / published.digest / "items.parquet").unlink()
    with pytest.raises(InputError, match=r"items\.parquet changed since"):
        check_features(tmp_path / published.digest, ranker=shop.ranker)


def test_releases_share_a_root_and_see_nothing_of_one_another(shop: Any, tmp_path: Path) -> None:
    shop.publish(tmp_path, hours=2)
    other = replace(shop.release, digest="f" * 64)
    done = shop.publish(tmp_path, hours=1, release=other)
    assert [one.digest for one in list_features(tmp_path, other.digest)] == [done.digest]
    with pytest.raises(InputError, match="found 0 publications"):
        put_back(done.digest, root=tmp_path, release=shop.release.digest, key=str(shop.key), publisher="rita")


def test_a_volume_without_links_has_a_file_for_a_pointer(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refused)
    first, second = (shop.publish(tmp_path, hours=hours) for hours in (2, 3))
    place = first.folder.parent
    assert (place / POINTER).is_file()
    assert not (place / POINTER).is_symlink()
    assert features_root.read_pointer(place) == second.digest


@pytest.mark.parametrize("said", ["../elsewhere", "d" * 63, "", "D" * 64])
def test_a_pointer_to_anything_but_a_digest_beside_it_is_refused(tmp_path: Path, said: str) -> None:
    (tmp_path / POINTER).write_text(said)
    with pytest.raises(InputError, match="needed the digest of a publication beside it"):
        features_root.read_pointer(tmp_path)


def test_two_publishers_at_once_do_not_meet(shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_root, "_PATIENCE_SECONDS", 0.3)
    with (
        features_root.locked(release_root(tmp_path, shop.release.digest)),
        pytest.raises(InputError, match="another publisher is at work"),
    ):
        shop.publish(tmp_path)


@pytest.mark.integration
@pytest.mark.parametrize("at", ["building", "signing"])
def test_a_publisher_that_is_killed_leaves_in_service_what_was_there(
    shop: Any, small_ranker: Path, repository: Path, tmp_path: Path, at: str
) -> None:
    first = shop.publish(tmp_path, hours=2)
    place = first.folder.parent
    words = [str(world.__file__), str(small_ranker), str(shop.key.parent), str(tmp_path), "3", shop.release.digest]
    with subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(repository)},
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith(at):
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert features_root.read_pointer(place) in {first.digest, *features_root.digests_in(place)}
    for digest in features_root.digests_in(place):
        check_publication(place / digest, trusted=open_trusted([shop.trust]))
    if at != "signing":
        assert features_root.read_pointer(place) == first.digest
        assert [path.name for path in place.glob(".publishing.*")]
    after = shop.publish(tmp_path, hours=4)
    assert features_root.read_pointer(place) == after.digest
    assert not list(place.glob(".publishing.*"))


def test_a_key_that_is_not_trusted_signs_nothing_that_is_served(shop: Any, tmp_path: Path) -> None:
    new_key(tmp_path / "stranger.key")
    done = shop.publish(tmp_path / "root", key=str(tmp_path / "stranger.key"))
    with pytest.raises(NotApprovedError, match="not trusted here"):
        check_publication(done.folder, trusted=open_trusted([shop.trust]))
