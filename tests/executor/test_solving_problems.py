"""Ten small problems, solved end to end: a scripted model writes code, the real sandbox runs it, the errors come back.

What counts is what the code gave, compared with what this file works out in another way. Where there is no sandbox
these tests fail.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from executor.core.errors import LimitReached
from executor.core.executor import ExecutionStatus, TaskSolver
from executor.core.limits import Limits
from executor.sandbox_tools import SandboxTools
from tests.executor.conftest import MakeScript
from tests.executor.scripted import call, say

pytestmark = pytest.mark.sandbox

SALES = "month,product,units,unit_price\n" + "".join(
    f"2026-{month:02},{product},{units + month},{price}\n"
    for month in range(1, 7)
    for product, units, price in (("tea", 30, 4), ("coffee", 20, 9))
)
ORDERS = json.dumps([{"id": 1, "total": "12.50"}, {"id": 2, "total": "7.25"}, {"id": 3, "total": "100"}])
TEXT = "the cat and the dog and the bird sat on the mat"
GUESTS = "name;seats\nZoë;2\nJürgen;3\nAna;1\n"


@dataclass(frozen=True)
class Problem:
    """`wrong` has what a model writes first, each with what the error says; `right` comes up with `truth`."""

    question: str
    wrong: tuple[tuple[str, str], ...]
    right: str
    truth: Callable[[], Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    seconds: float = 60


def revenue() -> float:
    return float(sum(int(row["units"]) * int(row["unit_price"]) for row in csv.DictReader(io.StringIO(SALES))))


def primes() -> int:
    return sum(all(n % d for d in range(2, n)) for n in range(2, 1000))


def stairs(steps: int) -> int:
    one, two = 1, 1
    for _ in range(steps - 1):
        one, two = two, one + two
    return two


def longest_chain() -> int:
    def length(n: int) -> int:
        return 1 if n == 1 else 1 + length(n // 2 if n % 2 == 0 else 3 * n + 1)

    return max(range(1, 1000), key=length)


SIEVE = """\
def primes_below(n):
    prime = [False, False] + [True] * (n - 2)
    for i in range(2, {end}):
        if prime[i]:
            prime[i * i :: i] = [False] * len(prime[i * i :: i])
    return [i for i, is_prime in enumerate(prime) if is_prime]

assert primes_below(10) == [2, 3, 5, 7], primes_below(10)
print(len(primes_below(1000)))"""

SHOP = """\
import pandas as pd
df = pd.read_csv("sales.csv")
df["revenue"] = df["units"] * df["{price}"]
by_month = df.groupby("month")["revenue"].sum()
by_month.plot.bar()
import matplotlib.pyplot as plt
plt.show()
print(float(df["revenue"].sum()))"""

ROMAN = """\
VALUES = dict(I=1, V=5, X=10, L=50, C=100, D=500, M=1000)
def number(roman):
    total = 0
    for this, following in zip(roman, roman[1:] + "I"):
        value = VALUES[this]
        total += {value}
    return total
assert number("XIV") == 14, number("XIV")
print(number("MCMXCIV"))"""

QUEENS = """\
from itertools import permutations
good = 0
for rows in permutations(range(8)){colon}
    if len({{r + c for c, r in enumerate(rows)}}) == len({{r - c for c, r in enumerate(rows)}}) == 8:
        good += 1
print(good)"""

CHAIN = """\
def length(n):
    steps = 1
    while n != 1:
        n = n // 2 if n % 2 == 0 else {odd}
        steps += 1
    return steps
print(max(range(1, 1000), key=length))"""

PROBLEMS = {
    "an off-by-one that an assert finds": Problem(
        "How many primes are there below 1,000?",
        ((SIEVE.format(end="int(n ** 0.5)"), "AssertionError: [2, 3, 5, 7, 9]"),),
        SIEVE.format(end="int(n ** 0.5) + 1"),
        primes,
    ),
    "a column of another name": Problem(
        "What is the revenue in sales.csv? Draw it by month.",
        ((SHOP.format(price="price"), "KeyError: 'price'"),),
        SHOP.format(price="unit_price"),
        revenue,
        {"sales.csv": SALES.encode()},
    ),
    "numbers that are texts": Problem(
        "What do the orders in orders.json come to?",
        (
            (
                "import json\norders = json.load(open('orders.json'))\nsum(order['total'] for order in orders)",
                "TypeError: unsupported operand",
            ),
        ),
        "print(sum(float(order['total']) for order in orders))",
        lambda: sum(float(order["total"]) for order in json.loads(ORDERS)),
        {"orders.json": ORDERS.encode()},
    ),
    "a name that was never given": Problem(
        f"Which word is most frequent in: {TEXT}?",
        (
            (f"words = {TEXT!r}.split()\nprint(len(words))\ncounts.most_common(1)", "NameError: name 'counts'"),
            ("from collection import Counter", "No module named 'collection'"),
        ),
        "from collections import Counter\nprint(*Counter(words).most_common(1)[0])",
        lambda: "{} {}".format(*Counter(TEXT.split()).most_common(1)[0]),
    ),
    "another encoding": Problem(
        "How many seats do the guests of guests.csv need, and who comes first in the alphabet?",
        (
            (
                "import csv\nguests = list(csv.DictReader(open('guests.csv'), delimiter=';'))",
                "UnicodeDecodeError",
            ),
        ),
        "import csv\nguests = list(csv.DictReader(open('guests.csv', encoding='cp1252'), delimiter=';'))\n"
        "print(sum(int(one['seats']) for one in guests), sorted(one['name'] for one in guests))",
        lambda: "6 ['Ana', 'Jürgen', 'Zoë']",
        {"guests.csv": GUESTS.encode("cp1252")},
    ),
    "too deep a recursion": Problem(
        "In how many ways can 5,000 steps be climbed, one or two at a time? The last ten digits, please.",
        (("def ways(n):\n    return 1 if n < 2 else ways(n - 1) + ways(n - 2)\nways(5000)", "RecursionError"),),
        "a, b = 1, 1\nfor _ in range(4999):\n    a, b = b, a + b\nprint(str(b % 10 ** 10).zfill(10))",
        lambda: str(stairs(5000))[-10:],
    ),
    "Roman numbers": Problem(
        "Which number is MCMXCIV?",
        ((ROMAN.format(value="value"), "AssertionError: 16"),),
        ROMAN.format(value="-value if value < VALUES[following] else value"),
        lambda: 1994,
    ),
    "a missing colon": Problem(
        "In how many ways can eight queens stand so that none attacks another?",
        ((QUEENS.format(colon=""), "SyntaxError: expected ':'"),),
        QUEENS.format(colon=":"),
        lambda: 92,
    ),
    "a loop without an end": Problem(
        "Which number below 1,000 has the longest Collatz chain?",
        ((CHAIN.format(odd="3 * n - 1"), "It took longer than 5 seconds"),),
        CHAIN.format(odd="3 * n + 1"),
        longest_chain,
        seconds=5,
    ),
    "a library that is not there, and no network": Problem(
        "What is the sum of the digits of 2 to the power of 1,000?",
        (
            ("import requests", "No module named 'requests'"),
            ("from urllib.request import urlopen\nurlopen('http://192.0.2.1/', timeout=3)", "URLError"),
        ),
        "print(sum(map(int, str(2 ** 1000))))",
        lambda: sum(int(digit) for digit in str(2**1000)),
    ),
}


def test_they_are_ten() -> None:
    assert len(PROBLEMS) == 10


@pytest.mark.parametrize("name", PROBLEMS)
async def test_it_is_solved_after_realistic_mistakes(name: str, scripted: MakeScript, settings: Any) -> None:
    problem = PROBLEMS[name]
    settings.SANDBOX_SECONDS = problem.seconds
    codes = [*(code for code, _ in problem.wrong), problem.right]
    script = scripted(*(say("Let me see.", call("run_python", code=code)) for code in codes), say("Solved."))
    with SandboxTools(problem.files) as tools:
        result = await TaskSolver(script.llm(), tools, limits=Limits(iterations=6)).solve(problem.question)
    assert (result.status, result.output) == (ExecutionStatus.DONE, {"answer": "Solved."}), result.error
    assert [cell.ok for cell in tools.cells] == [False] * len(problem.wrong) + [True]
    for asked, cell, (_, error) in zip(script.asked[1:], tools.cells, problem.wrong, strict=False):
        assert error in cell.result
        assert asked[-1].tool_results[0].content == cell.result  # The model reads it.
        assert asked[-1].tool_results[0].is_error
    last = tools.last
    assert last
    assert last.code == problem.right
    assert str(problem.truth()) in last.result.splitlines()


async def test_the_chart_of_a_solution_is_a_file(scripted: MakeScript) -> None:
    shop = PROBLEMS["a column of another name"]
    script = scripted(say(call("run_python", code=shop.right)), say("Drawn."))
    with SandboxTools(shop.files) as tools:
        await TaskSolver(script.llm(), tools).solve(shop.question)
    (name,) = set(tools.files) - {"sales.csv"}
    assert tools.files[name].startswith(b"\x89PNG")


async def test_it_ends_at_the_limit_of_questions(scripted: MakeScript) -> None:
    script = scripted(*(say(call("run_python", code=f"undefined + {n}")) for n in range(2)))
    with SandboxTools() as tools:
        result = await TaskSolver(script.llm(), tools, limits=Limits(iterations=2)).solve("Something impossible.")
    assert result.status == ExecutionStatus.STOPPED
    assert isinstance(result.error, LimitReached)
    assert (len(tools.cells), tools.last) == (2, None)


async def test_functions_of_ones_own_stand_beside_the_sandbox(scripted: MakeScript) -> None:
    def rate_of(currency: str) -> float:
        """How many euros one unit of it is worth."""
        return {"USD": 0.5}[currency]

    script = scripted(
        say(call("rate_of", currency="USD")), say(call("run_python", code="print(200 * 0.5)")), say("100 euros.")
    )
    with SandboxTools(functions=[rate_of]) as tools:
        result = await TaskSolver(script.llm(), tools).solve("How many euros are 200 dollars?")
    assert result.status == ExecutionStatus.DONE
    assert script.asked[1][-1].tool_results[0].content == "0.5"
    assert tools.last
    assert tools.last.result == "100.0"


async def test_without_a_sandbox_the_model_is_told_so_and_nothing_runs(scripted: MakeScript, settings: Any) -> None:
    settings.SANDBOX_BACKEND = ""
    script = scripted(say(call("run_python", code="print(1)")), say("I could not run it."))
    with SandboxTools() as tools:
        await TaskSolver(script.llm(), tools).solve("One?")
    (cell,) = tools.cells
    assert (cell.ok, cell.result) == (
        False,
        "Code cannot be run here now. Running code is switched off on this server.",
    )
