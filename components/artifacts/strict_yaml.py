"""YAML as rankgate reads what a person declares: nothing repeated, nothing guessed, every fault of a file in one error.

A policy decides what is released and re-rank rules decide what is shown, so their text must mean what it seems to mean.
YAML 1.1 keeps the last of two equal keys, reads the country code NO as false, 1:30 as ninety and 2026-01-01 as a date; here a
repeated key is refused and only the words of YAML 1.2's core schema (true, false, null, decimal numbers) are anything but
text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from components.errors import Fault, FaultyInputError, InputError, nearest

M = TypeVar("M", bound=BaseModel)

Number = Annotated[float, Field(strict=True)]
"""A finite number; neither text nor true."""
Text = Annotated[str, Field(min_length=1)]


def _filled(value: tuple[Any, ...]) -> tuple[Any, ...]:
    if not value:
        raise ValueError("at least one")
    return value


Filled = AfterValidator(_filled)
"""Of a list: at least one entry. pydantic's min_length counts valid entries and tells a second fault where one is bad."""


class Declared(BaseModel):
    """Something that a person writes: unknown keys, NaN and infinities are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def read_model(kind: type[M], path: Path, *, subject: str) -> M:
    """A model from a YAML file.

    Raises:
        InputError: If the file cannot be read or is no YAML.
        FaultyInputError: If it does not hold a `kind`; names every fault.
    """
    return parse_model(kind, read_text(path, subject=subject), subject=subject)


def read_text(path: Path, *, subject: str) -> str:
    """Text of a file; InputError where it cannot be read."""
    try:
        # Not read_text: it would turn line ends, and the text's digest would not be the file's.
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"{subject}: cannot be read ({error.strerror}); needed a YAML file.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{subject}: is not UTF-8 text ({error.reason}); needed a YAML file.") from error


def parse_model(kind: type[M], text: str, *, subject: str) -> M:
    """As `read_model`, from text."""
    value = parse_value(text, subject=subject)
    if not isinstance(value, dict):
        raise InputError(f"{subject}: found {_named(value)}; needed a mapping with the keys {', '.join(_keys(kind))}.")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise FaultyInputError(subject, _faults(kind, error)) from error


def parse_value(text: str, *, subject: str) -> Any:
    """The plain value of a YAML text; InputError where it has none."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  a safe loader that guesses less
    except yaml.YAMLError as error:
        raise InputError(f"{subject}: not readable as YAML ({' '.join(str(error).split())}).") from error
    except RecursionError as error:
        raise InputError(f"{subject}: not readable as YAML (nested too deeply).") from error


class _Loader(yaml.CSafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  PyYAML's own name and type


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("merge", r"^<<$", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    # Base 10 whatever the leading zeros, as YAML 1.2 has it; YAML 1.1 reads 010 as eight.
    return int(str(loader.construct_scalar(node)))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    own = [str(key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    for place, (key, _) in enumerate(node.value):
        if isinstance(key, yaml.ScalarNode) and str(key.value) in own[:place]:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {str(key.value)!r} stands here a second time", key.start_mark
            )
    loader.flatten_mapping(node)
    return dict(loader.construct_mapping(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _faults(kind: type[BaseModel], error: ValidationError) -> list[Fault]:
    found = []
    for item in error.errors():
        way = item["loc"]
        where = ".".join(map(str, way)) or "document"
        if item["type"] == "extra_forbidden":
            known = _known_keys(kind, way[:-1])
            remedy = nearest(str(way[-1]), known) if known else ""
            found.append(Fault(where, "an unknown key", "a key of this format", remedy))
        elif item["type"] == "missing":
            found.append(Fault(where, "nothing", "a value"))
        else:
            needed = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            found.append(Fault(where, _named(item.get("input")), needed))
    return found


def _named(value: Any) -> str:
    if isinstance(value, dict):
        return f"a mapping with the keys {', '.join(map(str, value)) or '(none)'}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "nothing" if value is None else repr(value)[:80]


def _known_keys(kind: type[BaseModel], way: Sequence[Any]) -> list[str]:
    """Keys that the format knows at a place; empty where the place's names are the writer's own."""
    model: type[BaseModel] | None = kind
    for part in way:
        if isinstance(part, int):
            continue
        held = [] if model is None else [f for name, f in model.model_fields.items() if (f.alias or name) == part]
        # Otherwise `part` is a name of the writer's own in a mapping, whose values are `model`.
        model = _model_in(held[0].annotation) if held else model
    return _keys(model) if model is not None else []


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation such as `tuple[Model, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)
