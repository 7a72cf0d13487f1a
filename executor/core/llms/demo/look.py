"""How a chart should look, as read from a request, and applied to the arguments of a drawing."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace

from executor.core.llms.demo.reading import Request, to_number
from executor.core.messages import JsonDict

_CHART = r"(?:[ -]?(?:charts?|graphs?|plots?|diagrams?|form|view|diagramm|chart))"
_KIND_WORDS = {
    "pie": r"pie|donut|doughnut|kuchen|torten|kreis",
    "line": r"line|curve|linien?|kurven?",
    "bar": r"bars?|column|histogram|balken|säulen",
}
_PALETTES = {
    "calm": r"less colou?rful|weniger bunt|calm(?:er)?|soft(?:er)?|subtle|muted|pastel|quiet(?:er)?|ruhig(?:er)?",
    "grey": r"gr[ea]y|gr[ea]yscale|monochrome|black[ -]and[ -]white|colou?rless|without colou?rs?|grau|schwarz-?weiß",
    "warm": r"warm(?:er|e|en)?|autumn|sunset|(?:in|use|it|more) (?:red|orange|yellow)(?:s|er)?",
    "cool": r"cool(?:er)?|cold(?:er)?|ocean|kühl(?:er|e|en)?|kalte?n?|(?:in|use|it|more) (?:blue|green)(?:s|r|er)?",
    "colourful": r"colou?rful|colou?rs?|rainbow|vivid|bright(?:er)?|livelier|bunt(?:er|e)?|farb(?:ig|enfroh)(?:er)?",
}
_COUNT = r"(\d{1,3}|one|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|zwei|drei|vier|fünf|zehn)"


@dataclass(frozen=True, slots=True)
class Look:
    """What was asked for; None is "as it is". `order` is "value", "-value" or "label"; `top` counts the largest."""

    kind: str | None = None
    palette: str | None = None
    title: str | None = None
    top: int | None = None
    order: str | None = None
    without: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self != Look()

    def over(self, other: Look) -> Look:
        """This look, and where it leaves something open the other one."""
        given = {item.name: value for item in fields(self) if (value := getattr(self, item.name))}
        return replace(other, **given)

    def apply(self, arguments: JsonDict) -> JsonDict:
        """The arguments of `draw_chart`, changed. Never leaves a chart without points."""
        points = list(zip(arguments.get("labels") or [], arguments.get("values") or [], strict=False))
        gone = {name.casefold() for name in self.without}
        points = [point for point in points if str(point[0]).casefold() not in gone] or points
        if self.top:
            largest = sorted(range(len(points)), key=lambda index: -points[index][1])[: self.top]
            # A line keeps its direction; everything else reads best from the largest down.
            points = [points[index] for index in (sorted(largest) if self.kind == "line" else largest)]
        if self.order == "label":
            points.sort(key=lambda point: str(point[0]).casefold())
        elif self.order:
            points.sort(key=lambda point: point[1], reverse=self.order == "-value")
        changed = arguments | {"labels": [label for label, _ in points], "values": [value for _, value in points]}
        for name in ("kind", "palette", "title"):
            if wanted := getattr(self, name):
                changed[name] = wanted
        return changed

    @property
    def said(self) -> list[str]:
        """What it changes, as pieces of a sentence."""
        orders = {"value": "from the smallest up", "-value": "from the largest down", "label": "in alphabetical order"}
        return [
            *([f"as a {self.kind} chart"] if self.kind else []),
            *([f"with the {self.palette} palette"] if self.palette else []),
            *([f"with only the top {self.top}"] if self.top else []),
            *([orders[self.order]] if self.order else []),
            *(["without what you named"] if self.without else []),
            *(["with its new title"] if self.title else []),
        ]


def read_look(request: Request) -> Look:
    """What `request` says about the look of a chart."""
    plain = request.plain
    top = re.search(
        rf"\b(?:top|largest|biggest|highest|first|most (?:common|frequent)|größten|häufigsten) {_COUNT}\b", plain
    )
    top = top or re.search(
        rf"\b{_COUNT} (?:largest|biggest|highest|most (?:common|frequent)|größten|häufigsten)\b", plain
    )
    return Look(
        kind=_kind(plain),
        palette=next((name for name, words in _PALETTES.items() if re.search(rf"\b(?:{words})\b", plain)), None),
        title=request.title or None,
        top=(int(to_number(top[1]) or 0) or None) if top else None,
        order=_order(plain),
    )


def _kind(plain: str) -> str | None:
    # "as a pie chart" says more than a "line" that stands somewhere.
    for pattern in (r"\b(?:{})" + _CHART + r"\b", r"\b(?:as|into|in|als) (?:an? |eine? )?(?:{})\b", r"\b(?:{})s?\b"):
        found = [
            (match.start(), kind)
            for kind, words in _KIND_WORDS.items()
            if (match := re.search(pattern.format(words), plain))
        ]
        if found:
            return max(found)[1] if "instead of" not in plain else min(found)[1]
    return None


def _order(plain: str) -> str | None:
    if re.search(r"\b(?:alphabetical(?:ly)?|by (?:name|label|letter)|alphabetisch)\b", plain):
        return "label"
    if re.search(r"\b(?:ascending|smallest first|from the smallest|aufsteigend)\b", plain):
        return "value"
    if re.search(
        r"\b(?:descending|sort(?:ed)?|largest first|biggest first|by (?:size|value|count)|absteigend|sortiert?e?)\b",
        plain,
    ):
        return "-value"
    return None
