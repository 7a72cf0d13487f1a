"""Count days and find dates; a day that does not exist is replaced by the last one of its month."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from executor.core.llms.demo.dates import Day, days, spelled
from executor.core.llms.demo.planning import Past, Plan, Result, Want, ask, need, need_number
from executor.core.llms.demo.reading import NUMBER_WORDS, Request, to_number
from executor.core.llms.demo.writing import count, plain

_BETWEEN = (
    r"how many (?:days|weeks)|how (?:long|old)|born|days? (?:to|left)|until|till|between|since|count ?down"
    r"|wie ?viele? (?:tage|wochen)|wie lange|bis|zwischen|seit"
)
_WEEKDAY = r"what day(?: of the week)?|which day|weekday|welcher (?:wochen)?tag|wochentag"
_SPAN = re.compile(
    rf"\b(?P<many>\d{{1,6}}|{'|'.join(NUMBER_WORDS)})\s+(?P<unit>days?|weeks?|fortnights?|tagen?|wochen?)\b"
    r"(?:\s+(?P<way>after|from|before|ago|later|earlier|nach|ab|vor|später))?"
)
_DAYS_OF = {"w": 7, "f": 14, "d": 1, "t": 1}
_TODAY = Day(offset=0)


@dataclass(frozen=True, slots=True)
class Between:
    start: Day
    end: Day

    def plan(self, past: Past) -> Plan:
        today = ""
        if self.start.needs_today or self.end.needs_today:
            today = yield from _today("First I’ll look up today’s date, then count the days.")
        start, end = self.start.on(today), self.end.on(today)
        counted, weekday = yield ask(
            f"Now I’ll count the days up to {end} and look up which weekday that is.", *_wants(start, end)
        )
        notes = []
        if not counted.ok and not counted.missing:
            again = self.start.existing(start), self.end.existing(end)
            if again == (start, end):
                need(counted)
            wrong = end if again[1] != end else start
            real = again[1] if again[1] != end else again[0]
            notes.append(
                f"There is no **{spelled(wrong)}** in the calendar, and the function refused it. "
                f"I took the last day of that month instead: **{spelled(real)}**."
            )
            start, end = again
            counted, weekday = yield ask(
                f"The function refused that date: {counted.why}\n\nI’ll take the last day of that month, {real}.",
                *_wants(start, end),
            )
        amount = need_number(counted, "days")
        start, end = str(counted.get("start") or start), str(counted.get("end") or end)
        day = (
            f"{plain(weekday.get('weekday'))}, {spelled(end)}"
            if weekday.ok and weekday.get("weekday")
            else spelled(end)
        )
        if today and start == today and amount > 0:
            left = f"**{count(amount, 'day')}** {'is' if amount == 1 else 'are'} left"
            said = f"{left} until **{day}**, counted from today, {spelled(start)}."
        else:
            said = f"From {spelled(start)} to **{day}** it is **{count(amount, 'day')}**."
        weeks = counted.number("weeks") if counted.get("weeks") else None
        if weeks and abs(weeks) >= 1:
            said += f" That is {count(weeks, 'week')}."
        return "\n\n".join((*notes, said, "*Go on with “and until New Year?” or “what date is 100 days from today?”.*"))


@dataclass(frozen=True, slots=True)
class Shifted:
    """The day `shift` days after `start`, and its weekday."""

    start: Day
    shift: int

    def plan(self, past: Past) -> Plan:
        today = ""
        if self.start.needs_today:
            today = yield from _today("First I’ll look up today’s date.")
        start = self.start.on(today)
        say = f"Now I’ll count {count(abs(self.shift), 'day')} from there." if self.shift else "I’ll look that day up."
        (found,) = yield ask(say, Want("add_days", {"start": start, "days": self.shift}))
        note = ""
        if not found.ok and not found.missing and (real := self.start.existing(start)) != start:
            note = f"There is no {start} in the calendar, so I took {spelled(real)}.\n\n"
            (found,) = yield ask(
                f"The function refused that date: {found.why}", Want("add_days", {"start": real, "days": self.shift})
            )
        need(found)
        day, weekday = str(found.get("date", "result") or found.data), found.get("weekday")
        day = f"{plain(weekday)}, {spelled(day)}" if weekday else spelled(day)
        if not self.shift:
            return f"{note}{spelled(str(found.get('start') or start))} falls on a **{plain(weekday)}**."
        way = "after" if self.shift > 0 else "before"
        return f"{note}**{day}** is {count(abs(self.shift), 'day')} {way} {spelled(str(found.get('start') or start))}."


def _today(say: str) -> Plan:
    (now,) = yield ask(say, Want("current_time", {"timezone": "UTC"}))
    today = str(need(now).get("date", "iso") or now.data)[:10]
    try:
        date.fromisoformat(today)
    except ValueError:
        need(Result(now.name, "It gave no date that I can read.", ok=False))
    return today


def _wants(start: str, end: str) -> tuple[Want, Want]:
    return Want("days_between", {"start": start, "end": end}), Want("add_days", {"start": end, "days": 0})


def read(request: Request) -> Between | Shifted | None:
    if len(request.plain) > 600 or request.url:
        return None
    found = days(request.plain)
    span = _SPAN.search(request.plain)
    if span and (
        span["way"]
        or (found and request.says("plus", "add", "minus"))
        or request.says("what", "which", "when", "date", "wann", "datum")
    ):
        shift = int((to_number(span["many"]) or 0) * _DAYS_OF[span["unit"][0]])
        back = span["way"] in ("before", "ago", "earlier", "vor") or request.says("minus")
        return Shifted(found[0] if found else _TODAY, -shift if back else shift)
    if found and request.says(_WEEKDAY) and not request.says(r"how many", r"until|till|between|since|bis"):
        return Shifted(found[0], 0) if found[0] != _TODAY else None
    before = next((goal for goal in reversed(request.earlier) if type(goal).__name__ != "Help"), None)
    follows = isinstance(before, Between) and len(request.plain) < 60
    if not found or not (request.says(_BETWEEN) or follows):
        return None
    if len(found) >= 2:
        return Between(found[0], found[1])
    return (
        Between(found[0], _TODAY)
        if request.says("since", "seit", "born", "geboren", "how old")
        else Between(_TODAY, found[0])
    )
