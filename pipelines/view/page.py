"""One self-contained page: facts, charts, a table, and a view of each file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from pipelines.report import number

# All but tab and line end, and the marks that turn the direction of writing
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Column:
    """Column of the table."""

    title: str  # words above it
    number: bool = False  # align right, and sort by value
    phone: bool = True  # show it on a narrow screen, too


@dataclass(frozen=True)
class Row:
    """One line of the table, and the section of its file."""

    name: str  # file, or whatever the line is about
    status: str  # `ok`, `failed`,
    group: str = ""  # kind of file, for the filter
    # text and value to sort by, one for each column after the name
    cells: tuple[tuple[str, float | str], ...] = ()
    error: str | None = None  # reason of a failure
    decision: str | None = None  # model and reason
    notes: tuple[str, ...] = ()  # sentences
    figures: tuple[tuple[str, str], ...] = ()  # names and values
    view: Any = None  # what to look at or listen to
    missing: str | None = None  # reason why there is no view


@dataclass(frozen=True)
class Chart:
    """Drawing with its title."""

    title: str
    drawing: Markup


@dataclass(frozen=True)
class Page:
    """Content of a report."""

    title: str  # what was done
    facts: Sequence[tuple[str, str]]  # totals, as values and their names
    columns: Sequence[Column]  # of the table, after the name
    rows: Sequence[Row]  # failures first
    charts: Sequence[Chart] = ()  # drawings
    notes: Sequence[str] = ()  # sentences about the whole
    first: str = "file"  # title of the column of names


def asset(name: str) -> str:
    """Read a file of this package."""
    return files(__package__).joinpath(name).read_text("utf-8")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Build the environment of the templates: everything is escaped, and a missing name is an error."""
    made = Environment(
        autoescape=True,
        loader=FunctionLoader(asset),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = number
    return made


def content_policy(scripts: Sequence[str] = ("view.js",), *, connect: str = "'none'") -> str:
    """Content policy of a page: its own script and style by their digests, and media inside the page.

    A script in a file name would not run even if it were not escaped.
    """
    allowed = " ".join(map(_digest, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_digest('view.css')}; img-src data: blob:; "
        f"media-src data: blob:; connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def _digest(name: str) -> str:
    digest = hashlib.sha256(asset(name).encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def as_html(page: Page) -> str:
    """Render a page with its style and script; control characters become question marks, as in a terminal."""
    import denoise

    html = (
        environment()
        .get_template("report.html")
        .render(
            page=page,
            policy=content_policy(),
            style=Markup(asset("view.css")),
            script=Markup(asset("view.js")),
            version=denoise.__version__,
            groups=sorted({row.group for row in page.rows if row.group}),
            statuses=list(dict.fromkeys(row.status for row in page.rows)),
            failed=[row for row in page.rows if row.error],
        )
    )
    return _CONTROL.sub("?", html)
