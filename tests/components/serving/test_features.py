"""What a service does with what is published: takes it up, or refuses it, tells it once, and goes on with what it has."""

from __future__ import annotations

import gc
import importlib.util
import logging
import shutil
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from components.approval.keys import new_key, open_signer
from components.artifacts import documents
from components.artifacts.digests import digest_bytes
from components.artifacts.files import write_atomically
from components.errors import InputError
from components.ranker.scoring import LoadedRanker
from components.serving import features_root
from components.serving.answering import Answerer
from components.serving.contract import Ask
from components.serving.features import FeatureWatch
from components.serving.features_contract import ENVELOPE_FILE, MANIFEST_FILE, POINTER
from components.serving.features_settings import FeatureSettings
from components.serving.features_statement import sign_publication
from components.serving.publishing import put_back


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


@pytest.fixture(scope="module")
def shop(small_ranker: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return world.shop_of(small_ranker, tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def published(shop: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with publications of hours 2 and 3; tests work on copies."""
    root = tmp_path_factory.mktemp("published")
    for hours in (2, 3):
        shop.publish(root, hours=hours)
    return root


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A watch of a root of its own, and its clock."""

    def __init__(self, shop: Any, root: Path, local: Path, **said: Any) -> None:
        self.clock, self.root, self.local, self.place = Clock(), root, local, root / shop.release.digest
        self.ranker = LoadedRanker.open(shop.ranker)
        self.settings = FeatureSettings(root, shop.trust, 1.0, local)
        self.watch = FeatureWatch(
            self.settings, release=said.get("release", shop.release), ranker=self.ranker, clock=self.clock
        )

    def take(self) -> LoadedRanker:
        opened = self.watch.look()
        assert opened is not None, self.watch.state()
        self.watch.took(opened)
        return opened.ranker

    def refused(self) -> dict[str, int]:
        assert self.watch.look() is None
        return {reason: count for reason, count in self.watch.state().refused.items() if count}


@pytest.fixture
def watched(shop: Any, published: Path, tmp_path: Path) -> Iterator[Watched]:
    root = tmp_path / "root"
    shutil.copytree(published, root, symlinks=True)
    one = Watched(shop, root, tmp_path / "local")
    yield one
    assert not list(one.local.glob("*")), "a copy was left behind"


def point(watched: Watched, digest: str) -> None:
    features_root.point_at(watched.place, digest)


def digests(watched: Watched) -> tuple[str, str]:
    """Of the publication of hour 2, and of hour 3."""
    current = features_root.read_pointer(watched.place)
    (other,) = set(features_root.digests_in(watched.place)) - {current}
    assert current
    return other, current


def test_what_is_published_is_taken_up_once(watched: Watched) -> None:
    _, second = digests(watched)
    state = watched.watch.state()
    assert (state.digest, state.swaps, state.looked_at) == ("", 0, 0.0)
    ranker = watched.take()
    assert ranker.latest_bucket == watched.ranker.latest_bucket + 3
    state = watched.watch.state()
    assert (state.digest, state.swaps, state.published_by) == (second, 1, "feed-job")
    assert state.looked_at > 0
    assert watched.watch.look() is None
    assert not any(watched.watch.state().refused.values())


def test_the_ranker_answers_from_a_copy_whatever_becomes_of_the_root(watched: Watched) -> None:
    ranker = watched.take()
    before = ranker.recommend(ranker.user_ids[0], k=10)
    shutil.rmtree(watched.root)
    assert ranker.recommend(ranker.user_ids[0], k=10) == before
    assert ranker.explain(None, ranker.item_ids[:3])


def test_a_root_without_anything_published_is_no_fault(shop: Any, tmp_path: Path) -> None:
    watched = Watched(shop, tmp_path / "nothing", tmp_path / "local")
    assert watched.refused() == {}
    assert watched.watch.state().looked_at > 0


def test_a_later_publication_follows_and_an_earlier_one_only_where_it_was_put_back(watched: Watched, shop: Any) -> None:
    first, second = digests(watched)
    watched.take()
    # Whoever can write to the volume, and has no key, cannot bring old features back.
    point(watched, first)
    assert watched.refused() == {"older": 1}
    put_back(first, root=watched.root, release=shop.release.digest, key=str(shop.key), publisher="rita")
    assert watched.take().latest_bucket == watched.ranker.latest_bucket + 2
    assert watched.watch.state().digest == first
    # Nor can the replaced signature of what was in service before.
    point(watched, second)
    assert watched.refused() == {"older": 2}


def test_a_publication_before_the_releases_own_is_refused_unless_it_is_meant(watched: Watched, shop: Any) -> None:
    _, second = digests(watched)
    later = watched.ranker.refreshed(watched.place / second)
    watch = FeatureWatch(watched.settings, release=shop.release, ranker=later)
    first, _ = digests(watched)
    point(watched, first)
    assert watch.look() is None
    assert watch.state().refused["older"] == 1


@pytest.mark.parametrize(
    ("where", "change"),
    [("release", {"digest": "f" * 64}), ("ranker", {"ranker": "0" * 64})],
)
def test_what_was_made_for_another_release_or_ranker_is_refused(
    watched: Watched, shop: Any, where: str, change: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    release = shop.release
    if where == "release":
        release = replace(release, **change)
        (watched.root / shop.release.digest).rename(watched.root / release.digest)
    else:
        release = replace(release, approval=replace(release.approval, **change))
    other = Watched(shop, watched.root, watched.local, release=release)
    with caplog.at_level(logging.INFO, "rankgate.features"):
        assert other.refused() == {"foreign": 1}
    assert f"{where}: found" in caplog.text


@pytest.mark.parametrize("name", ["users.parquet", "tables/trails.int64", "candidates/factors.npy", "items.parquet"])
def test_a_changed_file_is_refused_and_what_is_in_service_stays(watched: Watched, name: str) -> None:
    first, second = digests(watched)
    point(watched, first)
    watched.take()
    content = bytearray((watched.place / second / name).read_bytes())
    content[len(content) // 2] ^= 1
    (watched.place / second / name).write_bytes(content)
    point(watched, second)
    assert watched.refused() == {"changed": 1}
    assert watched.watch.state().digest == first


@pytest.mark.parametrize("name", [MANIFEST_FILE, ENVELOPE_FILE])
def test_no_byte_of_what_is_signed_may_change(watched: Watched, name: str) -> None:
    _, second = digests(watched)
    place = watched.place / second / name
    whole = place.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        content = bytearray(whole)
        content[at] ^= 1
        place.write_bytes(content)
        watched.clock.now += 10_000
        assert watched.watch.look() is None, at
    found = watched.watch.state().refused
    assert {reason for reason, count in found.items() if count} <= {"unsigned", "unreadable"}
    place.write_bytes(whole)
    watched.clock.now += 10_000
    watched.take()


def test_a_file_that_is_not_there_yet_is_asked_for_again_and_told_once(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    _, second = digests(watched)
    place, away = watched.place / second / "items.parquet", watched.root / "away"
    place.rename(away)
    with caplog.at_level(logging.INFO, "rankgate.features"):
        assert watched.refused() == {"unreadable": 1}
        for _ in range(5):
            watched.clock.now += 20.0
            assert watched.refused() == {"unreadable": 1}
        assert len([line for line in caplog.records if "refused" in line.message]) == 1
        away.rename(place)
        # Not at once: whatever is refused waits a little longer each time.
        assert watched.watch.look() is None
        watched.clock.now += 600.0
        watched.take()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_a_broken_pointer_is_told_once_until_it_is_whole_again(watched: Watched) -> None:
    _, second = digests(watched)
    for _ in range(3):
        (watched.place / POINTER).unlink()
        (watched.place / POINTER).write_text("nonsense")
        watched.clock.now += 1_000
        assert watched.refused() == {"unreadable": 1}
    (watched.place / POINTER).unlink()
    point(watched, second)
    watched.take()
    (watched.place / POINTER).unlink()
    (watched.place / POINTER).write_text("nonsense")
    assert watched.refused() == {"unreadable": 2}
    point(watched, "0" * 64)
    assert watched.watch.look() is None


def test_whose_key_is_taken_away_is_not_heard_any_more_without_a_restart(
    watched: Watched, shop: Any, tmp_path: Path
) -> None:
    trust = tmp_path / "trust"
    trust.mkdir()
    shutil.copy(shop.trust, trust / "feed.pub")
    watch = FeatureWatch(replace(watched.settings, trust=trust), release=shop.release, ranker=watched.ranker)
    new_key(tmp_path / "other.key")
    shutil.copy(tmp_path / "other.key.pub", trust / "other.pub")
    (trust / "feed.pub").unlink()
    assert watch.look() is None
    assert watch.state().refused["unsigned"] == 1
    # Where nobody is trusted any more, nothing is.
    (trust / "other.pub").unlink()
    watched.clock.now += 1_000
    assert watch.look() is None


def test_who_is_trusted_must_be_known_from_the_start(watched: Watched, shop: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="needed at least one"):
        FeatureWatch(replace(watched.settings, trust=tmp_path / "empty"), release=shop.release, ranker=watched.ranker)
    assert FeatureSettings.of({}) is None
    with pytest.raises(InputError, match=r"RANKGATE_FEATURES_TRUST: found nothing.*never served"):
        FeatureSettings.of({"RANKGATE_FEATURES": "/features"})
    for said in ("0", "-1", "nan", "often", "inf"):
        with pytest.raises(InputError, match="needed seconds from"):
            FeatureSettings.of(
                {
                    "RANKGATE_FEATURES": "/f",
                    "RANKGATE_FEATURES_TRUST": "/t",
                    "RANKGATE_FEATURES_POLL_SECONDS": said,
                }
            )


def test_features_that_hold_and_do_not_fit_the_ranker_are_refused(watched: Watched, shop: Any) -> None:
    """Signed by who may, and wrong all the same: tables as of another bucket than the manifest says."""
    _, second = digests(watched)
    opened = watched.watch.look()
    assert opened is not None
    manifest = replace(opened.signed.manifest, latest_bucket=opened.signed.manifest.latest_bucket + 1)
    content = documents.to_bytes(manifest)
    digest = digest_bytes(content)
    folder = watched.place / digest
    shutil.copytree(watched.place / second, folder)
    (folder / MANIFEST_FILE).write_bytes(content)
    publication = replace(opened.signed.publication, features=digest)
    write_atomically(folder / ENVELOPE_FILE, sign_publication(publication, manifest, signer=open_signer(str(shop.key))))
    point(watched, digest)
    assert watched.refused() == {"unfit": 1}


def test_what_cannot_be_warmed_up_is_refused_and_may_come_again(watched: Watched) -> None:
    opened = watched.watch.look()
    assert opened is not None
    watched.watch.refuse(opened, RuntimeError("no list"))
    assert watched.watch.state().refused["unfit"] == 1
    assert watched.watch.look() is None
    watched.clock.now += 100.0
    watched.take()


def test_what_was_swapped_out_is_gone_without_a_collection(watched: Watched, shop: Any) -> None:
    """A service freezes what it has opened: a cycle in it would never be collected, and every swap would leave a ranker."""
    answerer = Answerer(watched.take(), release="d" * 64, arm="")
    answerer.warm_up()
    gc.collect()
    gc.disable()
    try:
        shop.publish(watched.root, hours=4)
        later = answerer.over(watched.take())
        gone = weakref.ref(answerer.ranker), weakref.ref(answerer)
        answerer = later
        assert [one() for one in gone] == [None, None]
    finally:
        gc.enable()
    assert answerer.answer(Ask("r", None, None, 5)).places


def test_a_clock_that_goes_back_does_not_hide_what_is_published_later(watched: Watched, shop: Any) -> None:
    watched.take()
    done = shop.publish(watched.root, hours=4, clock=lambda: world.NOW - timedelta(hours=1))
    watched.take()
    assert watched.watch.state().digest == done.digest
