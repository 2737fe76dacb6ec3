"""A policy's folder as text, so that it can travel as a pipeline parameter and be fixed by the run's first step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from components.errors import InputError
from components.verdict.model_card import MODEL_CARD_FILE, resolve

POLICY_FILE = "policy.yaml"
_SUFFIXES = {".yaml", ".yml", ".json"}
# A pipeline parameter travels on a command line, whose single argument Linux bounds at 128 KiB.
_LARGEST_BYTES = 100_000


def pack(policy: Path, *, dataset: str = "") -> dict[str, str]:
    """Text of every YAML and JSON file in the folder of `policy` (the file or its folder), by relative POSIX path.

    Args:
        policy: The policy.
        dataset: Name of the dataset contract that it will judge: model-card.yaml is then what the team says of that one
            (`components.verdict.model_card.resolve`). Empty: the folder as it lies.

    Raises:
        InputError: If there is no policy, a file is not text, or all together are too large to travel.
    """
    folder = policy.parent if policy.is_file() else policy
    if not (folder / POLICY_FILE).is_file():
        raise InputError(
            f"policy {policy}: found no {POLICY_FILE} in {folder}; needed a policy folder such as policies/default."
        )
    files: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in _SUFFIXES:
            try:
                files[path.relative_to(folder).as_posix()] = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"policy {folder}: {path.name} cannot be read as text ({error}).") from error
    if dataset:
        files.pop(MODEL_CARD_FILE, None)
        if said := resolve(folder, dataset):
            files[MODEL_CARD_FILE] = said
    size = sum(len(text.encode()) for text in files.values())
    if size > _LARGEST_BYTES:
        raise InputError(
            f"policy {folder}: found {size:,} bytes of YAML and JSON; needed at most {_LARGEST_BYTES:,}, because the "
            "policy travels as a pipeline parameter. Make the samples smaller."
        )
    return files


def unpack(files: Mapping[str, str], folder: Path) -> Path:
    """Write a packed policy below `folder`; returns the path of its policy.yaml.

    Raises:
        InputError: If a path would leave the folder, or there is no policy.yaml.
    """
    for name, text in files.items():
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts:
            raise InputError(f"packed policy: found the path {name!r}; needed paths inside the policy's folder.")
        place = folder / relative
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    if POLICY_FILE not in files:
        raise InputError(f"packed policy: found {sorted(files)}; needed {POLICY_FILE} among them.")
    return folder / POLICY_FILE
