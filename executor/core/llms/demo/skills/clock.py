"""Tell the time in one place or in several at once, and how far apart they are."""

from __future__ import annotations

import re
from dataclasses import dataclass

from executor.core.llms.demo.dates import spelled
from executor.core.llms.demo.places import Place, closest, places
from executor.core.llms.demo.planning import Past, Plan, Result, Want, ask, need
from executor.core.llms.demo.reading import Request
from executor.core.llms.demo.writing import exact, listed, number, plain, table

_TIME = (
    r"what(?:'s| is)? the time|what time|time (?:is it|in|now|zones?|difference)|(?:current|local) time|clock"
    r"|hours? (?:apart|between)|what(?:'s| is)? (?:the date|today)|what day is (?:it|today)|today's date"
    r"|(?:wie ?viel) uhr|wie spät|uhrzeit|zeitunterschied|welcher tag"
)


@dataclass(frozen=True, slots=True)
class Clock:
    places: tuple[Place, ...]

    def plan(self, past: Past) -> Plan:
        found = list(self.places)
        at_once = " at the same time" if len(found) > 1 else ""
        say = f"I’ll look at the clock in {listed([plain(place.name) for place in found])}{at_once}."
        results = list((yield ask(say, *(_want(place) for place in found))))
        notes = []
        if failed := [index for index, result in enumerate(results) if not result.ok and not result.missing]:
            others = [closest(found[index].name) or Place("UTC", "UTC") for index in failed]
            names = listed([plain(other.name) for other in others])
            why = results[failed[0]].why
            retried = yield ask(f"One of them is refused: {why}\n\nI’ll take {names} instead.", *map(_want, others))
            notes.append(
                f"I know no time zone for {listed([plain(found[i].name) for i in failed])}, so this shows **{names}**."
            )
            for index, place, result in zip(failed, others, retried, strict=True):
                found[index], results[index] = place, result
        for result in results:
            need(result)
        offsets = [_offset(result) for result in results]
        if len(found) == 2 and offsets[0] is not None and offsets[1] is not None:
            expression = f"{exact(offsets[0])} - ({exact(offsets[1])})"
            (apart,) = yield ask("Now the difference between the two.", Want("calculate", {"expression": expression}))
            notes.append(_apart(found, apart))
        if len(found) == 1:
            result = results[0]
            said = f"In {plain(found[0].name)} it is **{_clock(result)}** on **{_day(result)}**."
        else:
            said = listed(
                [f"**{_clock(result)}** in {plain(place.name)}" for place, result in zip(found, results, strict=True)]
            )
            said = f"It is {said}."
        rows = [
            (plain(place.name), f"**{_clock(result)}**", _day(result), plain(result.get("utc_offset") or ""))
            for place, result in zip(found, results, strict=True)
        ]
        parts = [said, *notes]
        if len(found) > 1:
            parts.append(table(("Place", "Time", "Day", "UTC"), rows, right=(1, 3)))
        return "\n\n".join((*parts, "*Go on with “and in London?” or name several cities at once.*"))


def _want(place: Place) -> Want:
    return Want("current_time", {"timezone": place.zone})


def _clock(result: Result) -> str:
    iso = str(result.get("iso", "time") or "")
    match = re.search(r"(?:^|T)(\d\d:\d\d)", iso)
    return match[1] if match else plain(iso or result.data)


def _day(result: Result) -> str:
    day = str(result.get("date", "iso") or "")[:10]
    weekday = result.get("weekday")
    return f"{plain(weekday)}, {spelled(day)}" if weekday else spelled(day)


def _offset(result: Result) -> float | None:
    match = re.search(r"([+-])(\d\d):?(\d\d)$", str(result.get("utc_offset", "iso") or ""))
    return (int(match[2]) + int(match[3]) / 60) * (-1 if match[1] == "-" else 1) if match else None


def _apart(found: list[Place], apart: Result) -> str:
    hours = apart.number() if apart.ok else None
    first, second = (plain(place.name) for place in found)
    if hours is None:
        return f"How far apart they are I could not calculate: {apart.why}."
    if hours == 0:
        return f"{first} and {second} have the **same time**."
    relation = "ahead of" if hours > 0 else "behind"
    return f"{first} is **{number(abs(hours))} {'hour' if abs(hours) == 1 else 'hours'}** {relation} {second}."


def read(request: Request) -> Clock | None:
    if len(request.plain) > 400:
        return None
    found = places(request.words)
    if request.says(_TIME):
        return Clock(found or (Place("UTC", "UTC"),))
    before = next((goal for goal in reversed(request.earlier) if type(goal).__name__ != "Help"), None)
    if isinstance(before, Clock) and found and len(request.plain) < 80:
        return Clock(found)
    return None
