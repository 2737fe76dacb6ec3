"""Values to pages: the Jinja environments, and what makes text from outside safe in Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from components.card.words import one_line

_MARKS = re.compile(r"([\\`*_\[\]<>|#&~!$])")
_LINE_MARKS = re.compile(r"^(\s*)([-+>]|\d+[.)])(?=\s|$)")


def html_page(values: Mapping[str, object]) -> str:
    """card.html: one file, its style inside."""
    environment = _environment(autoescape=True)
    loader = environment.loader
    if loader is None:  # pragma: no cover  # set two lines above
        raise RuntimeError("the environment has no loader")
    style, _, _ = loader.get_source(environment, "card.css")
    page = environment.get_template("card.html.j2").render(**values, style=Markup(style))  # noqa: S704  a file of ours
    return re.sub(r"\n{2,}", "\n", page)


def markdown_page(values: Mapping[str, object], matter: str) -> str:
    """card.md: the front matter, then the same figures."""
    page = _environment(autoescape=False).get_template("card.md.j2").render(**values, front_matter=matter)
    return re.sub(r"\n{3,}", "\n\n", page)


@cache
def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("components.card", "templates"),
        autoescape=autoescape,  # noqa: S701  Markdown is no HTML; every value of it goes through the `md` filter
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["md"] = markdown_text
    return environment


def markdown_text(text: object) -> str:
    """Text that Markdown shows as it is, on one line: names and reasons come from outside."""
    line = _MARKS.sub(r"\\\1", one_line(str(text)))
    return _LINE_MARKS.sub(r"\1\\\2", line)
