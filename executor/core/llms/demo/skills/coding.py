"""Write Python and run it: with the mistakes that are usual, which the errors tell, until it works."""

from __future__ import annotations

from dataclasses import dataclass

from executor.core.llms.demo.code import finished, run
from executor.core.llms.demo.planning import Past, Plan
from executor.core.llms.demo.reading import Request, first_number

_CODE = r"python|code|script|program"
#: So many numbers are looked at, at the most.
MOST = 1_000_000

_PRIMES = """\
def primes_below(n):
    is_prime = [False, False] + [True] * (n - 2)
    for i in range(2, {end}):
        if is_prime[i]:
            for multiple in range(i * i, n, i):
                is_prime[multiple] = False
    return [i for i in range(n) if is_prime[i]]


assert primes_below(10) == [2, 3, 5, 7], primes_below(10)
assert primes_below(30)[-1] == 29, primes_below(30)
primes = primes_below({limit})
print(f"There are {{len(primes):,}} primes below {limit:,}; the largest is {{primes[-1]:,}}.")"""

_TENTHS = """\
import matplotlib.pyplot as plt
import pandas as pd

step = {limit} // 10
table = pd.Series(primes).floordiv(step).mul(step).value_counts().sort_index().rename_axis("from").to_frame("primes")
table["primes"].plot.bar(title="Primes below {limit:,}, by tenths", rot=45)
plt.tight_layout()
plt.show()
table"""

_MADE = """\
import numpy as np
import pandas as pd

rng = np.random.default_rng(2026)
days = pd.date_range("2025-01-01", "2025-12-31")
pd.DataFrame({
    "date": np.repeat(days, 2),
    "product": ["tea", "coffee"] * len(days),
    "units": rng.integers(5, 40, 2 * len(days)),
    "unit_price": [4.0, 9.5] * len(days),
}).to_csv("sales.csv", index=False)
print("sales.csv has", 2 * len(days), "rows.")"""

_REVENUE = """\
import matplotlib.pyplot as plt

df = pd.read_csv("sales.csv", parse_dates=["date"])
df["revenue"] = df["units"] * df["{price}"]
by_month = df.pivot_table(index=df["date"].dt.strftime("%Y-%m"), columns="product", values="revenue", aggfunc="sum")
assert by_month.to_numpy().sum() == df["revenue"].sum()
best = by_month.sum(axis=1).idxmax()
print(f"Revenue of the year: {{df['revenue'].sum():,.2f}}. Best month: {{best}}.")
by_month.plot.bar(stacked=True, title="Revenue by month", rot=45)
plt.tight_layout()
plt.show()
by_month"""


@dataclass(frozen=True, slots=True)
class Primes:
    """Those below `limit`, found by a sieve whose first version stops one too early."""

    limit: int

    def plan(self, past: Past) -> Plan:
        wrong, right = (_PRIMES.format(end=end, limit=self.limit) for end in ("int(n**0.5)", "int(n**0.5) + 1"))
        first = yield from run(
            "My plan: a sieve, with two small cases whose answers I know as tests, and then the real question.",
            wrong,
            expected="AssertionError",
        )
        code = wrong
        if first.failed:
            code = right
            first = yield from run(
                f"My own test failed: `{first.error}`. 9 = 3 × 3 was left in, because `range` ends before the root "
                "itself. One more, and the same tests again.",
                right,
            )
        tenths = yield from run(
            "The tests pass. Now how they are spread, as a table and a chart.", _TENTHS.format(limit=self.limit)
        )
        return finished(first.said, tenths, code)


@dataclass(frozen=True, slots=True)
class Sales:
    """A year of sales that is made up, and charted after looking for a column that is not there."""

    def plan(self, past: Past) -> Plan:
        yield from run("First I make up a year of sales, the same each time, and write them to a file.", _MADE)
        wrong, right = (_REVENUE.format(price=name) for name in ("price", "unit_price"))
        charted = yield from run(
            "Now I read the file as if somebody else had made it, and work out the revenue.", wrong, expected="KeyError"
        )
        code = wrong
        if charted.failed:
            code = right
            charted = yield from run(
                f"That failed: `{charted.error}`. There is no column of that name; the file calls it `unit_price`. "
                "With that, and a check that no revenue gets lost on the way into the months:",
                right,
            )
        return finished(charted.said, charted, code)


def read(request: Request) -> Primes | Sales | None:
    if not request.says(_CODE):
        return None
    if request.says("primes?", "prime numbers?"):
        return Primes(
            int(min(max(first_number(r"\b(?:below|under|up to|to)\s+NUM", request.plain) or 1000, 100), MOST))
        )
    if request.says("sales", "revenue"):
        return Sales()
    return None
