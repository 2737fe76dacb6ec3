"""A release as a pipeline hands it on: verified where it is let out, told in words beside it.

release.json    `Release`: what the approval lets out
release.md      the same for a reader
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from components.approval.approve import APPROVAL_FILE, verify_approval
from components.approval.contract import Release
from components.approval.keys import PUBLIC_SUFFIX
from components.artifacts import documents
from components.artifacts.files import write_atomically
from components.errors import Fault, FaultyInputError
from components.verdict.page import plain

RELEASE_FILE = "release.json"
WORDS_FILE = "release.md"
WAIVERS_FOLDER = "waivers"


def verify_in_cluster(places: Mapping[str, Path], *, run: str, trust: Mapping[str, str], out: Path) -> Release:
    """Check an approval and write what it lets out.

    Args:
        places: Folder of the approval, card, verdict, ranker and policy, by role.
        run: The run that should be released.
        trust: Text of the public keys whose word counts, by file name.
        out: Empty folder.

    Raises:
        NotApprovedError: If anything about the approval does not hold.
        InputError: If a key cannot be read, or there is none.
    """
    waivers = places["approval"] / WAIVERS_FOLDER
    with tempfile.TemporaryDirectory(prefix="rankgate-trust-") as folder:
        release = verify_approval(
            places["approval"] / APPROVAL_FILE,
            run=run,
            card=places["card"],
            verdict=places["verdict"],
            ranker=places["ranker"],
            policy=places["policy"],
            trusted=[_keys(trust, Path(folder))],
            at=datetime.now(UTC),
            waivers=waivers if waivers.is_dir() else None,
        )
    documents.save(release, out / RELEASE_FILE)
    write_atomically(out / WORDS_FILE, in_words(release).encode())
    return release


def read_trust(places: tuple[Path, ...]) -> dict[str, str]:
    """Text of public keys by file name, from files and from every `*.pub` in folders.

    Raises:
        InputError: If one is missing or is no public key, or two have the same name.
    """
    from components.approval.keys import open_trusted

    open_trusted(places)
    files = [
        path for place in places for path in (sorted(place.glob(f"*{PUBLIC_SUFFIX}")) if place.is_dir() else [place])
    ]
    names = [path.name for path in files]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise FaultyInputError(
            "trusted keys", [Fault(name, "two keys of this name", "one a name", "Rename one.") for name in twice]
        )
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(files, key=lambda path: path.name)}


def in_words(release: Release) -> str:
    """A release in Markdown."""
    approval = release.approval
    rows = [
        ("run", approval.run),
        ("approved by", f"{approval.approver}, with the key {release.key_id[:12]}"),
        ("at", approval.decided_at),
        ("submitted by", approval.submitter),
        ("reason", approval.reason or "none given"),
        *(("rests on the waiver of", f"{criterion} ({digest[:12]})") for criterion, digest in approval.waivers.items()),
        *((role, f"`{getattr(approval, role)}`") for role in ("card", "verdict", "ranker", "policy")),
    ]
    lines = [f"# Release `{release.digest[:16]}`", "", "| | |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {plain(value)} |" for name, value in rows), ""])


def _keys(trust: Mapping[str, str], folder: Path) -> Path:
    faults = [
        Fault("trusted keys", repr(name), f"a file name that ends in {PUBLIC_SUFFIX}")
        for name in trust
        if Path(name).name != name or not name.endswith(PUBLIC_SUFFIX)
    ]
    if faults:
        raise FaultyInputError("trusted keys", faults)
    for name, text in trust.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder
