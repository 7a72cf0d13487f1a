"""Which calls of a task wait for a person, and what people have decided about them so far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from executor.core.config import AgentConfig
from executor.models import ApprovalRule, Decision, Step, Task
from executor.prepared import Param, Select
from tools.core.function import Function

ALWAYS, NEVER = "always", "never"
#: What lets a call run.
GO = (Decision.Choice.ALLOW, Decision.Choice.ALWAYS, Decision.Choice.AGAIN)

CHANGED = "The person changed the arguments of this call before it ran, to {arguments}. Its result:\n"


_AGREED = Select(
    lambda: Decision.objects.filter(
        task=Param("task"), status=Decision.Status.DECIDED, choice__in=GO, consumed_at=None
    ).select_related("step")
)
_OPEN_CALLS = Select(
    lambda: Step.objects.filter(
        task=Param("task"), kind=Step.Kind.TOOL, status__in=(Step.Status.WAITING, Step.Status.PENDING)
    ).only("call_id", "status", "attempt")
)
_RULES = Select(lambda: ApprovalRule.objects.filter(user=Param("user"), thread=Param("thread")).only("function"))


@dataclass(frozen=True)
class Agreements:
    """What stands in the rows when a task is taken up. A change of it makes the task be taken up anew.

    `decided` has what was agreed to and is not used yet, by call; `waiting` the calls that wait for an answer; `begun`
    those that were begun before. `policy` is the agent's, `always` has the functions of which the person said so.
    """

    policy: Mapping[str, str] = field(default_factory=dict)
    always: frozenset[str] = frozenset()
    decided: Mapping[str, Decision] = field(default_factory=dict)
    waiting: frozenset[str] = frozenset()
    begun: frozenset[str] = frozenset()

    @classmethod
    def of(cls, task: Task, config: AgentConfig, *, is_new: bool = False) -> Agreements:
        """`is_new`: it has no steps yet, so there is nothing that could have been decided."""
        always = frozenset(rules_of(task))
        if is_new:
            return cls(config.approvals, always)
        calls = {call.call_id or "": call for call in _OPEN_CALLS.all(task=task.pk)}
        return cls(
            config.approvals,
            always,
            {decision.step.call_id or "": decision for decision in _AGREED.all(task=task.pk) if decision.step},
            frozenset(name for name, call in calls.items() if call.status == Step.Status.WAITING),
            frozenset(name for name, call in calls.items() if call.status == Step.Status.PENDING and call.attempt > 1),
        )

    def must_wait(self, call_id: str, function: Function, given: dict[str, Any]) -> bool:
        """Whether somebody has to decide something before this call can have a result."""
        if function.answered_by != "function":
            return True
        if call_id in self.decided:
            return False
        return call_id in self.waiting or self._must_ask(function, given)

    def _must_ask(self, function: Function, given: dict[str, Any]) -> bool:
        match policy_for(self.policy, function.name):
            case "always":
                return True
            case "never":
                return False
        return function.name not in self.always and function.needs_approval(given)


def policy_for(policy: Mapping[str, str], function: str) -> str:
    """What an agent's policy says of a function: ALWAYS, NEVER, or "" for what the function itself says."""
    return policy.get(function, policy.get("*", ""))


def with_changes(arguments: dict[str, Any] | None, result: str) -> str:
    """What a model is told of a call that ran with other `arguments` than its own. None: it ran with those."""
    return result if arguments is None else CHANGED.format(arguments=json.dumps(arguments, ensure_ascii=False)) + result


def rules_of(task: Task) -> set[str]:
    """The functions that the person always allows where this task belongs."""
    if task.thread is None:
        return set()
    return {rule.function for rule in _RULES.all(user=task.user_id, thread=task.thread)}
