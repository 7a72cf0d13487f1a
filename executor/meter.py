"""What a task uses up: the counts in its row, what its answers cost, and what is reserved for the question that is
being asked.

Only who holds the task counts, so the row is written as the counts are, in every transaction of its journal
(`statements.COUNTS`). A transaction that fails takes its counts back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

from executor import accounts, shared
from executor.accounts import DayLimits, Reservation
from executor.allowance import LONGEST_ANSWER, Allowance, Bound, allow, bounds
from executor.at_limit import SUMMARISE
from executor.core.budget import TOKENS_PER_BYTE
from executor.core.config import AgentConfig
from executor.core.errors import LimitReached, TaskExecutionError
from executor.core.limits import Limits, Spent
from executor.core.llms.parameters import MAX_TOKENS
from executor.core.messages import Usage
from executor.core.prices import Price
from executor.core.prices import cost as price_of
from executor.models import Step, Task
from executor.statements import COUNTS, RECOUNT

NOTHING = Usage()
_SOME = Usage(1_000_000, 1_000_000)


class Meter:
    """`limits` are the task's own. It `shares` what the task at the top may use where others belong to the same."""

    def __init__(self, task: Task, limits: Limits, *, shares: bool = False) -> None:
        self.counts: dict[str, Any] = {name: getattr(task, name) for name in COUNTS}
        self.day_limits = DayLimits.of(task.user)
        self.limits = limits
        self.shares = shares
        #: Of the question that is being asked, where a limit applies.
        self.allowance: Allowance | None = None
        self._is_last = SUMMARISE in task.allowed
        self._task = task
        self._on_record = dict(self.counts)
        self._asked_on: date | None = None
        self.asked_bytes = 0
        self._tokens_per_byte = TOKENS_PER_BYTE

    def committed(self) -> None:
        self._on_record = dict(self.counts)

    def rolled_back(self) -> None:
        self.counts = dict(self._on_record)

    def recount(self) -> None:
        """Into the row, in a transaction that has begun."""
        RECOUNT.execute(task=self._task.pk, **self.counts)

    @property
    def spent(self) -> Spent:
        """With what failed attempts took."""
        tokens = self.counts["input_tokens"] + self.counts["output_tokens"]
        return Spent(self.counts["model_calls"], tokens, self.counts["tool_calls"], self.counts["cost"] or Decimal(0))

    def next_seq(self) -> int:
        self.counts["head_seq"] += 1
        return int(self.counts["head_seq"])

    def count(self, **more: int) -> None:
        """A step is finished."""
        for name, number in more.items():
            self.counts[name] += number
        self.counts["stalled_attempts"] = 0
        self.counts["postponements"] = 0

    # --- a question --------------------------------------------------------------------------------------------------

    def asks(self, size: int) -> None:
        """A question of `size` bytes is about to be asked."""
        self.allowance = None
        self._asked_on, self.asked_bytes = accounts.today(), size

    def add_to_question(self, size: int) -> None:
        self.asked_bytes += size

    @property
    def is_limited(self) -> bool:
        """Whether a question has to fit into anything: the person's day, or what the task may use, or all together."""
        return bool(self.day_limits or self._own_bounds or self.shares)

    def reserve(self, config: AgentConfig) -> TaskExecutionError | None:
        """What the question may use at most; from then on `allowance` tells how long its answer may be. Why not, if it
        does not fit. Within a transaction."""
        self.give_back()
        longest = int(config.parameters.get(MAX_TOKENS.name) or LONGEST_ANSWER)
        asked = math.ceil(self.asked_bytes * self._tokens_per_byte)
        limits = self._own_bounds
        if self.shares and not self._is_last:
            limits += shared.bounds(self._task)
        if not (limits or self.day_limits):
            return None
        try:
            self.allowance = allow(limits, asked, longest, partial(cost_of, config, ""))
        except TaskExecutionError as refusal:
            return refusal
        usage = Usage(asked, self.allowance.tokens)
        return self._reserve(
            Reservation(accounts.today(), usage.total_tokens, cost_of(config, "", usage) or Decimal(0))
        )

    def _reserve(self, wanted: Reservation) -> LimitReached | None:
        """In the account of the person's day."""
        user = self._task.user
        if not accounts.reserve(user.pk, wanted, self.day_limits):
            user.refresh_from_db(fields=["max_tokens_per_day", "max_cost_per_day"])  # They may have changed.
            self.day_limits = DayLimits.of(user)
            if not accounts.reserve(user.pk, wanted, self.day_limits):
                return accounts.refusal(user.pk, wanted, self.day_limits)
        self._hold_back(wanted)
        return None

    @property
    def _own_bounds(self) -> list[Bound]:
        """What the task may use by itself. Its last words, at a limit, may pass that."""
        return [] if self._is_last else bounds(self.limits, self.spent.tokens, self.spent.cost)

    def give_back(self) -> None:
        """What was reserved for a question that nobody waits for any more."""
        if held := self._reservation:
            accounts.book(self._task.user_id, held.day, reserved=held)
            self._hold_back(None)
            self.recount()

    def learn(self, usage: Usage) -> None:
        """How many tokens the question really had."""
        if self.asked_bytes and usage.input_tokens:
            self._tokens_per_byte = usage.input_tokens / self.asked_bytes

    # --- its answer --------------------------------------------------------------------------------------------------

    def use(
        self, config: AgentConfig, usage: Usage, model: str = "", *, begun: bool = True
    ) -> tuple[dict[str, Any], Callable[[], object] | None]:
        """Tokens and cost for the row of a question, added up in that of the task, and what books them on the person's
        day. Where no tokens were told, it costs what nobody knows, unless it had not even begun."""
        cost: Decimal | None = Decimal(0)
        if begun or usage.total_tokens:
            cost = cost_of(config, model, usage)
        self.counts["input_tokens"] += usage.input_tokens
        self.counts["output_tokens"] += usage.output_tokens
        held, booking = self._reservation, None
        if held or cost or usage.total_tokens:
            day = self._asked_on or accounts.today()
            booking = partial(accounts.book, self._task.user_id, day, usage.total_tokens, cost, held)
            self._hold_back(None)
        return {**asdict(usage), "cost": self._add_cost(cost)}, booking

    def price(self, step: Step, config: AgentConfig, *, is_own: bool) -> Decimal | None:
        """What a question may have cost that is not waited for any more: nobody knows what, unless its model is free.
        If it is not of `config`, the prices of its agent are not at hand."""
        if is_own:
            return self._add_cost(cost_of(config, step.model, NOTHING))
        return self._add_cost(Decimal(0) if price_of(step.provider, step.model, _SOME) == 0 else None)

    def _add_cost(self, cost: Decimal | None) -> Decimal | None:
        """To that of the task: its `cost` and `unpriced_calls` are the sums of those of its steps."""
        if cost is None:
            self.counts["unpriced_calls"] += 1
        else:
            self.counts["cost"] = (self.counts["cost"] or 0) + cost
        return cost

    @property
    def _reservation(self) -> Reservation | None:
        day = self.counts["reserved_on"]
        return Reservation(day, self.counts["reserved_tokens"], self.counts["reserved"] or Decimal(0)) if day else None

    def _hold_back(self, wanted: Reservation | None) -> None:
        self.counts["reserved_on"] = wanted.day if wanted else None
        self.counts["reserved_tokens"] = wanted.tokens if wanted else 0
        self.counts["reserved"] = wanted.cost if wanted else None


def cost_of(config: AgentConfig, model: str, usage: Usage) -> Decimal | None:
    """Dollars, None where nobody knows: the provider did not say how many tokens, or no list has the price."""
    price, told = Price.from_json(config.price), usage.total_tokens > 0
    for name in dict.fromkeys((model or config.model, config.model)):
        found = price_of(config.provider, name, usage if told else _SOME, base_url=config.base_url, price=price)
        if found is not None:
            return found if told or not found else None
    return None
