"""Cards in a terminal: what `manage.py ask` shows of them, and how they are answered there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.urls import reverse

from conversations.cards import DecisionView
from conversations.sub_tasks import ALONE
from executor import decisions
from executor.decisions import TooLate, WrongAnswer
from executor.models import Decision, Task
from users.models import User

Kind = Decision.Kind

INDENT = " " * 8
#: What can be typed for each kind of card, and what is asked for.
PROMPTS = {
    Kind.APPROVAL: "Allow it? [y]es, [a]lways in this conversation, [n]o, and why: ",
    Kind.PLAN: "Go ahead? [y]es, [n]o, and why: ",
    Kind.QUESTION: "Your answer (empty: let it decide): ",
    Kind.LIMIT: "[c]ontinue, and with how much more, or [s]top with a summary: ",
    Kind.UNKNOWN: "It [d]id or [s]kip, and what you found out; or run [a]gain: ",
}


class Cards:
    """Tells each card once and answers it: by `policy` ("yes" or "no"), else by what is typed, if somebody can type."""

    def __init__(self, user: User, tell: Callable[[str], None], policy: str = "", *, quiet: bool = False) -> None:
        self._user = user
        self._tell = tell
        self._policy = policy
        self._asks = not quiet and sys.stdin.isatty()
        self._told: set[int] = set()

    def look(self, task: Task) -> None:
        """Tell and answer what the task waits for, and those below it."""
        pending = decisions_of(task).filter(status=Decision.Status.PENDING)
        pending = pending.select_related("step", "task__agent_version")
        for decision in pending.order_by("pk"):
            if decision.pk in self._told:
                continue
            self._told.add(decision.pk)
            for line in _lines(decision):
                self._tell(line)
            try:
                answered = self._answer(decision)
            except TooLate as late:
                self._tell(str(late))
                continue
            if not answered:
                self._tell(f"It waits for you at {reverse('decide', args=[decision.pk])} in the browser.")

    def _answer(self, decision: Decision) -> bool:
        if self._policy:
            return _by_policy(decision, self._user, yes=self._policy == "yes")
        while self._asks and decision.kind in PROMPTS:
            sys.stderr.write(PROMPTS[Kind(decision.kind)])  # stdout is for the answer.
            sys.stderr.flush()
            typed = sys.stdin.readline()
            if not typed:
                self._asks = False
                break
            try:
                if _by_hand(decision, self._user, typed.strip()):
                    return True
                self._tell("Type one of these letters, or the word.")
            except WrongAnswer as error:
                self._tell(str(error))
        return False


def as_json(decision: Decision) -> dict[str, Any]:
    """For programs that read what `ask` prints."""
    return {
        "id": decision.pk,
        "kind": decision.kind,
        "about": decision.step.name if decision.step else decision.details,
        "arguments": decision.step.arguments if decision.step else None,
        "status": decision.status,
        "choice": decision.choice,
        "changed": decision.arguments,
        "note": decision.note,
    }


def _lines(decision: Decision) -> Iterator[str]:
    view = DecisionView.of(decision)
    yield f"{view.asker}: {view.title}" if view.asker else view.title
    for name, value in view.facts:
        yield f"    {name}: {INDENT.join(value.splitlines(keepends=True))}"
    for number, line in enumerate(view.lines or view.options, 1):
        yield f"    {number}. {line}"
    if view.said:
        yield f"    {view.said}"


def _by_policy(decision: Decision, by: User, *, yes: bool) -> bool:
    """False where yes or no is no answer."""
    match decision.kind:
        case Kind.APPROVAL | Kind.PLAN if yes:
            decisions.allow(decision, by)
        case Kind.APPROVAL | Kind.PLAN | Kind.QUESTION:
            decisions.deny(decision, by)
        case Kind.UNKNOWN if not yes:
            decisions.skip(decision, by)
        case Kind.LIMIT if not yes:
            decisions.summarise(decision, by)
        case _:
            return False
    return True


def _by_hand(decision: Decision, by: User, typed: str) -> bool:
    """Whether what was `typed` is an answer: a letter or its word, and for some what else is to be said. Nothing that
    only begins with the letter is taken for it, and nothing that is said beside a plain yes is passed over."""
    if decision.kind == Kind.QUESTION:
        _reply(decision, by, typed)
        return True
    verb, _, more = typed.partition(" ")
    more = more.strip()
    match decision.kind, verb.lower().rstrip(",.;:"), more:
        case (Kind.APPROVAL | Kind.PLAN, "y" | "yes", ""):
            decisions.allow(decision, by)
        case (Kind.APPROVAL, "a" | "always", ""):
            decisions.allow(decision, by, always=True)
        case (Kind.APPROVAL | Kind.PLAN, "n" | "no", _):
            decisions.deny(decision, by, more)
        case (Kind.LIMIT, "c" | "continue", _):
            decisions.go_on(decision, by, more or None)
        case (Kind.LIMIT, "s" | "stop", ""):
            decisions.summarise(decision, by)
        case (Kind.UNKNOWN, "d" | "did", _):
            decisions.it_did(decision, by, more)
        case (Kind.UNKNOWN, "a" | "again", ""):
            decisions.run_again(decision, by)
        case (Kind.UNKNOWN, "s" | "skip", _):
            decisions.skip(decision, by, more)
        case _:
            return False
    return True


def _reply(decision: Decision, by: User, typed: str) -> None:
    if typed:
        decisions.answer(decision, by, _option(decision, typed))
    else:
        decisions.deny(decision, by)


def _option(decision: Decision, typed: str) -> str:
    """The option with that number, or what was typed."""
    options = DecisionView.of(decision).options
    return options[int(typed) - 1] if typed.isdecimal() and 0 < int(typed) <= len(options) else typed


def decisions_of(task: Task) -> QuerySet[Decision]:
    """What was asked about it, and about those below it."""
    return Decision.objects.filter(task__in=Task.objects.filter(Q(pk=task.pk) | Q(root=task.pk)))


def all_below(task: Task) -> QuerySet[Task]:
    """The tasks that were given to other agents for it."""
    return Task.objects.filter(root=task.pk).select_related("agent_version").order_by("pk")


def of_others(task: Task) -> dict[str, Any]:
    """For programs that read what `ask` prints."""
    return {
        "id": str(task.pk),
        "parent": str(task.parent_id),
        "name": task.name,
        "agent": task.agent_version.config["name"],
        "status": task.status,
    }


class Others:
    """Tells of the tasks that were given to other agents when each begins, and when it is over."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told: dict[UUID, str] = {}

    def look(self, task: Task) -> None:
        for below in all_below(task):
            told = "queued" if not (below.attempts or below.ended_at) else "began" if below.is_active else below.status
            if self._told.get(below.pk, "queued") != told:
                self._told[below.pk] = told
                self._tell(f"       {' · '.join(_of_another(below, told))}")


def _of_another(task: Task, told: str) -> Iterator[str]:
    yield str(task.agent_version.config["title"])
    if task.name != ALONE:
        yield task.name
    yield told if task.is_active else f"{task.get_status_display().lower()}{f': {task.error}' if task.error else ''}"
