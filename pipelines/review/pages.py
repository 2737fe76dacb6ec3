"""Values to pages: the templates, their filters, and the files that every page needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from components.card.words import count, date, figure, interval, moment, segment, short, typeset

_FILTERS = {
    "count": count,
    "date": date,
    "figure": figure,
    "interval": interval,
    "moment": moment,
    "segment": segment,
    "short": short,
    "typeset": typeset,
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where each page lies, below the desk's random folder."""

    root: str

    def queue(self) -> str:
        return self.root

    def run(self, name: str) -> str:
        return f"{self.root}runs/{_part(name)}"

    def decide(self, name: str) -> str:
        return f"{self.run(name)}/decision"

    def card(self, name: str, digest: str) -> str:
        return f"{self.run(name)}/card/{digest}"

    def criterion(self, name: str, criterion: str) -> str:
        return f"{self.run(name)}/rules/{_part(criterion)}"

    def finding(self, name: str, criterion: str, number: int) -> str:
        return f"{self.criterion(name, criterion)}/{number}"

    def file(self, name: str) -> str:
        return f"{self.root}static/{name}"


def render(template: str, values: Mapping[str, object]) -> str:
    """A page; every value is escaped, an unknown one is an error."""
    return _environment().get_template(f"{template}.html.j2").render(values)


@cache
def static_files() -> dict[str, tuple[bytes, str]]:
    """Content and media type of each file that pages load: the card's own style with what the desk adds, and an icon."""
    environment = _environment()
    style = "\n".join(_source(environment, name) for name in ("card.css", "review.css"))
    return {
        "style.css": (style.encode(), "text/css; charset=utf-8"),
        "icon.svg": (_source(environment, "icon.svg").encode(), "image/svg+xml"),
    }


def _source(environment: Environment, name: str) -> str:
    loaders = {"card.css": PackageLoader("components.card", "templates")}
    loader = loaders.get(name) or PackageLoader("pipelines.review", "static")
    return loader.get_source(environment, name)[0]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipelines.review", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    return environment


def _part(name: str) -> str:
    return quote(name, safe="")
