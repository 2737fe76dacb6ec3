"""The bill of materials of a packaged run, checked against the package that it lies in, and what it tells in short."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from components.artifacts.digests import digest_bytes
from components.errors import InputError
from components.package.sbom import SBOM_FILE
from pipelines.releasing import packaged
from pipelines.runs import Run


@dataclass(frozen=True, slots=True)
class Materials:
    """What a bill of materials tells."""

    serial: str
    sha256: str
    at: str
    bento: str
    model: str
    files: int
    metrics: int
    slices: int
    data: tuple[tuple[str, str], ...]
    """Name and sha256."""
    libraries: int
    licences: tuple[tuple[str, int], ...]
    """What libraries say of their licence, and how many say so; the most first."""


def read_materials(run: Run) -> bytes:
    """The document as it was packaged.

    Raises:
        InputError: If the run was not packaged, or the file is not the one that was.
    """
    package = packaged(run)
    place = run.folder / "package" / SBOM_FILE
    try:
        content = place.read_bytes()
    except OSError as error:
        raise InputError(
            f"{place}: cannot be read ({error.strerror}). Package again: rankgate package {run.name}"
        ) from error
    if (found := digest_bytes(content)) != package.sbom:
        raise InputError(
            f"{place}: found {found[:12]}; needed {package.sbom[:12]}, which was packaged. "
            f"Something changed it: rankgate package {run.name}"
        )
    return content


def in_short(content: bytes) -> Materials:
    """What stands in a document of ours."""
    document: dict[str, Any] = json.loads(content)
    kinds: dict[str, list[dict[str, Any]]] = {}
    for component in document["components"]:
        kinds.setdefault(component["type"], []).append(component)
    (model,), libraries = kinds["machine-learning-model"], kinds.get("library", [])
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    bento = document["metadata"]["component"]
    said = Counter(_licence(library) for library in libraries)
    return Materials(
        serial=document["serialNumber"],
        sha256=digest_bytes(content),
        at=document["metadata"]["timestamp"],
        bento=f"{bento['name']}:{bento['version']}",
        model=model["hashes"][0]["content"],
        files=len(model["components"]),
        metrics=len(metrics),
        slices=len({metric["slice"] for metric in metrics}),
        data=tuple((data["name"], data["hashes"][0]["content"]) for data in kinds["data"]),
        libraries=len(libraries),
        licences=tuple(sorted(said.items(), key=lambda pair: (-pair[1], pair[0]))),
    )


def _licence(library: dict[str, Any]) -> str:
    told = [held.get("expression") or held["license"]["name"] for held in library.get("licenses", [])]
    return ", ".join(told) or "not said"
