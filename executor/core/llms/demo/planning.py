"""Goals, plans, and how a plan is run against a transcript."""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from executor.core.llms.demo.writing import clean, cleaned, plain
from executor.core.messages import JsonDict, Message, ToolResult


@dataclass(frozen=True, slots=True)
class Want:
    """A call that a plan would like made."""

    name: str
    arguments: JsonDict


@dataclass(frozen=True, slots=True)
class Result:
    """What a call gave. `data` is its content read as JSON, or the content itself where it is not JSON."""

    name: str
    data: Any
    ok: bool = True
    missing: bool = False

    @classmethod
    def of(cls, result: ToolResult) -> Result:
        try:
            data = cleaned(json.loads(result.content))
        except (ValueError, RecursionError):
            data = clean(result.content)
        return cls(result.name, data, ok=not result.is_error)

    def get(self, *keys: str) -> Any:
        """The first of the fields `keys` that is there, else None."""
        fields = self.data if isinstance(self.data, dict) else {}
        return next((fields[key] for key in keys if fields.get(key) is not None), None)

    def number(self, *keys: str) -> float | None:
        """The result as a number: the whole of it, or one of its fields."""
        value = self.get(*keys, "result", "value") if isinstance(self.data, dict) else self.data
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
        return value if is_number else None

    @property
    def why(self) -> str:
        """Why it failed, in the function's own words, as one line of Markdown."""
        if self.missing:
            return f"this agent may not use the function `{self.name}`"
        return plain(self.why_text, 300)

    @property
    def why_text(self) -> str:
        """The words of a failure, unescaped, without the schema that follows where the arguments were wrong."""
        words = self.data if isinstance(self.data, str) else self.get("error", "message", "detail") or self.data
        return str(words).split("\nExpected:")[0].removeprefix("ValueError: ")


@dataclass(frozen=True, slots=True)
class Step:
    """Something to say, and calls to make at once. Without calls it is the answer."""

    say: str
    wants: tuple[Want, ...] = ()


Plan = Generator[Step, tuple[Result, ...], str]


class Goal(Protocol):
    """What the person is after, with everything they said about it."""

    def plan(self, past: Past) -> Plan: ...


class Stuck(Exception):
    """A call that the plan cannot do without gave nothing."""

    def __init__(self, result: Result) -> None:
        self.result = result


def ask(say: str, *wants: Want) -> Step:
    return Step(say, wants)


def need(result: Result) -> Result:
    """`result`, if it can be used. Otherwise the plan ends with an answer that says why."""
    if not result.ok:
        raise Stuck(result)
    return result


def need_number(result: Result, *keys: str) -> float:
    value = need(result).number(*keys)
    if value is None:
        raise Stuck(Result(result.name, "The result holds no number.", ok=False))
    return value


@dataclass(frozen=True, slots=True)
class Round:
    """The calls of one assistant message, each with its result; `at` is the message's place in the transcript."""

    calls: tuple[tuple[Want, Result], ...] = ()
    at: int = -1


@dataclass(frozen=True, slots=True)
class Past:
    """What was called before the request, oldest first."""

    rounds: tuple[Round, ...] = field(default=())

    def calls(self, name: str) -> list[tuple[Want, Result]]:
        """The calls of `name` that succeeded, latest first."""
        return [
            (want, result)
            for past_round in reversed(self.rounds)
            for want, result in reversed(past_round.calls)
            if want.name == name and result.ok
        ]


def rounds(messages: Sequence[Message]) -> tuple[Round, ...]:
    """The calls in `messages`, by assistant message. A call that has no result counts as failed."""
    found = []
    results: dict[str, ToolResult] = {}
    # Backwards, so that a call finds the result that follows it even where an id is used again later.
    for at, message in reversed(list(enumerate(messages))):
        results |= {result.call_id: result for result in message.tool_results}
        if calls := message.tool_calls:
            pairs = []
            for call in calls:
                none = ToolResult(call.id, call.name, "It was stopped before it had a result.", is_error=True)
                pairs.append((Want(call.name, call.arguments or {}), Result.of(results.pop(call.id, none))))
            found.append(Round(tuple(pairs), at))
    return tuple(reversed(found))


def next_step(goal: Goal, past: Past, done: Sequence[Round], tools: Collection[str]) -> Step:
    """What `goal` asks for after the rounds in `done`: calls of functions that are in `tools`, or the answer.

    A function that is not there is reported to the plan as a failed call, so that it can do without or say so.
    """
    plan = goal.plan(past)
    ahead = list(done)
    try:
        step = next(plan)
        while True:
            # Rounds that do not fit were made by an older version of the plan; what it wants now is asked for again.
            while ahead and not _fits(ahead[0], step):
                if not any(want.name in tools for want in step.wants):
                    break
                del ahead[0]
            if ahead and _fits(ahead[0], step):
                given = ahead.pop(0)
            else:
                available = tuple(want for want in step.wants if want.name in tools)
                if available:
                    return Step(step.say, available)
                given = Round()
            step = plan.send(_results(step, given))
    except StopIteration as stop:
        return Step(stop.value)
    except Stuck as stuck:
        return Step(_stuck(stuck.result))


def _fits(given: Round, step: Step) -> bool:
    names = iter(want.name for want in step.wants)
    return all(want.name in names for want, _ in given.calls)


def _results(step: Step, given: Round) -> tuple[Result, ...]:
    ahead = list(given.calls)
    results = []
    for position, want in enumerate(step.wants):
        rest = len(step.wants) - position
        # Where calls of one name are fewer than wanted, those that were made are the ones with equal arguments.
        if ahead and ahead[0][0].name == want.name and (len(ahead) == rest or ahead[0][0] == want):
            results.append(ahead.pop(0)[1])
        else:
            results.append(Result(want.name, None, ok=False, missing=True))
    return tuple(results)


def _stuck(result: Result) -> str:
    if result.missing:
        return (
            f"For this I would need the function `{result.name}`, and this agent may not use it, so I stop here rather "
            "than guess. An administrator can allow it in the agent's settings."
        )
    return (
        f"That did not work. The function `{result.name}` answered:\n\n> {result.why}\n\n"
        "I have nothing better to try here. Put the request a little differently and I will start again."
    )
