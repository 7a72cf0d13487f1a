"""A CSV text as a table, and what can be said of it without understanding it: columns, measures, possible charts."""

from __future__ import annotations

import csv
import io
import re
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from executor.core.errors import StepValidationError

MOST_ROWS, MOST_COLUMNS = 50_000, 40
#: Points of a chart, and groups that a chart of groups has at most.
MOST_POINTS, MOST_GROUPS = 60, 12
MOST_CHARTS = 8
#: Of a name or a value that is told.
MOST_CHARACTERS = 60

_DELIMITERS = ",;\t|"
_DATE_FORMS = ("%Y-%m-%d", "%Y-%m", "%d.%m.%Y", "%d/%m/%Y", "%Y/%m/%d")
_UNITS = re.compile(r"[\s€$£%'’]|^(?:EUR|USD|GBP|CHF)|(?:EUR|USD|GBP|CHF)$")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_EMPTY = {"", "-", "–", "n/a", "na", "null", "none", "nan"}


@dataclass(frozen=True)
class Column:
    """`values` are numbers, dates or texts, as `kind` says; None where there is nothing."""

    name: str
    kind: str
    values: list[Any]


def profile(text: str) -> dict[str, Any]:
    """What there is to say of the table: {"rows", "columns", "charts"}, plain JSON. Raises StepValidationError."""
    columns = read(text)
    return {
        "rows": len(columns[0].values),
        "columns": [_measured(column) for column in columns],
        "charts": [{"n": n, **chart} for n, chart in enumerate(_charts(columns)[:MOST_CHARTS], 1)],
    }


def read(text: str) -> list[Column]:
    """The columns, by the names in the first line. Raises StepValidationError with a sentence if it is no table."""
    text = text.strip("\ufeff\n\r ")
    delimiter = _delimiter(text)
    try:
        rows = [
            row for row in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True) if any(map(str.strip, row))
        ]
    except csv.Error as error:
        raise StepValidationError(f"The data cannot be read as CSV: {error}.") from error
    if len(rows) < 2:
        raise StepValidationError("The data has no rows. The first line names the columns, the others are the rows.")
    names, *body = rows
    if len(names) > MOST_COLUMNS or len(body) > MOST_ROWS:
        raise StepValidationError(
            f"The table has {len(body):,} rows and {len(names)} columns. "
            f"Give {MOST_ROWS:,} rows and {MOST_COLUMNS} columns at most."
        )
    if bad := next((n for n, row in enumerate(body, 2) if len(row) > len(names)), None):
        raise StepValidationError(f"Row {bad} has more values than there are columns ({len(names)}).")
    body = [[*row, *[""] * (len(names) - len(row))] for row in body]
    return [
        _column(
            name.strip()[:MOST_CHARACTERS] or f"Column {n}",
            [row[n - 1].strip() for row in body],
            comma=delimiter == ";",
        )
        for n, name in enumerate(names, 1)
    ]


def _delimiter(text: str) -> str:
    """The one that the first lines have most often, as often in each."""
    lines = [line for line in text.splitlines()[:20] if line.strip()]
    if not lines:
        raise StepValidationError("There is no data.")
    return max(_DELIMITERS, key=lambda mark: (min(line.count(mark) for line in lines), lines[0].count(mark)))


def _column(name: str, texts: list[str], *, comma: bool) -> Column:
    given = [text for text in texts if text.lower() not in _EMPTY]
    for kind, parse in (("number", lambda text: _number(text, comma=comma)), ("date", _date)):
        if given and all(parse(text) is not None for text in given):
            return Column(name, kind, [None if text.lower() in _EMPTY else parse(text) for text in texts])
    return Column(name, "text", [None if text.lower() in _EMPTY else text for text in texts])


def _number(text: str, *, comma: bool) -> float | None:
    plain = _UNITS.sub("", text)
    if comma:
        plain = plain.replace(".", "").replace(",", ".") if "," in plain else plain
    elif _THOUSANDS.fullmatch(plain):
        plain = plain.replace(",", "")
    try:
        number = float(plain)
    except ValueError:
        return None
    return number if abs(number) < 1e15 else None


def _date(text: str) -> date | None:
    for form in _DATE_FORMS:
        try:
            return datetime.strptime(text[:10], form).date()
        except ValueError:
            continue
    return None


def _measured(column: Column) -> dict[str, Any]:
    given = [value for value in column.values if value is not None]
    told: dict[str, Any] = {"name": column.name, "kind": column.kind, "missing": len(column.values) - len(given)}
    if column.kind == "number" and given:
        told |= {
            "sum": _round(sum(given)),
            "mean": _round(statistics.fmean(given)),
            "median": _round(statistics.median(given)),
            "smallest": _round(min(given)),
            "largest": _round(max(given)),
        }
    elif column.kind == "date" and given:
        told |= {"first": min(given).isoformat(), "last": max(given).isoformat()}
    else:
        counts = Counter(given)
        most = {name[:MOST_CHARACTERS]: count for name, count in counts.most_common(5)}
        told |= {"different": len(counts), "most_common": most}
    return told


def _charts(columns: list[Column]) -> list[dict[str, Any]]:
    """Charts that the columns make possible, the more telling ones first."""
    numbers = [column for column in columns if column.kind == "number" and not _is_label(column)]
    dates = [column for column in columns if column.kind == "date"]
    groups = [column for column in columns if column.kind == "text" and 2 <= len(set(column.values) - {None}) <= 200]
    made = [_over_time(when, number) for when in dates for number in numbers]
    made += [_by_group(group, number) for group in groups for number in numbers]
    made += [_counted(group) for group in groups]
    made += [_spread(number) for number in numbers]
    return [chart for chart in made if len(chart["labels"]) > 1]


def _is_label(column: Column) -> bool:
    """Numbers that name something: nobody adds them up."""
    return bool(re.fullmatch(r"(?:.*[_ ])?(?:id|nr|no|number|code|year|jahr|zip|plz)", column.name, re.I))


def _over_time(when: Column, number: Column) -> dict[str, Any]:
    sums: defaultdict[date, float] = defaultdict(float)
    for day, value in zip(when.values, number.values, strict=True):
        if day is not None and value is not None:
            sums[day] += value
    labels = {day: day.isoformat() for day in sorted(sums)}
    for width in (7, 4):  # By month, then by year, until it fits.
        if len(set(labels.values())) > MOST_POINTS:
            labels = {day: label[:width] for day, label in labels.items()}
    added: dict[str, float] = {}
    for day, label in labels.items():
        added[label] = added.get(label, 0) + sums[day]
    return _chart("line", f"{number.name} over time", list(added.items())[-MOST_POINTS:])


def _by_group(group: Column, number: Column) -> dict[str, Any]:
    sums: defaultdict[str, float] = defaultdict(float)
    for name, value in zip(group.values, number.values, strict=True):
        if name is not None and value is not None:
            sums[name] += value
    largest = sorted(sums.items(), key=lambda one: -one[1])[:MOST_GROUPS]
    return _chart("bar", f"{number.name} by {group.name}", largest)


def _counted(group: Column) -> dict[str, Any]:
    counts = Counter(value for value in group.values if value is not None)
    return _chart(
        "bar", f"Rows by {group.name}", [(name, float(count)) for name, count in counts.most_common(MOST_GROUPS)]
    )


def _spread(number: Column) -> dict[str, Any]:
    given = [value for value in number.values if value is not None]
    low, high = (min(given), max(given)) if given else (0.0, 0.0)
    if low == high:
        return _chart("bar", "", [])
    width = (high - low) / 8
    counts = Counter(min(int((value - low) / width), 7) for value in given)
    bins = [(f"{_round(low + n * width):g}–{_round(low + (n + 1) * width):g}", float(counts[n])) for n in range(8)]
    return _chart("bar", f"How {number.name} is spread", bins)


def _chart(kind: str, title: str, points: list[tuple[str, float]]) -> dict[str, Any]:
    return {
        "kind": kind,
        "title": title[:75],
        "labels": [label[:MOST_CHARACTERS] for label, _ in points],
        "values": [_round(value) for _, value in points],
    }


def _round(value: float) -> float:
    """Four significant digits behind what is whole: sums of floats are no news."""
    return float(f"{value:.12g}") if abs(value) >= 1000 else round(value, 4)
