"""Count what is in a text, then draw it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from executor.core.llms.demo.look import Look, read_look
from executor.core.llms.demo.planning import Past, Plan, Result, Want, ask, need
from executor.core.llms.demo.reading import Request
from executor.core.llms.demo.skills.drawing import draw, hints, shown
from executor.core.llms.demo.skills.redraw import Redraw
from executor.core.llms.demo.writing import count, listed, number, plain, shorten, table

_ABOUT = (
    r"analy[sz]e|analysis|analysiere?|statistics?|statistik|stats|count|zähle?|how (?:many|often)|wie (?:viele|oft)"
    r"|frequenc(?:y|ies)|häufigkeit"
)
_THINGS = r"words?|letters?|characters?|sentences?|wörter|worte|buchstaben|zeichen|sätze|text"
_CHART = r"draw|chart|plot|graph|diagrams?|diagramm|zeichne|visuali[sz]e|picture|show|bars?|pie"
_SAME = r"same|again|instead|now|what about|and for|dasselbe|das gleiche|nochmal|jetzt|auch|also"
_LETTER = re.compile(r"\b(?:letter|buchstaben?)\s+[\"'“„‘]?(\w)\b", re.I)
_AFTER_COLON = re.compile(r"^[^:\n]{0,120}:\s*(?P<text>.+)$", re.S)
_AFTER_TEXT = re.compile(
    r"\b(?:text|sentence|phrase|words?|satz)\s+(?P<text>\S.*?)"
    r"(?:,?\s+(?:and|und)\s+(?:then\s+)?(?:draw|show|plot|make|zeichne)\b.*)?$",
    re.I | re.S,
)


@dataclass(frozen=True, slots=True)
class Analysis:
    """`of` is what the chart counts: "letter" or "word"; `letter` is one that was asked about.

    `again` allows to use statistics that are already in the transcript.
    """

    text: str
    of: str = "letter"
    chart: bool = True
    look: Look = Look()  # noqa: RUF009 - it is frozen
    again: bool = False
    letter: str = ""

    def plan(self, past: Past) -> Plan:
        stats = next((r for w, r in past.calls("text_statistics") if w.arguments.get("text") == self.text), None)
        if stats is None or not self.again:
            then = ", then draw the chart." if self.chart else "."
            (stats,) = yield ask(
                f"I’ll count the words and letters first{then}", Want("text_statistics", {"text": self.text})
            )
        points = counts(need(stats), self.of)
        drawn = None
        if self.chart and points:
            drawn = yield from draw(
                f"Counted. Now I’ll draw how often each {self.of} occurs.",
                self.look.apply(
                    {
                        "kind": "bar",
                        "title": f"{self.of.capitalize()}s in “{shorten(self.text, 40)}”",
                        "labels": [label for label, _ in points],
                        "values": [value for _, value in points],
                        "palette": "calm",
                        "x_label": self.of.capitalize(),
                        "y_label": "Count",
                    }
                ),
            )
        return answer(self, stats, points, drawn)


def counts(stats: Result, of: str) -> list[tuple[str, float]]:
    """(letter or word, how often), the most frequent first."""
    rows: Any = stats.get("letter_counts" if of == "letter" else "most_common_words")
    if isinstance(rows, dict):
        rows = [{of: label, "count": value} for label, value in rows.items()]
    found = [
        (str(row.get(of, "")), row["count"])
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and isinstance(row.get("count"), int | float) and abs(row["count"]) < 1e15
    ]
    return sorted(found, key=lambda point: -point[1])


_MEASURES = (
    ("characters", "Characters"),
    ("characters_without_spaces", "Characters without spaces"),
    ("words", "Words"),
    ("unique_words", "Different words"),
    ("sentences", "Sentences"),
    ("average_word_length", "Average word length"),
)


def measures(stats: Result) -> str:
    """The table of what was counted."""
    rows = [
        (name, number(value))
        for key, name in _MEASURES
        if (value := stats.number(key)) is not None and key in stats.data
    ]
    if longest := stats.get("longest_word"):
        rows.append(("Longest word", plain(longest, 40)))
    return table(("Measure", "Value"), rows)


def answer(goal: Analysis, stats: Result, points: list[tuple[str, float]], drawn: tuple[Want, Result] | None) -> str:
    words, characters = stats.number("words"), stats.number("characters")
    if words is None or characters is None:
        said = f"Here is what I counted in “{plain(goal.text, 60)}”."
    else:
        said = f"“{plain(goal.text, 60)}” has **{count(words, 'word')}** and **{count(characters, 'character')}**."
    if points and points[0][1] > 1:
        most = [f"**{plain(label, 30)}**" for label, value in points if value == points[0][1]]
        times = number(points[0][1])
        if len(most) <= 3:
            is_are = "is" if len(most) == 1 else "are"
            said += f" The most frequent {goal.of}{'s' if len(most) > 1 else ''} {is_are} {listed(most)}, {times} times"
            said += " each." if len(most) > 1 else "."
    if goal.letter:
        # What was counted may be a part of what was asked for, so "never" is only said where all letters are known.
        found = [value for label, value in counts(stats, "letter") if label == goal.letter.lower()]
        known = bool(found) or len(counts(stats, "letter")) < 26
        times = f"occurs **{count(found[0] if found else 0, 'time')}**" if known else "is not among the 26 most common"
        said = f"The letter **{plain(goal.letter)}** {times}. {said}"
    parts = [said, measures(stats)]
    if drawn:
        parts += [shown(*drawn, f"how often each {goal.of} occurs")]
        other = "words" if goal.of == "letter" else "letters"
        parts += [
            "*Go on with “Make it more colourful and draw it as a pie chart”, “only the top 5” or "
            f"“the {other} instead”.*"
            if drawn[0].arguments["palette"] == "calm"
            else f"{hints(drawn[0].arguments)} · *“the {other} instead”*"
        ]
    elif goal.chart:
        parts += [f"There are no {goal.of}s in it, so there is nothing to draw."]
    return "\n\n".join(parts)


def read(request: Request) -> Analysis | None:
    before, look = _before(request)
    words, letters = request.says("words?", "wörter", "worte"), request.says("letters?", "buchstaben")
    of = "word" if words and not letters else "letter"
    asks = request.says(_ABOUT) and request.says(_THINGS, "this", "it", "“”", "statistics?", "analy[sz]e")
    chart = request.says(_CHART)
    if request.url:
        return None
    look_now = read_look(request)
    if request.quotes and (asks or (request.says(_THINGS) and chart) or _bare(request.plain)):
        text = max(request.quotes, key=len)
        chart = chart or request.says("statistics", "analy[sz]e", "statistik")
        outside = request.words.replace(text, "") if len(text) > 1 else request.words
        letter = match[1] if (match := _LETTER.search(outside)) else ""
        return Analysis(text, of, chart, look_now, letter=letter)
    if request.quotes and before and request.says(_SAME, "for", "für", "with", "mit", "text"):
        own = of if words or letters else before.of
        return replace(before, text=max(request.quotes, key=len), of=own, look=look_now.over(look), again=False)
    follows = before is not None and not request.quotes and len(request.plain) < 80
    if before and follows and (words or letters):
        # The title and the number of points were made for the other statistic.
        kept = replace(look, title=None, without=())
        return replace(before, of=of, chart=True, look=look_now.over(kept), again=True)
    if before and follows and (look_now or chart) and not request.past.calls("draw_chart"):
        return replace(before, chart=True, look=look_now, again=True)
    if not request.quotes and asks and (text := _unquoted(request.words)):
        return Analysis(text, of, chart, look_now)
    return None


def _bare(said: str) -> bool:
    return bool(re.search(r"\banaly[sz]e\b|\banalysiere?\b", said))


def _unquoted(words: str) -> str:
    """A text without quotation marks: what follows a colon, or the word "text"."""
    match = _AFTER_COLON.match(words) or _AFTER_TEXT.search(" ".join(words.split()))
    text = match["text"].strip() if match else ""
    return text if len(text.split()) > 1 or (match and match.re is _AFTER_COLON) else ""


def _before(request: Request) -> tuple[Analysis | None, Look]:
    """The analysis that a follow-up can go on from, and the look its chart has by now."""
    look = Look()
    for goal in reversed(request.earlier):
        if isinstance(goal, Redraw):
            look = look.over(goal.look)
        elif isinstance(goal, Analysis):
            return goal, look.over(goal.look)
        elif type(goal).__name__ != "Help":
            break
    return None, look
