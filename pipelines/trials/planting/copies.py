"""Copies of a run's folders that share every file but those a harm changes."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from pipelines.trials.worlds import Parts


def copied(parts: Parts, out: Path, part: str, *, without: Collection[str] = ()) -> Parts:
    """The parts, with `part` (such as `rankings`) as a folder of its own in `out` whose files are links.

    Args:
        parts: The run.
        out: An existing folder.
        part: Name of a field of `Parts`.
        without: Files, relative to the folder, that the caller writes anew. A linked file must never be written to.
    """
    source: Path = getattr(parts, part)
    target = out / part
    for file in source.rglob("*"):
        relative = file.relative_to(source)
        if file.is_dir():
            (target / relative).mkdir(parents=True, exist_ok=True)
        elif relative.as_posix() not in without:
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            os.link(file, target / relative)
    return replace(parts, **{part: target})
