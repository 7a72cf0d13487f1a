"""Days as people write them: 2027-03-01 · 1.3.2027 · March 1st · 1. März · Christmas · tomorrow."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass, replace
from datetime import date, timedelta

_MONTHS = (
    "january januar jan jänner|february februar feb|march märz mar mrz|april apr|may mai|june juni jun|july juli jul"
    "|august aug|september sep sept|october oktober oct okt|november nov|december dezember dec dez"
)
_MONTH = {name: index for index, names in enumerate(_MONTHS.split("|"), 1) for name in names.split()}
_NAMED = {
    r"christmas eve|heiligabend|heilig ?abend": (12, 24),
    r"new year'?s eve|silvester": (12, 31),
    r"christmas(?: day)?|xmas|weihnachten": (12, 25),
    r"new year(?:'?s)?(?: day)?|neujahr": (1, 1),
    r"hallowe?'?en": (10, 31),
    r"valentine'?s(?: day)?|valentinstag": (2, 14),
    r"st\.? patrick'?s day": (3, 17),
    r"(?:the )?end of the year|jahresende": (12, 31),
}
_RELATIVE = {"today": 0, "heute": 0, "now": 0, "tomorrow": 1, "morgen": 1, "yesterday": -1, "gestern": -1}
_names = "|".join(sorted(_MONTH, key=len, reverse=True))
_PATTERN = re.compile(
    r"\b(?P<y1>\d{4})-(?P<m1>\d{1,2})-(?P<d1>\d{1,2})\b"
    r"|\b(?P<d2>\d{1,2})\.\s?(?P<m2>\d{1,2})\.(?:\s?(?P<y2>\d{4}))?"
    r"|\b(?P<m3>\d{1,2})/(?P<d3>\d{1,2})/(?P<y3>\d{4})\b"
    rf"|\b(?P<d4>\d{{1,2}})(?:st|nd|rd|th|\.)?(?:\s+of)?\s+(?P<m4>{_names})\b\.?(?:,?\s+(?P<y4>\d{{4}})\b)?"
    rf"|\b(?P<m5>{_names})\.?\s+(?:the\s+)?(?P<d5>\d{{1,2}})(?!\d)(?:st|nd|rd|th)?(?:,?\s+(?P<y5>\d{{4}})\b)?"
    rf"|\b(?P<named>{'|'.join(_NAMED)})(?:\s+(?P<y6>\d{{4}}))?\b"
    rf"|\b(?P<relative>{'|'.join(_RELATIVE)})\b"
)


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the calendar, which need not exist (30 February). Without `year` it is the next one, see `on`.

    `offset` counts days from today instead, where it is not None.
    """

    month: int = 0
    day: int = 0
    year: int | None = None
    offset: int | None = None

    @property
    def needs_today(self) -> bool:
        return self.year is None

    def on(self, today: str) -> str:
        """YYYY-MM-DD, seen from `today` in the same form."""
        if self.offset is not None:
            return (date.fromisoformat(today) + timedelta(days=self.offset)).isoformat()
        year = self.year
        if year is None:
            year = int(today[:4]) + (f"{self.month:02}-{self.day:02}" < today[5:10])
        return f"{year:04}-{self.month:02}-{self.day:02}"

    def existing(self, iso: str) -> str:
        """The last day of that month, for a day that the month does not have."""
        year, month = int(iso[:4]), min(max(self.month, 1), 12)
        last = calendar.monthrange(max(year, 1), month)[1]
        return replace(self, year=year, month=month, day=min(max(self.day, 1), last)).on(iso)


def days(plain: str) -> list[Day]:
    """The days in `plain` (lower case), in their order."""
    return [_day(match) for match in _PATTERN.finditer(plain)]


def _day(match: re.Match[str]) -> Day:
    if match["relative"]:
        return Day(offset=_RELATIVE[match["relative"]])
    if match["named"]:
        month, day = next(value for names, value in _NAMED.items() if re.fullmatch(names, match["named"]))
        return Day(month, day, int(match["y6"]) if match["y6"] else None)
    index = next(index for index in "12345" if match[f"d{index}"])
    said, day = match[f"m{index}"], int(match[f"d{index}"])
    month = _MONTH.get(said) or int(said)
    if index == "3" and month > 12 >= day:
        month, day = day, month  # 25/12/2026 can only be meant the other way round.
    return Day(month, day, int(match[f"y{index}"]) if match[f"y{index}"] else None)


def spelled(iso: str) -> str:
    """2026-12-25 → 25 December 2026"""
    match = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)", iso)
    if not match or not 1 <= int(match[2]) <= 12:
        return iso
    return f"{int(match[3])} {calendar.month_name[int(match[2])]} {match[1]}"
