"""Work out how savings grow, year by year, and draw it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from executor.core.llms.demo.look import Look, read_look
from executor.core.llms.demo.planning import Past, Plan, Want, ask, need_number
from executor.core.llms.demo.reading import NUMBER, Request, to_number
from executor.core.llms.demo.skills.drawing import shown
from executor.core.llms.demo.writing import exact, money, number, table

_MONEY = rf"(?:[€$£]\s*)?({NUMBER})\s*(?:€|\$|£|euros?|eur|dollars?|usd|pounds?|francs?|franken|chf)?"
_PER = r"(?:a|per|each|every|im|pro|jeden|jede|/)\s*"
_REGULAR = re.compile(
    rf"{_MONEY}\s*(?:{_PER}(?P<per>month|monat|year|jahr|week|woche)|(?P<adverb>month|monat|year|annual|jähr|week|wöchent)l)"
)
_PERIOD = {
    "mo": "month",
    "ye": "year",
    "ja": "year",
    "an": "year",
    "jä": "year",
    "we": "week",
    "wo": "week",
    "wö": "week",
}
#: How much one of these is in a month, for the calculator.
_A_MONTH = {"month": "{}", "year": "({} / 12)", "week": "({} * 52 / 12)"}
_START = re.compile(
    r"(?:start(?:ing)? (?:with|from|at|capital(?: of)?)|invest(?:ing|ed)?|deposit(?:ing)?|begin(?:ning)? with|have"
    rf"|lump sum of|startkapital|anlegen?|lege)\s+(?:about\s+)?{_MONEY}(?!\s*(?:%|years?|jahre|percent))"
)
_RATE = re.compile(rf"({NUMBER})\s*(?:%|per ?cent|prozent)")
_YEARS = re.compile(rf"({NUMBER}|five|ten|fifteen|twenty|thirty|forty|fünf|zehn|zwanzig)[ -]*(?:years?|jahren?)\b")
_SAVING = (
    r"sav(?:e|es|ed|ing|ings)|invest\w*|interest|put (?:aside|away)|deposit\w*|compound"
    r"|spare\w?|sparplan|zinsen?|lege|anlegen?"
)


@dataclass(frozen=True, slots=True)
class Savings:
    """Amounts in whatever currency was meant, `rate` in per cent a year, interest credited every month."""

    amount: float
    per: str
    start: float
    rate: float
    years: int
    assumed: tuple[str, ...] = ()
    look: Look = Look()  # noqa: RUF009 - it is frozen

    def plan(self, past: Past) -> Plan:
        start, monthly = exact(self.start), _A_MONTH[self.per].format(exact(self.amount)) if self.amount else "0"
        total = " + ".join([start] * bool(self.start) + [f"{monthly} * 12 * {self.years}"] * bool(self.amount)) or "0"
        first, paid_in = yield ask(
            "First I’ll work out the interest per month and how much you pay in.",
            Want("calculate", {"expression": f"{exact(self.rate)} / 100 / 12"}),
            Want("calculate", {"expression": total}),
        )
        interest, paid = need_number(first), need_number(paid_in)
        shown_years = _sample(self.years)
        grown = yield ask(
            f"Now the balance after each of {len(shown_years)} years, all at once.",
            *(Want("calculate", {"expression": _balance(start, monthly, interest, year)}) for year in shown_years),
        )
        balances = [need_number(result) for result in grown]
        chart = Want(
            "draw_chart",
            self.look.apply(
                {
                    "kind": "line",
                    "title": f"Savings over {self.years} years at {number(self.rate)} %",
                    "labels": [str(year) for year in shown_years],
                    "values": balances,
                    "palette": "calm",
                    "x_label": "Year",
                    "y_label": "Balance",
                }
            ),
        )
        difference, drawn = yield ask(
            "Last, how much of that is interest, and the chart of the growth.",
            Want("calculate", {"expression": f"round({exact(balances[-1])} - {exact(paid)}, 2)"}),
            chart,
        )
        gained = need_number(difference)
        paid_as = [f"{number(self.start)} at the start"] * bool(self.start)
        paid_as += [f"{number(self.amount)} a {self.per}"] * bool(self.amount)
        assumed = f" You did not say otherwise, so I took {' and '.join(self.assumed)}." if self.assumed else ""
        rows = [(str(year), money(balance)) for year, balance in zip(shown_years, balances, strict=True)]
        result = f"After **{self.years} years** you have **{money(balances[-1])}**"
        terms = f"That is for {' and '.join(paid_as)} at {number(self.rate)} % a year"
        parts = [
            f"{result}: {money(paid)} paid in and **{money(gained)} of interest**.",
            f"{terms}, with the interest added every month.{assumed}",
            table(("Year", "Balance"), rows, right=(0, 1)),
            shown(chart, drawn, "how the balance grows"),
            "*Go on with “what if it is 5 %?”, “for 20 years” or “draw it as a bar chart”.*",
        ]
        return "\n\n".join(parts)


def _balance(start: str, monthly: str, interest: float, year: int) -> str:
    """The balance after `year` years: the sum of a geometric series of payments, each made at the end of its month."""
    months = year * 12
    growth = f"(1 + {exact(interest)}) ** {months}"
    first = f"{start} * {growth}" if interest else start
    then = f"{monthly} * ({growth} - 1) / {exact(interest)}" if interest else f"{monthly} * {months}"
    return f"round({' + '.join([first] * (start != '0') + [then] * (monthly != '0')) or '0'}, 2)"


def _sample(years: int) -> list[int]:
    """Each year, or about ten of them evenly spaced; always the last."""
    step = -(-years // 12)
    return sorted({*range(step, years + 1, step), years})


def read(request: Request) -> Savings | None:
    plain = request.plain
    if len(plain) > 600:
        return None
    regular, start = _REGULAR.search(plain), _START.search(plain)
    rate, years = _RATE.search(plain), _YEARS.search(plain)
    given: dict[str, Any] = {}
    if regular:
        given["amount"] = to_number(regular[1]) or 0.0
        given["per"] = _PERIOD[(regular["per"] or regular["adverb"])[:2]]
    if start and (not regular or start.start(1) != regular.start(1)):
        given["start"] = to_number(start[1]) or 0.0
    if rate:
        given["rate"] = min(max(to_number(rate[1]) or 0, 0), 100)
    if years:
        given["years"] = int(min(max(to_number(years[1]) or 1, 1), 60))
    before = next((goal for goal in reversed(request.earlier) if isinstance(goal, Savings)), None)
    if request.says(_SAVING) and ("amount" in given or "start" in given):
        asked = (("years", "10 years"), ("rate", "no interest"))
        assumed = tuple(words for key, words in asked if key not in given)
        whole: dict[str, Any] = {"amount": 0.0, "per": "month", "start": 0.0, "rate": 0.0, "years": 10} | given
        return Savings(**whole, assumed=assumed, look=read_look(request))
    if before and given and len(plain) < 80 and not request.says("of", "convert", "calculate"):
        return replace(before, **given, assumed=(), look=read_look(request).over(before.look))
    return None
