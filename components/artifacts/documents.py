"""Contract dataclasses to canonical JSON and back, strictly.

Unknown keys, missing keys, NaN and other schema versions are refused.
"""

from __future__ import annotations

import json
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from components.artifacts.digests import canonical_json
from components.artifacts.files import write_atomically
from components.errors import Fault, FaultyInputError, InputError

T = TypeVar("T")


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
"""Made once a kind: making one costs more than reading a document with it."""


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def as_json(document: Any) -> Any:
    """The plain JSON value of a contract dataclass or model."""
    if isinstance(document, BaseModel):
        return document.model_dump(mode="json", by_alias=True)
    return _adapter(type(document)).dump_python(document, mode="json")


def to_bytes(document: Any) -> bytes:
    """Canonical JSON of a contract dataclass or model, newline at the end."""
    return canonical_json(as_json(document)) + b"\n"


def save(document: Any, path: Path) -> None:
    """Write a document whole or not at all."""
    write_atomically(path, to_bytes(document))


def load(kind: type[T], path: Path) -> T:
    """Read a document of one kind.

    Raises:
        InputError: If the file is absent, unreadable, of another schema version, or holds anything that `kind` does not.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); needed a {kind.__name__} document.") from error
    return parse(kind, content, subject=str(path))


def parse(kind: type[T], content: bytes, *, subject: str) -> T:
    """As `load`, from bytes; `subject` names them in errors."""
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
    except ValueError as error:
        raise InputError(f"{subject}: not valid JSON ({error}); needed a {kind.__name__} document.") from error
    _check_schema(kind, value, subject)
    try:
        document: T = _adapter(kind).validate_python(value)
    except ValidationError as error:
        faults = [
            Fault(".".join(map(str, item["loc"])) or "document", repr(item.get("input"))[:80], item["msg"])
            for item in error.errors()
        ]
        raise FaultyInputError(subject, faults) from error
    if unknown := _unknown_keys(value, as_json(document)):
        raise FaultyInputError(subject, unknown)
    return document


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number that a gate may read")


def _check_schema(kind: type[Any], value: Any, subject: str) -> None:
    if not is_dataclass(kind) or "schema_version" not in kind.__dataclass_fields__:
        return
    needed: int | None = getattr(sys.modules[kind.__module__], "SCHEMA_VERSION", None)
    found = value.get("schema_version") if isinstance(value, dict) else None
    if needed is not None and found != needed:
        raise InputError(
            f"{subject}: schema_version is {found!r}; this rankgate reads {kind.__name__} {needed}. "
            "Run the step that made it again, or use the rankgate version that wrote it."
        )


def _unknown_keys(found: Any, known: Any, where: str = "") -> list[Fault]:
    """Keys, at any depth, that the parsed document did not take over."""
    if isinstance(found, dict) and isinstance(known, dict):
        faults = []
        for key, value in found.items():
            place = f"{where}.{key}" if where else str(key)
            if key in known:
                faults += _unknown_keys(value, known[key], place)
            else:
                faults.append(Fault(place, "an unknown key", f"one of {', '.join(sorted(map(str, known)))}"))
        return faults
    if isinstance(found, list) and isinstance(known, list):
        return [
            fault
            for index, pair in enumerate(zip(found, known, strict=False))
            for fault in _unknown_keys(*pair, f"{where}.{index}")
        ]
    return []
