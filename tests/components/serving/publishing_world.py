"""A release of the small ranker, and newer tables for it; tests load this file by its path, processes that are killed run it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from components.approval.contract import SCHEMA_VERSION, Approval, Release
from components.approval.keys import new_key
from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.events.contract import DatasetContract
from components.events.declaration import load_contract
from components.serving.publishing import Published, Source, publish_features

END = datetime(2026, 5, 10, tzinfo=UTC)
"""When the small ranker's log was exported."""
NOW = END + timedelta(days=1)


@dataclass(frozen=True)
class Shop:
    """What a publisher has: newer tables, the run's contract and ranker, its release, a key."""

    folder: Path
    ranker: Path
    release: Release
    key: Path

    @property
    def trust(self) -> Path:
        return self.key.with_name(self.key.name + ".pub")

    def source(self, *, hours: float = 2.5, **changed: Any) -> Source:
        contract = load_contract(self.folder / "shop" / "dataset.yaml")
        return Source(
            contract=contract.model_copy(update=changed),
            base=self.folder / "shop",
            approved=documents.load(DatasetContract, self.folder / "snapshot" / "contract.json"),
            as_of=END + timedelta(hours=hours),
        )

    def publish(self, root: Path, *, hours: float = 2.5, **said: Any) -> Published:
        told: dict[str, Any] = {"keep": 3, "clock": lambda: NOW, "key": str(self.key), "publisher": "feed-job"}
        return publish_features(
            said.pop("source", None) or self.source(hours=hours),
            ranker=self.ranker,
            release=said.pop("release", self.release),
            root=root,
            **(told | said),
        )


def release_of(ranker: Path, digest: str = "d" * 64) -> Release:
    approval = Approval(
        schema_version=SCHEMA_VERSION,
        run="shop-1",
        decision="approved",
        approver="rita",
        submitter="ada",
        reason="read",
        decided_at="2026-11-23T00:00:00+00:00",
        card="a" * 64,
        verdict="b" * 64,
        ranker=digest_tree(ranker),
        policy="c" * 64,
    )
    return Release(digest=digest, approval=approval, key_id="e" * 64)


def shop_of(ranker: Path, keys: Path, digest: str = "d" * 64) -> Shop:
    """Of the small ranker, whose tables lie beside it; `digest` is its release's."""
    key = keys / "publisher.key"
    if not key.exists():
        new_key(key)
    return Shop(ranker.parent, ranker, release_of(ranker, digest), key)


def main() -> None:
    """Publish, and say on a line of its own what is being done; whoever started this kills it at one of them."""
    ranker, keys, root, hours, digest = sys.argv[1:]
    shop_of(Path(ranker), Path(keys), digest).publish(
        Path(root), hours=float(hours), progress=lambda message: print(message, flush=True)
    )
    print("done", flush=True)


if __name__ == "__main__":
    main()
