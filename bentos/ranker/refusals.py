"""What is refused, and in which words: the field, what was found, what was needed; never a place in our code."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from bentos.ranker.messages import BatchedRequest, ExplainRequest
from components.errors import Fault, nearest

_MOST_FAULTS = 5
_PART_LETTERS = 64
_PREAMBLE = re.compile(r"^\w+ should (?:be |have )?")

_IN_BATCH = re.compile(r"^requests\.\d+\.")
_FIELDS = {
    "path", "method", "body", "content-type", "x-deadline-ms", "service", "requests",
    *BatchedRequest.model_fields, *ExplainRequest.model_fields,
}  # fmt: skip

_words = reprlib.Repr()
_words.maxlevel, _words.maxlist, _words.maxdict, _words.maxstring, _words.maxlong = 2, 3, 3, 60, 40


class RefusedError(Exception):
    """A request that is not answered: a status of the 4xx or 503 and one sentence, or several."""

    def __init__(self, status: int, *faults: Fault, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(" ".join(map(str, faults)))
        self.status, self.headers = status, tuple(headers)
        self.where = tuple(dict.fromkeys(_field(fault.where) for fault in faults))
        """The fields, by our own names of them: what a client makes up is no business of a log."""


def _field(where: str) -> str:
    named = _IN_BATCH.sub("", where).partition(".")[0]
    return named if named in _FIELDS else "another"


def shown(value: object) -> str:
    """A value that a client sent, cut to what a sentence can hold."""
    return _words.repr(value)


def faults_of(error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """The first faults of a request, each by its field."""
    return [_fault(one, model) for one in error.errors(include_url=False, include_context=False)[:_MOST_FAULTS]]


def _fault(one: Mapping[str, Any], model: type[BaseModel]) -> Fault:
    where = ".".join(str(part)[:_PART_LETTERS] for part in one["loc"]) or "body"
    match one["type"]:
        case "missing":
            return Fault(where, "nothing", "this field")
        case "extra_forbidden":
            known = list(model.model_fields)
            return Fault(
                where, "an unknown field", "one of this route's", nearest(str(one["loc"][-1])[:_PART_LETTERS], known)
            )
        case "json_invalid":
            return Fault("body", f"no JSON ({one['msg'].removeprefix('Invalid JSON: ')})", "a JSON object")
        case "model_type" if where == "body":
            return Fault("body", shown(one["input"]), "a JSON object")
        case "value_error":
            return Fault(where, "too much", one["msg"].removeprefix("Value error, "))
        case _:
            return Fault(where, shown(one["input"]), _needed(one["msg"]))


def _needed(message: str) -> str:
    """`Input should be greater than 0` says what is needed after its first words, and nothing more after `, not`."""
    found = _PREAMBLE.sub("", message).partition(" after validation")[0]
    return found[:1].lower() + found[1:]
