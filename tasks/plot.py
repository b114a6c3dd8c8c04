"""Small line charts as SVG, for reports: where one would rather look than read. No library draws them in so few bytes, and an artifact
that Prefect shows may hold images as data URIs only, no script.
"""

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

GREEN, BLUE, GREY, RED = "#2e9e5b", "#2f6fd0", "#777777", "#c8372d"

_WIDTH, _HEIGHT = 640, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 30, 24
_FEW = 2
_FONT = "font-family='sans-serif' font-size='11'"


@dataclass(frozen=True)
class Line:
    """One curve: (x, y) points, x rising; a y of None is a gap. With `steps` a value holds until the next one."""

    label: str
    colour: str
    points: Sequence[tuple[float, float | None]]
    steps: bool = False


@dataclass(frozen=True)
class Chart:
    """`unit` follows the numbers at the y axis; x is seconds, unless `ends` says how its first and last value are called. `limit` is a
    dashed line across. `logarithmic` takes positive values only. `bands` are spans of x with a name, shaded behind the curves; with them x
    begins at 0. A curve of two values or fewer has its last one written beside it.
    """

    title: str
    lines: Sequence[Line]
    unit: str = ""
    limit: float | None = None
    logarithmic: bool = False
    at_least: float = 0.0
    ends: tuple[str, str] | None = None
    bands: Sequence[tuple[float, float, str]] = ()

    @property
    def is_empty(self) -> bool:
        return not any(y is not None for line in self.lines for _, y in line.points)

    def svg(self) -> str:
        """A whole SVG document. An empty chart says that nothing is known."""
        drawn = [_text(_LEFT, 18, self.title, weight="bold"), *self._legend()]
        drawn += [_text(_WIDTH / 2, _HEIGHT / 2, "nothing is known", anchor="middle")] if self.is_empty else self._curves()
        size = f"width='{_WIDTH}' height='{_HEIGHT}' viewBox='0 0 {_WIDTH} {_HEIGHT}'"
        background = f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='white'/>"
        return f"<svg xmlns='http://www.w3.org/2000/svg' {size} {_FONT}>{background}{''.join(drawn)}</svg>"

    def markdown(self, told: str = "") -> str:
        """As an image that Markdown shows; `told` is what a reader hears who does not see it, else the title."""
        coded = base64.b64encode(self.svg().encode()).decode()
        return f"![{(told or self.title).replace('[', '(').replace(']', ')')}](data:image/svg+xml;base64,{coded})"

    def _legend(self) -> list[str]:
        found, right = [], float(_WIDTH - _RIGHT)
        for line in reversed(self.lines):
            found.append(_text(right, 18, line.label, colour=line.colour, anchor="end"))
            right -= 7 * len(line.label) + 14
        return found

    def _curves(self) -> list[str]:
        known = [(x, y) for line in self.lines for x, y in line.points if y is not None]
        across_all = [x for line in self.lines for x, _ in line.points] if self.ends else [x for x, _ in known]
        across_all += [x for begin, end, _ in self.bands for x in (0.0, begin, end)]
        first, last = min(across_all), max(across_all)
        heights = [self._height(y) for _, y in known] + ([self._height(self.limit)] if self.limit is not None else [])
        low = min(heights) if self.logarithmic else 0.0
        high = max(*heights, self._height(self.at_least) if self.at_least else low, low + 1e-9)

        def place(x: float, y: float) -> tuple[float, float]:
            across = (x - first) / (last - first) if last > first else 0.5
            up = (self._height(y) - low) / (high - low)
            return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)

        bottom, top = _HEIGHT - _BOTTOM, _TOP
        some_y = known[0][1]
        drawn = [part for begin, end, name in self.bands for part in _band(place(begin, some_y)[0], place(end, some_y)[0], name)]
        drawn += [f"<path d='M{_LEFT} {top}V{bottom}H{_WIDTH - _RIGHT}' fill='none' stroke='#bbbbbb'/>"]
        drawn += [
            _text(_LEFT - 6, y + 4, _number(self._value(height)) + self.unit, anchor="end") for y, height in ((top, high), (bottom, low))
        ]
        drawn += [
            _text(_LEFT, _HEIGHT - 8, self.ends[0] if self.ends else _seconds(first)),
            _text(_WIDTH - _RIGHT, _HEIGHT - 8, self.ends[1] if self.ends else _seconds(last), anchor="end"),
        ]
        if self.limit is not None:
            _, y = place(first, self.limit)
            drawn.append(f"<path d='M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}' stroke='{RED}' stroke-dasharray='4 3' fill='none'/>")
            drawn.append(_text(_WIDTH / 2, y - 4, f"limit {_number(self.limit)}{self.unit}", colour=RED, anchor="middle"))
        for number, line in enumerate(self.lines):
            drawn += self._said(line, place, aside=number > 0)
            alone = [place(*run[0]) for run in _runs(line.points) if len(run) == 1]
            drawn += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2.5' fill='{line.colour}'/>" for x, y in alone]
            drawn += [
                f"<polyline points='{points}' fill='none' stroke='{line.colour}' stroke-width='1.8'/>"
                for run in _runs(line.points)
                if (points := " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in (_stepped(run) if line.steps else run))))
            ]
        return drawn

    def _said(self, line: Line, place: Callable[[float, float], tuple[float, float]], *, aside: bool) -> list[str]:
        """The last value of a curve that is too short to be read off."""
        known = [(x, y) for x, y in line.points if y is not None]
        if not known or len(known) > _FEW or self.ends:
            return []
        (first, _), (x, y) = place(*known[0]), place(*known[-1])
        x -= 0.75 * (x - first) if aside else 0.0  # two curves at one height have their values side by side
        down = 14 if y < _TOP + 14 else -6
        return [_text(x, y + down, _number(known[-1][1]) + self.unit, colour=line.colour, anchor="end", weight="bold")]

    def _height(self, y: float) -> float:
        return math.log10(max(y, 1e-12)) if self.logarithmic else y

    def _value(self, height: float) -> float:
        return 10.0**height if self.logarithmic else height


def _band(left: float, right: float, name: str) -> list[str]:
    size = f"width='{max(1.0, right - left):.1f}' height='{_HEIGHT - _BOTTOM - _TOP}'"
    return [f"<rect x='{left:.1f}' y='{_TOP}' {size} fill='#eef4ef'/>", _text(left + 3, _TOP + 11, name, colour="#777777")]


def _runs(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """The points between gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _stepped(run: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    found = [run[0]]
    for (_, before), (x, y) in pairwise(run):
        found += [(x, before), (x, y)]
    return found


def _text(x: float, y: float, text: str, *, colour: str = "#333333", anchor: str = "start", weight: str = "normal") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' fill='{colour}' text-anchor='{anchor}' font-weight='{weight}'>{escape(text)}</text>"


def _number(value: float) -> str:
    """Short enough for the margin: `0.12`, `4,200`, `78.6k`, `1.18M`, `3e+12`."""
    if abs(value) >= 999.5e6:
        return f"{value:.0e}"
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:.3g}k"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
