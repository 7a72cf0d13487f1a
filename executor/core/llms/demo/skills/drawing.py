"""Draw what the person lists: "a bar chart of apples 3, pears 5, plums 2"."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass

from executor.core.llms.demo.look import Look, read_look
from executor.core.llms.demo.planning import Past, Plan, Result, Step, Want, ask
from executor.core.llms.demo.reading import NUMBER, Request, to_number
from executor.core.llms.demo.writing import count, exact, number, plain, table
from executor.core.messages import JsonDict

_CHART = r"charts?|plot|graph|diagrams?|diagramm|draw|zeichne|\w+diagramm|visuali[sz]e"
_LOOK_WORDS = re.compile(
    r",?\s*\b(?:in|with|using|use|mit)\s+(?:\w+\s+){0,2}(?:colou?rs|tones|palette|farben|grey|gray|red|blue|green)\b"
    r"|,?\s*\b(?:as|in form of|als)\s+(?:an?\s+|eine?\s+)?(?:pie|bar|line|\w+diagramm)"
    r"(?:\s+(?:chart|graph|plot|diagram))?\b",
    re.I,
)
_CHART_WORD = re.compile(r"\b(?:charts?|plot|graph|diagrams?|\w{0,20}diagramm|draw|zeichne|visuali[sz]e)\b", re.I)
_INTRODUCTION = re.compile(r"^[^:\d]{0,80}?(?:\b(?:of|for|from|with|showing|von|für|aus|mit)\b|:)", re.I)
_DETERMINERS = re.compile(
    r"^\W*(?:(?:of|for|from|with|showing|these|this|my|our|the|following|von|für|aus|mit|meine[rn]?)\s+)*", re.I
)
_LABEL_FIRST = re.compile(
    rf"^(?P<label>.*?[^\s:=\-–])\s*(?:[:=]|\s[-–]\s|\s|\bis\b)\s*(?P<value>{NUMBER})\s*(?:%|€|\$|\w{{1,3}})?$", re.S
)
_VALUE_FIRST = re.compile(rf"^(?P<value>{NUMBER})\s*(?:%|€|\$|x|×)?\s+(?P<label>\D.*)$", re.S)
_VALUE = re.compile(rf"^(?P<value>{NUMBER})\s*(?:%|€|\$)?$")


def draw(say: str, arguments: JsonDict) -> Generator[Step, tuple[Result, ...], tuple[Want, Result]]:
    """Draw a chart; where it is refused, once more in the plainest form. Returns what was drawn last."""
    want = Want("draw_chart", arguments)
    (result,) = yield ask(say, want)
    simple = _simpler(want)
    if result.ok or result.missing or simple == want:
        return want, result
    (result,) = yield ask(f"The chart was refused: {result.why}\n\nI’ll draw it as a plain bar chart instead.", simple)
    return simple, result


def _simpler(want: Want) -> Want:
    """A bar chart takes negative values, which a pie does not; sixty points is what fits."""
    too_many = len(want.arguments["labels"]) > 60
    return Want(want.name, Look(kind="bar", top=60 if too_many else None).apply(want.arguments))


def shown(want: Want, result: Result, what: str) -> str:
    """A sentence about a chart that was drawn, or about why it was not."""
    if not result.ok:
        return f"I could not draw the chart: {result.why}."
    kind, palette = result.get("kind") or want.arguments["kind"], result.get("palette") or want.arguments["palette"]
    file = result.get("file", "name")
    name = f" **{plain(file, 120)}**" if file else ""
    points = result.number("points") or len(want.arguments["labels"])
    return f"The {plain(kind)} chart{name} shows {what}: {count(points, 'point')}, {plain(palette)} palette."


def hints(arguments: JsonDict) -> str:
    """What could be said next about a chart, other than what it already is."""
    kind, palette = arguments.get("kind"), arguments.get("palette")
    return " · ".join(
        (
            "*Go on with “make it more colourful”*" if palette == "calm" else "*Go on with “use calm colours”*",
            "*“as a pie chart”*" if kind != "pie" else "*“now in line form”*",
            "*“only the top 5”*" if len(arguments.get("labels") or []) > 5 else "*“title it 'My chart'”*",
        )
    )


@dataclass(frozen=True, slots=True)
class Drawing:
    labels: tuple[str, ...]
    values: tuple[float, ...]
    look: Look
    title: str = "Your numbers"

    def plan(self, past: Past) -> Plan:
        base: JsonDict = {"kind": "bar", "title": self.title, "palette": "calm"}
        chart = Want("draw_chart", self.look.apply(base | {"labels": list(self.labels), "values": list(self.values)}))
        total = Want(
            "calculate", {"expression": " + ".join(f"({exact(v)})" if v < 0 else exact(v) for v in self.values)}
        )
        drawn, total_result = yield ask("I’ll draw your numbers and add them up at the same time.", chart, total)
        want = chart
        note = ""
        if not drawn.ok and not drawn.missing and (simple := _simpler(chart)) != chart:
            note = f"The chart you asked for was refused: {drawn.why} So I drew a bar chart instead."
            want = simple
            (drawn,) = yield ask(
                f"The chart was refused: {drawn.why}\n\nI’ll draw it as a plain bar chart instead.", want
            )
        rows = [(plain(label, 40), number(value)) for label, value in zip(self.labels, self.values, strict=True)]
        if (sum_ := total_result.number()) is not None and total_result.ok:
            rows.append(("**Total**", f"**{number(sum_)}**"))
        return "\n\n".join(
            (
                *([note] if note else []),
                shown(want, drawn, "your numbers"),
                table(("Label", "Value"), rows[:60]),
                *([hints(want.arguments)] if drawn.ok else []),
            )
        )


def read(request: Request) -> Drawing | None:
    if not request.says(_CHART):
        return None
    words = _LOOK_WORDS.sub(" ", request.words)
    match = _CHART_WORD.search(words)
    points: list[tuple[str, float]] = []
    title = "Your numbers"
    # "Draw a bar chart of …": the data begins after the last of these words; "apples 3, pears 5 as a chart": before.
    if match:
        after = words[match.end() :]
        while (match := _CHART_WORD.search(after[:60])) is not None:
            after = after[match.end() :]
        named, data = _title(after)
        title = named or title
        points = _points(_INTRODUCTION.sub("", data, count=1)) or _points(words)
    if len(points) < 2:
        return None
    labels, values = zip(*points[:200], strict=True)
    return Drawing(labels, values, read_look(request), title)


def _title(words: str) -> tuple[str, str]:
    """What the numbers are, if that is said before a colon, and the rest: “my monthly costs: rent 850, food 400”."""
    before, _, after = words.partition(":")
    named = _DETERMINERS.sub("", before[:60]).strip()
    if len(before) > 60 or not re.match(r"\s*[^\W\d]", after) or not re.fullmatch(r"[^\W\d][^\d,;\n]{2,39}", named):
        return "", words
    return named.capitalize(), after


def _points(data: str) -> list[tuple[str, float]]:
    """Labelled numbers, or numbers alone, which are then labelled 1, 2, 3 …"""
    points: list[tuple[str, float]] = []
    for piece in re.split(r"[;\n|]|,(?!\d)|(?<=\D),|\s(?:and|und|&)\s", data):
        piece = piece.strip(" .!?*•\t“”\"'")
        if not piece:
            continue
        match = _VALUE.match(piece) or _LABEL_FIRST.match(piece[:120]) or _VALUE_FIRST.match(piece[:120])
        value = to_number(match["value"]) if match else None
        if not match or value is None:
            continue
        label = match.groupdict().get("label") or str(len(points) + 1)
        points.append((label.strip(" “”\"'")[:60], value))
    return points
