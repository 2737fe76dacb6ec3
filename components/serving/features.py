"""Newer features for a running service: looks at the root, checks what is new there, opens it beside what is in service.

    pointer -> envelope, by a trusted publisher's key -> manifest, of the served release -> every file, copied and hashed
            -> the ranker over them, handed out by `look` -> whoever serves swaps it in, and says so by `took`

Files are copied to a folder of this process's own while they are hashed: what is served are the bytes that were checked, whatever
becomes of the volume. The copy is mapped and unlinked, so it goes when the ranker goes. What does not hold is refused: told once,
counted, and tried again later, since a volume that is still being filled looks like one that was tampered with.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from components.approval.contract import Release
from components.approval.keys import open_trusted
from components.artifacts import documents
from components.artifacts.digests import digest_json
from components.errors import Fault, FaultyInputError, InputError, NotApprovedError, RankgateError
from components.ranker.scoring import LoadedRanker
from components.serving.features_contract import ENVELOPE_FILE, FeatureManifest, FeatureState, SignedPublication
from components.serving.features_root import read_pointer
from components.serving.features_settings import FeatureSettings
from components.serving.features_statement import check_publication

_LOG = logging.getLogger("rankgate.features")

UNREADABLE, UNSIGNED, FOREIGN, OLDER, CHANGED, UNFIT = (
    "unreadable", "unsigned", "foreign", "older", "changed", "unfit",
)  # fmt: skip
REFUSALS: Mapping[str, str] = {
    UNREADABLE: "The root, or a document in it, cannot be read.",
    UNSIGNED: "No trusted publisher's signature holds over it.",
    FOREIGN: "It was made for another release, ranker or feature list.",
    OLDER: "It is older than what is in service, and nobody signed that this is meant.",
    CHANGED: "A file is not the one that was published.",
    UNFIT: "The ranker cannot be opened over it.",
}
"""Every reason for which features are refused."""

_CHUNK = 1 << 20
_RETRY_FIRST, _RETRY_LAST = 15.0, 600.0


@dataclass(frozen=True, slots=True)
class Opened:
    """Features that hold, and the ranker over them."""

    signed: SignedPublication
    ranker: LoadedRanker
    seconds: float
    """That checking and opening took."""


class _RefusedError(Exception):
    def __init__(self, reason: str, error: Exception) -> None:
        super().__init__(str(error))
        self.reason = reason


_Identity = tuple[str, int, int, int]
"""Digest that is pointed at, and the envelope's time, size and inode: what a new signature changes."""


@dataclass(slots=True)
class _Refused:
    """What was refused last."""

    identity: _Identity | None = None
    retry_at: float = 0.0
    wait: float = _RETRY_FIRST


@dataclass(slots=True)
class _Counts:
    swaps: int = 0
    refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REFUSALS, 0))
    looked_at: float = 0.0


class FeatureWatch:
    """Looks for newer features of one release; from one thread at a time."""

    def __init__(
        self,
        settings: FeatureSettings,
        *,
        release: Release,
        ranker: LoadedRanker,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch a root; it need not be there yet, but somebody must be trusted.

        Args:
            settings: Where, and whose word counts.
            release: What is served.
            ranker: Its ranker, over features of its own.
            clock: Seconds.

        Raises:
            InputError: If no publisher's key can be read.
        """
        open_trusted([settings.trust])
        self._settings, self._release, self._clock = settings, release, clock
        self._place = settings.root / release.digest
        self._ranker = ranker
        self._features = digest_json([documents.as_json(feature) for feature in ranker.declared_features])
        self._served: SignedPublication | None = None
        self._identity: _Identity | None = None
        self._refused = _Refused()
        self._counts = _Counts()

    def state(self) -> FeatureState:
        """As of now; may be asked from any thread."""
        served = self._served
        return FeatureState(
            digest=served.digest if served else "",
            published_at=served.publication.published_at if served else "",
            published_by=served.publication.published_by if served else "",
            swaps=self._counts.swaps,
            refused=dict(self._counts.refused),
            looked_at=self._counts.looked_at,
        )

    def look(self) -> Opened | None:
        """What is newly published and holds, checked and opened; None where there is nothing new, or it is refused.

        Blocks, for as long as the volume and the opening take.
        """
        identity: _Identity | None = None
        try:
            try:
                digest = read_pointer(self._place)
                if digest is not None:
                    seen = (self._place / digest / ENVELOPE_FILE).stat()
                    identity = (digest, seen.st_mtime_ns, seen.st_size, seen.st_ino)
            except (OSError, InputError) as error:
                raise _RefusedError(UNREADABLE, error) from error
            if identity is None or digest is None or identity == self._identity:
                self._counts.looked_at = time.time()
                self._refused = _Refused()
                return None
            if identity == self._refused.identity and self._clock() < self._refused.retry_at:
                self._counts.looked_at = time.time()
                return None
            opened = self._opened(self._place / digest)
            self._counts.looked_at = time.time()
        except _RefusedError as refused:
            self._refuse(identity, refused)
            return None
        self._identity = identity
        return opened

    def took(self, opened: Opened) -> None:
        """What `look` gave is in service now."""
        self._served, self._ranker = opened.signed, opened.ranker
        self._refused = _Refused()
        self._counts.swaps += 1
        _LOG.info(
            "features %s in service: as of %s, published by %s at %s, %d users, %d items; opened in %.2f s",
            opened.signed.digest,
            opened.signed.manifest.as_of,
            opened.signed.publication.published_by,
            opened.signed.publication.published_at,
            opened.signed.manifest.users,
            opened.signed.manifest.items,
            opened.seconds,
        )

    def refuse(self, opened: Opened, error: Exception) -> None:
        """What `look` gave cannot be served after all; what is in service stays."""
        identity, self._identity = self._identity, None
        self._refuse(identity, _RefusedError(UNFIT, error), digest=opened.signed.digest)

    def _refuse(self, identity: _Identity | None, refused: _RefusedError, *, digest: str = "") -> None:
        again = identity is not None and identity == self._refused.identity
        # A root that cannot be read has no identity: it is told once until it can be read again.
        again = again or (identity is None and self._refused.retry_at > 0.0 and self._refused.identity is None)
        wait = min(self._refused.wait * 2, _RETRY_LAST) if again else _RETRY_FIRST
        self._refused = _Refused(identity, self._clock() + wait, wait)
        if again:
            return
        self._counts.refused[refused.reason] += 1
        _LOG.error(
            "features %s refused, %s: %s What was in service stays.",
            digest or (identity[0] if identity else str(self._place)),
            refused.reason,
            refused,
        )

    def _opened(self, folder: Path) -> Opened:
        began = time.monotonic()
        signed = self._checked(folder)
        local = Path(tempfile.mkdtemp(prefix="rankgate-features-", dir=self._local()))
        try:
            _take(folder, signed.manifest, local)
            try:
                ranker = self._ranker.refreshed(local)
                if ranker.latest_bucket != signed.manifest.latest_bucket:
                    raise InputError(
                        f"its tables are as of bucket {ranker.latest_bucket}; needed {signed.manifest.latest_bucket}."
                    )
            except Exception as error:
                # Whatever it is, a service that has features goes on with them.
                raise _RefusedError(UNFIT, error) from error
        finally:
            # What is open stays mapped; there is nothing to clean up after a kill but what is being opened just then.
            shutil.rmtree(local, ignore_errors=True)
        return Opened(signed, ranker, time.monotonic() - began)

    def _local(self) -> Path:
        try:
            self._settings.local.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _RefusedError(UNREADABLE, error) from error
        return self._settings.local

    def _checked(self, folder: Path) -> SignedPublication:
        """A publication by a trusted key, for this release, that may follow what is in service."""
        try:
            # Read anew: whose key was taken away is not heard any more, without a restart.
            signed = check_publication(folder, trusted=open_trusted([self._settings.trust]))
        except NotApprovedError as error:
            raise _RefusedError(UNSIGNED, error) from error
        except RankgateError as error:
            raise _RefusedError(UNREADABLE, error) from error
        manifest = signed.manifest
        needed = {
            "release": (manifest.release, self._release.digest),
            "ranker": (manifest.ranker, self._release.approval.ranker),
            "feature list": (manifest.feature_list, self._features),
        }
        if faults := [
            Fault(where, found[:12], f"{wanted[:12]}, which is served")
            for where, (found, wanted) in needed.items()
            if found != wanted
        ]:
            raise _RefusedError(FOREIGN, FaultyInputError(f"features {signed.digest[:12]}", faults))
        served = self._served
        if served is not None and signed.publication.published_at <= served.publication.published_at:
            raise _RefusedError(
                OLDER,
                InputError(
                    f"signed at {signed.publication.published_at}; needed later than {served.publication.published_at}, when "
                    "what is in service was. Go back with: rankgate features use"
                ),
            )
        if manifest.latest_bucket < self._ranker.latest_bucket and not signed.publication.put_back:
            raise _RefusedError(
                OLDER,
                InputError(
                    f"as of bucket {manifest.latest_bucket}; needed at least {self._ranker.latest_bucket}, which is in service."
                ),
            )
        return signed


def _take(folder: Path, manifest: FeatureManifest, into: Path) -> None:
    """Copy every file that is promised, and hold what was copied against its digest."""
    for name, digest in manifest.files.items():
        place = into / name
        found = hashlib.sha256()
        try:
            place.parent.mkdir(exist_ok=True)
            with (folder / name).open("rb") as source, place.open("wb") as copy:
                while chunk := source.read(_CHUNK):
                    found.update(chunk)
                    copy.write(chunk)
        except OSError as error:
            raise _RefusedError(UNREADABLE, error) from error
        if found.hexdigest() != digest:
            raise _RefusedError(
                CHANGED,
                InputError(f"{name} has sha256 {found.hexdigest()[:12]}; needed {digest[:12]}, as was published."),
            )
