"""Analyse an attached table with code: look, add up by a column, draw; then “now by …” with what is there."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime

from executor.core.llms.demo.code import finished, run
from executor.core.llms.demo.planning import Past, Plan
from executor.core.llms.demo.reading import Request
from executor.core.llms.demo.writing import plain

_NAME = re.compile(r"\.csv$", re.I)
_BY = re.compile(r"\b(?:by|per|nach) (?:the )?(?P<by>[\w -]{1,60}?)[\s.!?]*$")
_PERIODS = {"day": "D", "week": "W", "month": "M", "quarter": "Q", "year": "Y"}
_MOST_GROUPS = 40

_LOOK = """\
import pandas as pd

df = pd.read_csv({file!r}, sep=None, engine="python")
print(f"{{len(df):,}} rows")
for name in df.columns:
    print(name, df[name].dtype.kind, df[name].nunique(), str(df[name].iloc[0])[:40], sep="\\t")"""

_GROUP = """\
import matplotlib.pyplot as plt

by = {key}
table = df.groupby(by)[{number!r}].agg(["count", "sum", "mean"]).round(2)
assert table["count"].sum() == df[{number!r}].notna()[by.notna()].sum()
print({title!r}, f"{{table['sum'].sum():,.2f}} in {{len(table)}} groups.")
table["sum"].{order}plot.bar(title={title!r}, rot=45)
plt.tight_layout()
plt.show()
table"""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: str  # As numpy has it: i, u and f are numbers.
    values: int  # Different ones.
    first: str

    @property
    def is_number(self) -> bool:
        return self.kind in "iuf" and not re.search(r"(?i)(?:^|_)(?:id|year|no|nr|month)$", self.name)

    @property
    def is_date(self) -> bool:
        try:
            datetime.fromisoformat(self.first)
        except ValueError:
            return False
        return self.kind not in "iufb"


@dataclass(frozen=True, slots=True)
class Table:
    """`by` is what the person wants it added up by; "": whatever suits it."""

    file: str
    by: str = ""
    is_open: bool = False

    def plan(self, past: Past) -> Plan:
        if self.is_open and (before := self._columns_before(past)):
            columns = before
        else:
            looked = yield from run(f"First I look at what is in {plain(self.file)}.", _LOOK.format(file=self.file))
            columns = columns_in(looked.shown)
        number = next((one for one in reversed(columns) if one.is_number), None)
        key = self._key(columns)
        if number is None or key is None:
            what = "a column of numbers to add up" if number is None else f"a column “{plain(self.by)}”"
            names = ", ".join(plain(one.name) for one in columns)
            return f"I did not find {what} in this table. Its columns: {names or 'none that I can read'}."
        code_key, named, in_order = key
        code = _GROUP.format(
            key=code_key,
            number=number.name,
            title=f"{number.name} by {named}:",
            order="" if in_order else "sort_values(ascending=False).",
        )
        done = yield from run(f"I add up {plain(number.name)} by {plain(named)}, check the sum, and draw it.", code)
        return finished(done.said, done, code) + "\n\n*Go on with “now by month”, or by the name of a column.*"

    def _columns_before(self, past: Past) -> list[Column]:
        looked = _LOOK.format(file=self.file)
        results = (one for want, one in past.calls("run_python") if want.arguments.get("code") == looked)
        return next((columns_in(str(one.data)) for one in results), [])

    def _key(self, columns: list[Column]) -> tuple[str, str, bool] | None:
        """The code of what to group by, its name, and whether it has an order of its own."""
        dates = [one for one in columns if one.is_date]
        if self.by in _PERIODS and dates:
            code = f'pd.to_datetime(df[{dates[0].name!r}]).dt.to_period("{_PERIODS[self.by]}").astype(str)'
            return code, self.by, True
        wanted = re.sub(r"[\W_]+", "", self.by.lower())
        named = [one for one in columns if wanted and re.sub(r"[\W_]+", "", one.name.lower()) == wanted]
        if self.by and not named:
            return None
        few = [one for one in columns if not one.is_number and not one.is_date and 1 < one.values <= _MOST_GROUPS]
        if not named and not few and dates:
            return replace(self, by="month")._key(columns)
        found = next(iter(named or few), None)
        return (f"df[{found.name!r}]", found.name, False) if found else None


def columns_in(text: str) -> list[Column]:
    rows = (line.split("\t") for line in text.splitlines())
    return [Column(row[0], row[1], int(row[2]), row[3]) for row in rows if len(row) == 4 and row[2].isdigit()]


def read(request: Request) -> Table | None:
    by = _BY.search(request.plain)
    wanted = by["by"].strip() if by else ""
    file = next((name for name in reversed(request.files) if _NAME.search(name)), "")
    if file and request.says(r"analy[sz]e", "analysis", "look at", "chart", "draw", "sum up", "analysiere"):
        return Table(file, wanted)
    before = request.earlier[-1] if request.earlier else None
    if isinstance(before, Table) and wanted and len(request.plain) < 80:
        return Table(before.file, wanted, is_open=True)
    return None
