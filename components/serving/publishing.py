"""Publishes features: newer tables become what a served ranker looks up, signed, and put in service by one change of a link.

    contract over newer tables -> snapshot -> users, items, tables, candidates -> opened once -> signed -> <digest>/ -> current

Stopped at any moment it leaves in service what was there. Everything it makes lies in a folder of its own until it is whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from components.approval.contract import Release
from components.approval.envelope import read_unchecked
from components.approval.keys import open_signer
from components.artifacts import documents
from components.artifacts.digests import digest_bytes, digest_file, digest_json, digest_tree, tree_files
from components.artifacts.files import write_atomically
from components.artifacts.progress import Progress, silent
from components.dataset.refreshing import check_same_meaning, contract_digest
from components.errors import Fault, FaultyInputError, InputError, NotApprovedError
from components.events.contract import DatasetContract
from components.events.snapshot import take_snapshot
from components.ranker.refreshing import refresh_ranker
from components.ranker.scoring import LoadedRanker
from components.serving import features_root
from components.serving.features_contract import (
    ENVELOPE_FILE,
    MANIFEST_FILE,
    SCHEMA_VERSION,
    FeatureManifest,
    Publication,
)
from components.serving.features_statement import predicate_of, sign_publication

_SHRUNK = 0.5
"""Users, items and events may become fewer; half of them gone is a table that is not whole."""


@dataclass(frozen=True, slots=True)
class Published:
    """What was put in service."""

    digest: str
    folder: Path
    manifest: FeatureManifest
    publication: Publication
    open_events: int
    """Left out, because their bucket was not over yet."""
    removed: tuple[str, ...]
    """Digests of the publications that made room."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A publication as it lies in a root, its signature unchecked: to show, never to serve."""

    digest: str
    current: bool
    manifest: FeatureManifest
    publication: Publication


@dataclass(frozen=True, slots=True)
class Source:
    """Newer tables, and the contract that the ranker was trained under."""

    contract: DatasetContract
    base: Path
    """Folder that relative paths of the contract start from."""
    approved: DatasetContract
    as_of: datetime
    """Moment the log is judged from: features are as of the bucket that it lies in, which knows all that came before."""


def release_root(root: Path, release: str) -> Path:
    """Where a root keeps the publications of one release: arms of a rollout share a volume, and look things up apart."""
    return root / release


def publish_features(
    source: Source,
    *,
    ranker: Path,
    release: Release,
    key: str,
    publisher: str,
    root: Path,
    keep: int,
    force: bool = False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    progress: Progress = silent,
) -> Published:
    """Build what the ranker of a release looks up from newer tables, sign it, and put it in service.

    Args:
        source: The tables.
        ranker: The approved ranker.
        release: The release that is served.
        key: Private key of the publisher: a file or a URI.
        publisher: Who publishes.
        root: Folder that services read.
        keep: How many publications of this release stay, the one in service among them; at least 1.
        force: Publish what is older than what is in service, what has shrunk, or what has gone stale.
        clock: Now, with its zone.
        progress: Told what is being done.

    Raises:
        NotApprovedError: If the ranker is not the release's.
        FaultyInputError: If the contract means something else than the approved one, too many rows are faulty, or, without
            `force`, the features would be older, far fewer, stale or as of a moment that has not come.
        InputError: If tables, key or root cannot be used.
    """
    if (found := digest_tree(ranker)) != release.approval.ranker:
        raise NotApprovedError(
            f"release {release.digest[:12]}: the ranker here is {found[:12]}; needed the approved {release.approval.ranker[:12]}."
        )
    check_same_meaning(source.contract, source.approved)
    signer = open_signer(key)
    place = release_root(root, release.digest)
    with features_root.publishing(place) as folder:
        with tempfile.TemporaryDirectory(prefix="rankgate-features-") as scratch:
            taken = take_snapshot(
                source.contract, base=source.base, as_of=source.as_of, out=Path(scratch), progress=progress
            )
            made = refresh_ranker(Path(scratch), ranker=ranker, out=folder, progress=progress)
        (cut,) = made.dataset.cuts
        served = LoadedRanker.open(ranker)
        manifest = FeatureManifest(
            schema_version=SCHEMA_VERSION,
            run=release.approval.run,
            release=release.digest,
            ranker=release.approval.ranker,
            contract=contract_digest(source.approved),
            feature_list=digest_json([documents.as_json(feature) for feature in made.dataset.features]),
            snapshot=taken.digest,
            latest_bucket=cut.bucket,
            as_of=cut.ts,
            events_until=made.events_until,
            events=made.events,
            users=made.dataset.users,
            items=made.dataset.items,
            files={name: digest_file(path) for name, path in tree_files(folder)},
        )
        before = current_of(place)
        older = manifest.latest_bucket < (before.manifest.latest_bucket if before else served.latest_bucket)
        if not force:
            _check_plausible(manifest, source, before=before, served=served, now=clock())
        progress("opening them once, as a service would")
        served.refreshed(folder).recommend(None, k=1)
        content = documents.to_bytes(manifest)
        digest = digest_bytes(content)
        publication = Publication(
            schema_version=SCHEMA_VERSION,
            features=digest,
            release=release.digest,
            published_by=publisher,
            published_at=_moment_after(list_features(root, release.digest), clock()),
            put_back=older,
        )
        progress("signing, and putting them in service")
        _put(folder, place, digest, content, sign_publication(publication, manifest, signer=signer))
        features_root.point_at(place, digest)
        order = [listed.digest for listed in list_features(root, release.digest)]
        removed = features_root.prune(place, order=order, keep=keep)
    return Published(digest, place / digest, manifest, publication, made.open_events, tuple(removed))


def put_back(
    digest: str,
    *,
    root: Path,
    release: str,
    key: str,
    publisher: str,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Listed:
    """Put a publication that still lies in the root in service again, with a new signature that says so.

    Args:
        digest: Of the publication, or as many of its first digits as name only it.
        root: Folder that services read.
        release: Digest of the release whose publications are meant.
        key: As in `publish_features`.
        publisher: As in `publish_features`.
        clock: As in `publish_features`.

    Raises:
        InputError: If there is none such, several, or its files are not those that were published.
    """
    signer = open_signer(key)
    place = release_root(root, release)
    if not place.is_dir():
        raise InputError(
            f"features {root}: found none of release {release[:12]}; needed some. Publish: rankgate features publish"
        )
    with features_root.locked(place):
        listed = [one for one in list_features(root, release) if one.digest.startswith(digest)]
        if len(listed) != 1:
            found = ", ".join(one.digest[:12] for one in listed or list_features(root, release)) or "none"
            raise InputError(
                f"features {digest}: found {len(listed)} publications of that digest in {place}; needed one of: {found}."
            )
        (chosen,) = listed
        _check_files(place / chosen.digest, chosen.manifest)
        if chosen.manifest.release != release:
            raise InputError(
                f"features {chosen.digest[:12]}: made for release {chosen.manifest.release[:12]}; needed {release[:12]}."
            )
        publication = replace(
            chosen.publication,
            published_by=publisher,
            published_at=_moment_after(list_features(root, release), clock()),
            put_back=True,
        )
        envelope = sign_publication(publication, chosen.manifest, signer=signer)
        write_atomically(place / chosen.digest / ENVELOPE_FILE, envelope)
        features_root.point_at(place, chosen.digest)
    return replace(chosen, publication=publication, current=True)


def check_features(folder: Path, *, ranker: Path) -> FeatureManifest:
    """The manifest of a publication's folder, made for a ranker, every byte of which is as it was published.

    Whose signature it has is not looked at: that is for whoever serves it to ask.

    Raises:
        InputError: If it is no such folder, was made for another ranker, or has changed.
    """
    manifest = documents.load(FeatureManifest, folder / MANIFEST_FILE)
    if (found := digest_tree(ranker)) != manifest.ranker:
        raise InputError(
            f"features {folder.name[:12]}: made for ranker {manifest.ranker[:12]}; needed {found[:12]}, which this is."
        )
    _check_files(folder, manifest)
    return manifest


def list_features(root: Path, release: str) -> list[Listed]:
    """Publications of a release, the latest signed first; folders that are none are left out."""
    place = release_root(root, release)
    current = features_root.read_pointer(place)
    found = [_listed(place / digest, current) for digest in features_root.digests_in(place)]
    return sorted((one for one in found if one), key=lambda one: one.publication.published_at, reverse=True)


def current_of(place: Path) -> Listed | None:
    """The publication that a release's part of a root points at; None where there is none that can be read."""
    current = features_root.read_pointer(place)
    return None if current is None else _listed(place / current, current)


def _listed(folder: Path, current: str | None) -> Listed | None:
    try:
        manifest = documents.load(FeatureManifest, folder / MANIFEST_FILE)
        envelope = read_unchecked((folder / ENVELOPE_FILE).read_bytes(), subject=f"features {folder.name[:12]}")
        publication = predicate_of(envelope.payload, f"features {folder.name[:12]}")
    except (InputError, NotApprovedError, OSError):
        return None
    return Listed(folder.name, folder.name == current, manifest, publication)


def _moment_after(others: Sequence[Listed], now: datetime) -> str:
    """Now, or just after the last signature where a clock says that this is yet to come: services take what was signed later."""
    for one in others:
        now = max(now, datetime.fromisoformat(one.publication.published_at) + timedelta(microseconds=1))
    return now.astimezone(UTC).isoformat(timespec="microseconds")


def _check_plausible(
    manifest: FeatureManifest, source: Source, *, before: Listed | None, served: LoadedRanker, now: datetime
) -> None:
    """Refuse features that somebody may well mean, but hardly ever does.

    Raises:
        FaultyInputError: Names all that is odd about them.
    """
    forced = "Check the tables; --force publishes all the same."
    faults = []
    bucket = served.latest_bucket if before is None else before.manifest.latest_bucket
    if manifest.latest_bucket < bucket:
        where = "the release's own" if before is None else f"{before.manifest.as_of}, in service now"
        faults.append(Fault("as of", manifest.as_of, f"no earlier than {where}", forced))
    if source.as_of > now + timedelta(minutes=1):
        faults.append(Fault("as of", source.as_of.isoformat(), f"a moment that has come ({now.isoformat()})", forced))
    silent_for = source.as_of - datetime.fromisoformat(manifest.events_until)
    if source.contract.freshness is not None and silent_for > source.contract.freshness:
        faults.append(
            Fault(
                "events",
                f"none in the last {silent_for / timedelta(hours=1):.0f} hours",
                f"one in the last {source.contract.freshness / timedelta(hours=1):.0f} (freshness of the contract)",
                forced,
            )
        )
    known = {"users": len(served.user_ids), "items": len(served.item_ids)}
    if before is not None:
        held = before.manifest
        known = {"users": held.users, "items": held.items, "events": held.events}
    for name, count in known.items():
        found: int = getattr(manifest, name)
        if found < _SHRUNK * count:
            faults.append(Fault(name, f"{found:,}", f"at least half of the {count:,} that are in service", forced))
    if faults:
        raise FaultyInputError(f"features of {manifest.run}", faults)


def _put(folder: Path, root: Path, digest: str, manifest: bytes, envelope: bytes) -> None:
    """Give the features their name; where they lie there whole already, only the envelope is new."""
    (folder / MANIFEST_FILE).write_bytes(manifest)
    (folder / ENVELOPE_FILE).write_bytes(envelope)
    there = root / digest
    if there.is_dir() and _files(there) == _files(folder):
        write_atomically(there / ENVELOPE_FILE, envelope)
        return
    features_root.place(folder, root, digest)


def _files(folder: Path) -> dict[str, str]:
    return {name: digest_file(path) for name, path in tree_files(folder) if name != ENVELOPE_FILE}


def _check_files(folder: Path, manifest: FeatureManifest) -> None:
    found = _files(folder)
    del found[MANIFEST_FILE]
    if found != manifest.files:
        names = sorted(
            name for name in found.keys() | manifest.files.keys() if found.get(name) != manifest.files.get(name)
        )
        raise InputError(
            f"features {folder.name[:12]}: {', '.join(names[:5])} changed since they were published; needed all as they were. "
            "Publish anew."
        )
