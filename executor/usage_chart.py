"""A bar for each day: where to draw what, in the units of an SVG that its page stretches (templates/_usage_chart.html).

Text stays outside of the drawing, so that it keeps its size on a phone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from executor import money
from executor.usage import Usage, Use

#: Units of the drawing: so wide is a day, and so high is everything. The template knows them too.
DAY, HEIGHT = 10, 100


@dataclass(frozen=True, slots=True)
class Bar:
    """`parts` lie on each other, the lowest first: class, top and height. `tip` says the numbers."""

    x: int
    tip: str
    parts: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    name: str
    title: str
    description: str
    width: int
    bars: tuple[Bar, ...]
    #: Beside the drawing, from the top, and below it, from the left.
    scale: tuple[str, ...]
    dates: tuple[date, ...]
    #: What the parts of a bar are: class and words.
    legend: tuple[tuple[str, str], ...]


def charts(usage: Usage) -> list[Chart]:
    """Tokens by day and, where any price is known, dollars by day. Nothing for a period without use."""
    if not usage.total.answers:
        return []
    found = [
        _chart(
            "tokens",
            "Tokens per day",
            usage,
            lambda use: (("in", use.input_tokens), ("out", use.output_tokens)),
            lambda value: money.compact(round(value)),
            (("in", "Input"), ("out", "Output")),
        )
    ]
    if usage.total.cost:
        found.append(
            _chart(
                "cost",
                "Cost per day",
                usage,
                lambda use: (("money", float(use.cost or 0)),),
                _exact,
                (),
            )
        )
    return found


def _chart(
    name: str,
    title: str,
    usage: Usage,
    parts: Callable[[Use], Sequence[tuple[str, float]]],
    label: Callable[[float], str],
    legend: tuple[tuple[str, str], ...],
) -> Chart:
    by_day = {day: parts(use) for day, use in usage.days.items()}
    sums = {day: sum(value for _, value in found) for day, found in by_day.items()}
    top = nice_top(max(sums.values()))
    most = max(sums, key=lambda day: sums[day])
    bars = []
    for number, (day, found) in enumerate(by_day.items()):
        drawn, y = [], float(HEIGHT)
        for css, value in found:
            height = value / top * HEIGHT
            y -= height
            if height:
                drawn.append((css, round(y, 2), round(height, 2)))
        bars.append(Bar(number * DAY, f"{_written(day)}: {usage.days[day].line or 'nothing'}", tuple(drawn)))
    days = list(by_day)
    dates = (days[0], days[len(days) // 2], days[-1]) if len(days) > 2 else tuple(days)
    used = sum(bool(value) for value in sums.values())
    description = (
        f"{_written(days[0])} to {_written(days[-1])}: {usage.total.line} on {used} day{'' if used == 1 else 's'}. "
        f"Most on {_written(most)}: {usage.days[most].line}. All numbers are in the table below."
    )
    return Chart(
        name, title, description, len(days) * DAY, tuple(bars), (label(top), label(top / 2), label(0)), dates, legend
    )


def nice_top(value: float) -> float:
    """The first of 1, 2, 5, 10, 20, … (or .5, .2, …) that is not below `value`; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 1.0
    while power < value:
        power *= 10
    while power / 10 >= value:
        power /= 10
    return next(top for top in (power / 5, power / 2, power) if top >= value * (1 - 1e-9))


def _exact(value: float) -> str:
    """A round number of dollars, however few."""
    whole, _, digits = f"{value:,.10f}".rstrip("0").partition(".")
    return f"${whole}.{digits:0<2}"


def _written(day: date) -> str:
    return f"{day.day} {day:%b}"
