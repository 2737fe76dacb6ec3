"""YAML as rankgate reads what a person declares: nothing repeated, nothing guessed, every fault of a file in one error.

A policy decides what is released and re-rank rules decide what is shown, so their text must mean what it seems to mean.
YAML 1.1 keeps the last of two equal keys, reads the country code NO as false, 1:30 as ninety and 2026-01-01 as a date; here a
repeated key is refused and only the words of YAML 1.2's core schema (true, false, null, decimal numbers) are anything but
text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from components.errors import Fault, FaultyInputError, InputError, nearest

M = TypeVar("M", bound=BaseModel)

_DEEPEST = 100
"""Collections inside one another; no format of ours has ten."""

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
        value, repeated = read_value(text)
        if repeated:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {repeated[0].key!r} stands here a second time", repeated[0].mark
            )
    except yaml.YAMLError as error:
        raise InputError(f"{subject}: not readable as YAML ({' '.join(str(error).split())}).") from error
    return value


@dataclass(frozen=True, slots=True)
class Repeated:
    """A key that stands a second time in one mapping; lines count from 1."""

    key: str
    line: int
    first_line: int
    mark: Any
    """PyYAML's place of the second one."""


def read_value(text: str) -> tuple[Any, tuple[Repeated, ...]]:
    """The plain value of a YAML text, in which the last of equal keys holds, and every key that is repeated.

    Raises:
        yaml.YAMLError: If it is no YAML, or nested too deeply.
        ValueError: If a tag asks for a value that its text is not.
    """
    _check_depth(text)
    loader = _Loader(text)
    try:
        return loader.get_single_data(), tuple(loader.repeated)
    finally:
        loader.dispose()


def _check_depth(text: str) -> None:
    # libyaml reads any depth with a stack of its own; PyYAML's C composer recurses, and ends the process at some.
    depth = 0
    event: Any
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise yaml.composer.ComposerError(None, None, "nested too deeply", event.start_mark)


class _Loader(yaml.CSafeLoader):
    """A safe loader that guesses less."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  PyYAML's own name and type

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[Repeated] = []

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        # Before merges are laid under it: what a mapping says itself may go over what it merges.
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode):
                    name, line = str(key.value), key.start_mark.line + 1
                    if name in lines:
                        self.repeated.append(Repeated(name, line, lines[name], key.start_mark))
                    lines.setdefault(name, line)
        return super().construct_mapping(node, deep=deep)


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


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def _faults(kind: type[BaseModel], error: ValidationError) -> list[Fault]:
    found = []
    for item in error.errors():
        way = item["loc"]
        where = ".".join(map(str, way)) or "document"
        if item["type"] == "extra_forbidden":
            known = known_keys(kind, way[:-1])
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


def known_keys(kind: type[BaseModel], way: Sequence[Any]) -> list[str]:
    """Keys that a format knows at a place; empty where the place's names are the writer's own.

    Args:
        kind: The format.
        way: Keys and list positions that lead to the place, such as pydantic's `loc` without its last part.
    """
    held: Any = kind
    for part in way:
        held = next(_inside(held, part), None)
    return _keys(model) if (model := next(_models(held), None)) is not None else []


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _inside(annotation: Any, part: Any) -> Iterator[Any]:
    """What one part of a way leads to: a field of a model, a value of a mapping of the writer's own names, a list's entry."""
    for option in _options(annotation):
        origin, arguments = get_origin(option), get_args(option)
        if isinstance(part, int):
            yield from arguments[:1] if origin in (tuple, list) else ()
        elif origin is dict:
            yield arguments[1]
        else:
            for model in _models(option):
                yield from (f.annotation for name, f in model.model_fields.items() if (f.alias or name) == part)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The model in `Model` or `Model | None`."""
    yield from (held for held in _options(annotation) if isinstance(held, type) and issubclass(held, BaseModel))


def _options(annotation: Any) -> Iterator[Any]:
    """What an annotation allows, one by one: `int` and `None` of `Annotated[int | None, ...]`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _options(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for option in get_args(annotation):
            yield from _options(option)
    else:
        yield annotation
