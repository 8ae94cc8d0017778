"""Charts as SVG, drawn without a script; colours come from the style of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup

_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 16, 14, 44
_ROW = 22
_LABEL_LETTERS = 22
_MAP = (960, 540)  # width and height of a map
_THUMBNAILS = (18, 48)  # least and largest side of a picture there
_COLOURS = 8  # classes .c0 to .c7 of the style

Points = Sequence[tuple[float, float]]


def lines(series: Mapping[str, Points], x_title: str, y_title: str) -> Markup:
    """Draw a line with dots for each series, and a legend."""
    axes = _Axes([p for points in series.values() for p in points], x_title, y_title)
    drawn = [
        Markup('<g class="c{}"><polyline class="line" points="{}"/>{}</g>').format(
            index % _COLOURS,
            " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in points),
            _join(_dot(axes.x(x), axes.y(y), f"{name}: {y:.2f} at {x:g}") for x, y in points),
        )
        for index, (name, points) in enumerate(series.items())
    ]
    return axes.svg(_join(drawn), f"{y_title} over {x_title}") + _legend(series)


def scatter(points: Mapping[str, tuple[float, float]], x_title: str, y_title: str) -> Markup:
    """Draw a named dot for each model over a logarithmic axis; the frontier joins the best at their cost."""
    axes = _Axes(list(points.values()), x_title, y_title, log_x=True)
    best, frontier = -math.inf, []
    for x, y in sorted(points.values()):
        if y > best:
            best = y
            frontier.append(f"{axes.x(x):.1f},{axes.y(y):.1f}")
    drawn = [Markup('<polyline class="frontier" points="{}"/>').format(" ".join(frontier))]
    for index, (name, (x, y)) in enumerate(points.items()):
        left = axes.x(x) > _WIDTH * 0.7
        drawn.append(
            Markup(
                '<g class="c{}">{}<text class="name" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text></g>'
            ).format(
                index % _COLOURS,
                _dot(axes.x(x), axes.y(y), f"{name}: {y:.2f} at {x:.3g}"),
                axes.x(x) + (-8 if left else 8),
                axes.y(y) + 4,
                "end" if left else "start",
                name,
            )
        )
    return axes.svg(_join(drawn), f"{y_title} over {x_title}")


def names_map(
    points: Sequence[tuple[float, float, str]],
    groups: Sequence[str],
    pictures: Sequence[str | None],
    x_title: str,
    y_title: str,
) -> Markup:
    """Draw a dot or a thumbnail for each file, named where the pointer rests on it; one colour for a group.

    Args:
        points: Place and name of each file.
        groups: Group of each file, such as its folder.
        pictures: Thumbnail of each file as a data URI, or None.
    """
    axes = _Axes([(x, y) for x, y, _ in points], x_title, y_title, size=_MAP)
    side = min(
        max(round(0.4 * math.sqrt(math.prod(_MAP) / max(len(points), 1))), _THUMBNAILS[0]), _THUMBNAILS[1]
    )
    names = list(dict.fromkeys(groups))
    drawn = []
    for (x, y, name), group, picture in zip(points, groups, pictures, strict=True):
        place, colour = (axes.x(x), axes.y(y)), names.index(group) % _COLOURS
        if picture is None:
            drawn.append(Markup('<g class="c{}">{}</g>').format(colour, _dot(*place, name)))
            continue
        drawn.append(
            Markup(
                '<g class="c{0}"><title>{8}</title>'
                '<rect class="dot" x="{1:.1f}" y="{2:.1f}" width="{3}" height="{3}"/>'
                '<image href="{4}" x="{5:.1f}" y="{6:.1f}" width="{7}" height="{7}" '
                'preserveAspectRatio="xMidYMid slice"/></g>'
            ).format(
                colour,
                *(at - side / 2 - 2 for at in place),
                side + 4,
                picture,
                *(at - side / 2 for at in place),
                side,
                name,
            )
        )
    legend = _legend(names) if 1 < len(names) <= 2 * _COLOURS else Markup("")
    return axes.svg(_join(drawn), f"{y_title} over {x_title}") + legend


def dumbbells(rows: Sequence[tuple[str, float, float]], title: str) -> Markup:
    """Draw a row for each file: a ring before, a dot after, joined."""
    values = [value for _, *pair in rows for value in pair]
    low, high = _range(values)
    height = _TOP + _ROW * len(rows) + _BOTTOM
    left = 170

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (_WIDTH - left - _RIGHT)

    parts = [
        Markup(
            '<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
            '<text class="tick" x="{0:.1f}" y="{3}" text-anchor="middle">{4:g}</text>'
        ).format(x(tick), _TOP, height - _BOTTOM, height - _BOTTOM + 16, tick)
        for tick in _ticks(low, high)
    ]
    for number, (name, before, after) in enumerate(rows):
        y = _TOP + _ROW * (number + 0.5)
        parts.append(
            Markup(
                "<g><title>{0}: {2:.2f} to {3:.2f}</title>"
                '<text class="tick" x="{4}" y="{5:.1f}" text-anchor="end">{1}</text>'
                '<line class="stem" x1="{6:.1f}" x2="{7:.1f}" y1="{8:.1f}" y2="{8:.1f}"/>'
                '<circle class="ring" cx="{6:.1f}" cy="{8:.1f}" r="4.5"/>'
                '<circle class="{9}" cx="{7:.1f}" cy="{8:.1f}" r="5"/></g>'
            ).format(name, _short(name), before, after, left - 10, y + 4, x(before), x(after), y, "dot c0")
        )
    parts.append(
        Markup('<text class="title" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            (left + _WIDTH) / 2, height - 8, title
        )
    )
    return _svg(_join(parts), height, f"{title} of each file before (ring) and after (dot)")


def histogram(values: Sequence[float], title: str, shown: Sequence[float] = ()) -> Markup:
    """Draw counts of values in about twenty bins; those below zero in another colour.

    The axis reaches `shown`, too, which are not counted.
    """
    low, high = _range([*shown, *values])
    ticks = _ticks(low, high, 20)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    start = math.floor(low / step) * step
    count = max(1, math.ceil((high - start) / step))
    bins = [0] * count
    for value in values:
        bins[min(count - 1, max(0, int((value - start) / step)))] += 1
    axes = _Axes([(start, 0.0), (start + count * step, float(max(bins)))], title, "files", from_zero=True)
    parts = [
        Markup(
            '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
            "<title>{} files, {:.3g} to {:.3g}</title></rect>"
        ).format(
            "bar worse" if start + (n + 0.5) * step < 0 else "bar",
            axes.x(start + n * step) + 0.5,
            axes.y(number),
            max(1.0, axes.x(start + (n + 1) * step) - axes.x(start + n * step) - 1),
            axes.y(0) - axes.y(number),
            number,
            start + n * step,
            start + (n + 1) * step,
        )
        for n, number in enumerate(bins)
        if number
    ]
    return axes.svg(_join(parts), f"number of files over {title}")


class _Axes:
    """Two axes with a grid."""

    def __init__(
        self,
        points: Points,
        x_title: str,
        y_title: str,
        *,
        log_x: bool = False,
        from_zero: bool = False,
        size: tuple[int, int] = (_WIDTH, _HEIGHT),
    ) -> None:
        self._width, self._height = size
        xs, ys = [x for x, _ in points], [y for _, y in points]
        self._log, self._whole = log_x, from_zero
        self._titles = x_title, y_title
        self._x = _range([math.log10(max(x, 1e-12)) for x in xs] if log_x else xs, exact=not log_x)
        self._y = (0.0, max(ys) * 1.05 or 1.0) if from_zero else _range(ys)

    def x(self, value: float) -> float:
        low, high = self._x
        at = math.log10(max(value, 1e-12)) if self._log else value
        return _LEFT + (at - low) / (high - low) * (self._width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        return self._height - _BOTTOM - (value - low) / (high - low) * (self._height - _TOP - _BOTTOM)

    def svg(self, inner: Markup, label: str) -> Markup:
        parts = []
        for tick in _ticks(*self._y, 5, whole=self._whole):
            parts.append(
                Markup(
                    '<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>'
                    '<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{:g}</text>'
                ).format(_LEFT, self._width - _RIGHT, _LEFT - 8, self.y(tick) + 4, tick, y=self.y(tick))
            )
        for tick in self._x_ticks():
            parts.append(
                Markup(
                    '<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{}" y2="{}"/>'
                    '<text class="tick" x="{x:.1f}" y="{}" text-anchor="middle">{:g}</text>'
                ).format(_TOP, self._height - _BOTTOM, self._height - _BOTTOM + 17, tick, x=self.x(tick))
            )
        parts.append(
            Markup(
                '<text class="title" x="{}" y="{}" text-anchor="middle">{}</text>'
                '<text class="title" transform="translate(14 {}) rotate(-90)" text-anchor="middle">{}</text>'
            ).format(
                (_LEFT + self._width) // 2,
                self._height - 6,
                self._titles[0],
                (self._height - _BOTTOM) // 2,
                self._titles[1],
            )
        )
        return _svg(_join(parts) + inner, self._height, label, self._width)

    def _x_ticks(self) -> list[float]:
        if not self._log:
            return _ticks(*self._x, 6)
        low, high = self._x
        decades = range(math.floor(low), math.ceil(high) + 1)
        return [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= math.log10(m * 10.0**d) <= high]


def _svg(inner: Markup, height: float, label: str, width: float = _WIDTH) -> Markup:
    wide = " wide" if width > _WIDTH else ""
    return Markup('<svg class="chart{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        wide, width, height, label, inner
    )


def _dot(x: float, y: float, title: str) -> Markup:
    return Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>').format(
        x, y, title
    )


def _legend(names: Iterable[str]) -> Markup:
    entries = _join(
        Markup(
            '<li class="c{}"><svg viewBox="0 0 12 12" aria-hidden="true">'
            '<circle class="dot" cx="6" cy="6" r="5"/></svg>{}</li>'
        ).format(index % _COLOURS, name)
        for index, name in enumerate(names)
    )
    return Markup('<ul class="legend">{}</ul>').format(entries)


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _short(name: str) -> str:
    return name if len(name) <= _LABEL_LETTERS else f"…{name[1 - _LABEL_LETTERS :]}"


def _range(values: Sequence[float], *, exact: bool = False) -> tuple[float, float]:
    """Range of the values with a margin; never empty."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    margin = (0.02 if exact else 0.06) * (high - low) or max(abs(low) * 0.05, 0.5)
    return low - margin, high + margin


def _ticks(low: float, high: float, most: int = 8, *, whole: bool = False) -> list[float]:
    """Round numbers of a range; whole ones, if wanted."""
    raw = max((high - low) / most, 1.0 if whole else 0.0)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = math.ceil(low / step)
    return [round(n * step, 12) for n in range(first, math.floor(high / step) + 1)]
