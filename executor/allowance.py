"""How long an answer may get where a task has a limit of tokens or money, and what is reserved for it.

A question is asked only if it fits, together with a short answer at least, beside what was used and what other
questions hold; its answer may be as long as what is left then, and no longer. So the limit holds, as far as the size
of a question can be told before a provider has counted it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from executor.core.errors import LimitReached, TaskExecutionError
from executor.core.limits import Limits
from executor.core.messages import Usage
from executor.money import dollars

#: Tokens of the longest answer where a limit applies and the agent sets none.
LONGEST_ANSWER = 16_384
#: With room for a shorter one nothing is asked.
SHORTEST_ANSWER = 256

#: No answer is as long as that.
ENDLESS = 2**31

_MILLION = 1_000_000

#: Dollars for so much; None where nobody knows.
Priced = Callable[[Usage], Decimal | None]


class BudgetUsedUp(TaskExecutionError):
    """All tasks below the same one share what that may use."""

    kind = "budget"

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="Whoever gave the task can allow more, and give it again.")


class BudgetHeld(LimitReached):
    """What is left is held for questions of tasks beside it: it can be asked when these have their answers."""

    kind = "budget_held"

    def __init__(self) -> None:
        super().__init__(
            self.kind, "Tasks beside it hold what is left of the limit that they share. It goes on after them."
        )


@dataclass(frozen=True, slots=True)
class Bound:
    """One limit, "tokens" or "cost": what may be used of it, what was, and what other questions hold, in tokens or
    dollars. It is a task's own, or shared by a task and all below it: then the person of the one at the `top` can raise
    it, and nobody else."""

    limit: str
    allowed: Decimal
    used: Decimal
    held: Decimal = Decimal(0)
    is_shared: bool = False
    is_top: bool = True

    def room(self, asked: int, priced: Priced, held: Decimal) -> int:
        """How many tokens an answer to a question of `asked` tokens may have."""
        left = self.allowed - self.used - held
        if self.limit == "tokens":
            return int(left) - asked
        question, answer = priced(Usage(asked, 0)), priced(Usage(0, _MILLION))
        # What is free may go on, and what nobody knows the price of.
        return int((left - (question or 0)) * _MILLION / answer) if answer else ENDLESS

    def refusal(self, asked: int, priced: Priced) -> TaskExecutionError:
        """Why a question does not fit, although nothing is held."""
        takes = Decimal(asked + SHORTEST_ANSWER)
        if self.limit == "cost":
            takes = priced(Usage(asked, SHORTEST_ANSWER)) or Decimal(0)
        who, it = ("It and the tasks that were given for it", "they") if self.is_shared else ("It", "it")
        used, allowed = self._words(self.used, unit=False), self._words(self.allowed)
        said = f"{who} used {used} of the {allowed} that {it} may, and the next question takes {self._words(takes)}."
        return self._reached(said, max(self.used + takes - self.allowed, Decimal(0)))

    @property
    def cut(self) -> TaskExecutionError:
        """What became of an answer that was as long as the limit allows."""
        return self._reached(f"Its answer did not fit into the limit of {self._words(self.allowed)}.", Decimal(0))

    def _reached(self, said: str, short: Decimal) -> TaskExecutionError:
        if not self.is_top:
            return BudgetUsedUp(said)
        unit = int if self.limit == "tokens" else Decimal
        return LimitReached(self.limit, said, used=unit(self.used), allowed=unit(self.allowed), short=unit(short))

    def _words(self, amount: Decimal, *, unit: bool = True) -> str:
        return dollars(amount) if self.limit == "cost" else f"{amount:,.0f}{' tokens' if unit else ''}"


def bounds(limits: Limits, tokens: int, cost: Decimal) -> list[Bound]:
    """Those of one task, which used so many tokens and dollars."""
    found = []
    if limits.tokens is not None:
        found.append(Bound("tokens", Decimal(limits.tokens), Decimal(tokens)))
    if limits.cost is not None:
        found.append(Bound("cost", limits.cost, cost))
    return found


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many tokens an answer may have; `cut` is what it means if it is as long as that and not at its end."""

    tokens: int
    cut: TaskExecutionError | None = None


def allow(bounds: Sequence[Bound], asked: int, longest: int, priced: Priced) -> Allowance:
    """For a question of `asked` tokens. Raises LimitReached, BudgetUsedUp or BudgetHeld."""
    allowance = Allowance(longest)
    shortest = min(longest, SHORTEST_ANSWER)
    for bound in bounds:
        room = bound.room(asked, priced, bound.held)
        if room < shortest:
            raise BudgetHeld if bound.room(asked, priced, Decimal(0)) >= shortest else bound.refusal(asked, priced)
        if room < allowance.tokens:
            allowance = Allowance(room, bound.cut)
    return allowance
