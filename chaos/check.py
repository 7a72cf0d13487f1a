"""What became of everything: the site's rows against the plans, and against the ledger that its functions wrote."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import Group

from chaos.people import EDITED, TRIED_AGAIN
from chaos.plans import UNNUMBERED, Plan, label
from chaos.world import ledger_key
from executor.approvals import GO, rules_of
from executor.core.messages import Message
from executor.history import task_messages
from executor.models import ACTIVE, ASKS, OPEN, Decision, Status, Step, Task
from executor.sub_tasks import DEPENDENCY, outcome
from executor.told import transcript

Line = dict[str, Any]
#: Names of the columns that have to be 0.
LOST_TASKS, LOST_STEPS = "lost tasks", "lost steps"
DOUBLED, UNASKED = "doubled unsafe effects", "effects that nobody agreed to"
NOT_ONCE, KEYS = "transactional effects not exactly once", "idempotency keys that changed"
HISTORIES, OWNERLESS = "invalid histories", "states without owner"
TWICE = "decisions consumed twice"
#: The steps of the declared task.
CHAIN = ("begin", "ask", "work", "end")
COLUMNS = (LOST_TASKS, LOST_STEPS, DOUBLED, UNASKED, NOT_ONCE, KEYS, HISTORIES, OWNERLESS, TWICE)


@dataclass
class Verdict:
    wrong: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in COLUMNS})
    counts: Counter[str] = field(default_factory=Counter)

    def say(self, column: str, what: str) -> None:
        self.wrong[column].append(what)

    @property
    def is_fine(self) -> bool:
        return not any(self.wrong.values())


def check(plans: dict[str, Plan], sent: set[str], ledger: Sequence[Line]) -> Verdict:
    verdict = Verdict()
    rows = list(Task.objects.select_related("agent_version"))
    tasks = {task.idempotency_key: task for task in rows if task.parent_id is None}
    planned_below = {below.key: below for plan in plans.values() for given in plan.gives for below in given}
    let_in = Counter(Step.objects.filter(kind=Step.Kind.MESSAGE).values_list("text", flat=True))
    for key in sorted(sent):
        if (places := (key in tasks) + let_in[plans[key].text]) != 1:
            verdict.say(LOST_TASKS, f"{key} was sent, and is in {places} places")
    verdict.counts["let in"] = let_in.total()
    written = _by_call(ledger)
    kept = Counter(name.partition(" ")[0] for name in Group.objects.values_list("name", flat=True))
    known: set[str] = set()
    for task in rows:
        plan = planned_below.get(label(task.text)) if task.parent_id else plans.get(task.idempotency_key or "")
        if plan is None:
            verdict.say(LOST_TASKS, f"task {task.pk} was planned by nobody")
            continue
        steps = list(task.steps.order_by("seq"))
        known |= {ledger_key(step) for step in steps if step.call_id}
        verdict.counts[f"{'given' if task.parent_id else 'tasks'} {task.status}"] += 1
        verdict.counts["steps"] += len(steps)
        verdict.counts["attempts"] += task.attempts
        _check_state(verdict, task, steps)
        _check_steps(verdict, task, plan, steps, written)
        if plan.data:
            _check_declared(verdict, task, steps)
        if plan.calls:
            _check_given(verdict, task, plan, steps)
        _check_summaries(verdict, task, steps)
        _check_effects(verdict, task, steps, written, kept)
        for problem in history_problems(task_messages(task, steps, close=True)):
            verdict.say(HISTORIES, f"task {task.pk}: {problem}")
    for call in written.keys() - known:
        verdict.say(LOST_STEPS, f"call {call} was executed, and no step says so")
    for call in kept.keys() - known:
        verdict.say(NOT_ONCE, f"call {call} wrote a row, and no step says so")
    _check_keys(verdict, written)
    return verdict


def check_refusals(verdict: Verdict) -> None:
    """What providers would not take is no history. The fake ones are as strict as the real ones."""
    for step in Step.objects.filter(kind=Step.Kind.MODEL, status=Step.Status.FAILED, error_kind="bad_request"):
        verdict.say(HISTORIES, f"task {step.task_id} step {step.seq}: {step.provider} says {step.error}")


def _by_call(ledger: Sequence[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = defaultdict(list)
    for line in ledger:
        found[line["call"]].append(line)
    return found


def _check_state(verdict: Verdict, task: Task, steps: Sequence[Step]) -> None:
    pending = task.decisions.filter(status=Decision.Status.PENDING).count()
    if task.status in ACTIVE:
        verdict.say(LOST_TASKS, f"task {task.pk} never ended: {task.status}, {task.error}")
        if task.status != Status.WAITING or not pending:
            verdict.say(OWNERLESS, f"task {task.pk} is {task.status}, held by {task.owner or 'nobody'}")
        return
    # Whoever gave a task was told that it failed, and nobody tries it again.
    may_fail = task.parent_id is not None and task.error_kind in TRIED_AGAIN
    if task.status not in (Status.DONE, Status.STOPPED) and not may_fail:
        verdict.say(LOST_TASKS, f"task {task.pk} is {task.status}: {task.error_kind}, {task.error}")
    if task.status == Status.STOPPED and task.stop_reason not in ("person", *[DEPENDENCY] * bool(task.parent_id)):
        verdict.say(LOST_TASKS, f"task {task.pk} was stopped by {task.stop_reason!r}: {task.error}")
    if task.owner or task.lease_until or pending:
        verdict.say(OWNERLESS, f"task {task.pk} is over: owner {task.owner!r}, {pending} decisions are open")
    for step in steps:
        if step.status in OPEN:
            verdict.say(OWNERLESS, f"task {task.pk} is over, step {step.seq} ({step.name}) is {step.status}")


def _check_steps(
    verdict: Verdict, task: Task, plan: Plan, steps: Sequence[Step], written: dict[str, list[Line]]
) -> None:
    """What was planned is what was done, in that order, as far as it got; and each step says what happened."""
    if [step.seq for step in steps] != list(range(1, task.head_seq + 1)):
        verdict.say(LOST_STEPS, f"task {task.pk}: steps {[step.seq for step in steps]}, head {task.head_seq}")
    rounds: dict[int, list[tuple[str, int]]] = {}
    asked = {step.seq for step in steps if step.kind == Step.Kind.MODEL}
    for step in steps:
        if step.kind == Step.Kind.TOOL and step.parent_seq in asked:
            rounds.setdefault(step.parent_seq or 0, []).append((step.name, _number(step)))
    done = [tuple(_known(name, n, step) for name, n in calls) for step, calls in rounds.items()]
    wanted = [tuple(_known(name, n, 0) for name, n in calls) for calls in plan.calls]
    if not plan.calls:  # Said in between: its task may go on with what was planned before.
        wanted = done
    if done != wanted[: len(done)] or (task.status == Status.DONE and len(done) != len(wanted)):
        verdict.say(LOST_STEPS, f"task {task.pk} ({task.status}) did {done}, planned was {wanted}")
    checkpoints = set(task.checkpoints.values_list("seq", flat=True))
    for step in steps:
        if step.kind in ASKS and step.status == Step.Status.DONE and step.seq not in checkpoints:
            verdict.say(LOST_STEPS, f"task {task.pk} step {step.seq} is done and has no checkpoint")
        if step.kind != Step.Kind.TOOL or step.name in UNNUMBERED:
            continue
        ended = any(line["phase"] == "end" for line in written.get(ledger_key(step), ()))
        by_word = step.decisions.filter(choice=Decision.Choice.DID).exists()
        if step.status == Step.Status.DONE and not ended and not by_word:
            verdict.say(LOST_STEPS, f"task {task.pk} step {step.seq} ({step.name}) is done, and never ran to its end")


def _check_declared(verdict: Verdict, task: Task, steps: Sequence[Step]) -> None:
    """Each of its steps is there once, in order, as far as it got."""
    begun = [step for step in steps if step.kind == Step.Kind.STEP]
    names = [step.name for step in begun]
    done = [step.status == Step.Status.DONE for step in begun]
    if names != list(CHAIN[: len(names)]) or not all(done[:-1]):
        verdict.say(LOST_STEPS, f"task {task.pk} worked through {begun}")
    said = [step for step in steps if step.kind == Step.Kind.NOTE]
    if task.status == Status.DONE and (len(names) < len(CHAIN) or not all(done) or len(said) != 1):
        verdict.say(LOST_STEPS, f"task {task.pk} is done, and worked through {begun}, and said {said}")
    verdict.counts["declared"] += 1


def _check_given(verdict: Verdict, task: Task, plan: Plan, steps: Sequence[Step]) -> None:
    """Each task that it was to give was given once, and what came of it was told, all of it."""
    calls = [step for step in steps if step.name in ("delegate", "run_plan") and step.kind == Step.Kind.TOOL]
    given: dict[str, list[Task]] = defaultdict(list)
    for below in task.sub_tasks.order_by("pk"):
        given[below.parent_call].append(below)
    for step, wanted in zip(calls, plan.gives, strict=False):
        made = given.pop(step.call_id or "", [])
        names = sorted(label(below.text) for below in made)
        if made and names != sorted(below.key for below in wanted):
            verdict.say(DOUBLED, f"task {task.pk} step {step.seq} gave {names}, planned was {[p.key for p in wanted]}")
        if step.status not in (Step.Status.DONE, Step.Status.FAILED):
            continue
        verdict.counts["told"] += len(made)
        if not made or any(json.dumps(outcome(below), ensure_ascii=False)[1:-1] not in _quoted(step) for below in made):
            verdict.say(LOST_STEPS, f"task {task.pk} step {step.seq} was not told what came of {names}: {step.result}")
    for call, made in given.items():
        verdict.say(DOUBLED, f"task {task.pk} gave {len(made)} tasks for the call {call}, which was not to give any")


def _quoted(step: Step) -> str:
    """The result of a call, as JSON has its words."""
    return step.result if step.name == "run_plan" else json.dumps(step.result, ensure_ascii=False)


def _check_summaries(verdict: Verdict, task: Task, steps: Sequence[Step]) -> None:
    """What was summarised once is not summarised again."""
    found = [step for step in steps if step.kind == Step.Kind.COMPACTION]
    covered = Counter(
        (step.parent_seq, step.covers_task, step.covers_seq) for step in found if step.covers_seq is not None
    )
    for what, times in covered.items():
        if times > 1:
            verdict.say(LOST_STEPS, f"task {task.pk} has {times} summaries of {what}")
    for step in found:
        how = "broken off" if step.covers_seq is None else "done" if step.status == Step.Status.DONE else "left out"
        verdict.counts[f"summaries {how}"] += 1
        verdict.counts["summaries fetched"] += step.attempt > 1 and step.status == Step.Status.DONE
        verdict.counts["summaries in declared steps"] += step.parent_seq is not None


def _number(step: Step) -> int:
    return int((step.arguments or {}).get("n", 0))


def _known(name: str, n: int, _: int) -> tuple[str, int]:
    return (name, 0) if name in UNNUMBERED else (name, n)


def _check_effects(
    verdict: Verdict, task: Task, steps: Sequence[Step], written: dict[str, list[Line]], kept: Counter[str]
) -> None:
    for step in steps:
        if step.kind != Step.Kind.TOOL:
            continue
        call, where = ledger_key(step), f"task {task.pk} step {step.seq} ({step.name} {_number(step)}, {step.status})"
        begun = [line for line in written.get(call, ()) if line["phase"] == "start"]
        verdict.counts["executions"] += len(begun)
        decided = list(step.decisions.filter(status=Decision.Status.DECIDED))
        again = sum(decision.choice == Decision.Choice.AGAIN for decision in decided)
        verdict.counts["run again, said people"] += again
        doubled = step.effect == "unsafe" or (step.effect == "verifiable" and _is_doubled(written.get(call, ())))
        if doubled and len(begun) > 1 + again:
            verdict.say(DOUBLED, f"{where} began {len(begun)} times: {begun}")
        if step.name == "order":
            _check_agreement(verdict, task, where, begun, decided)
        if step.effect == "transactional" and kept[call] != (step.status == Step.Status.DONE):
            verdict.say(NOT_ONCE, f"{where} wrote {kept[call]} rows")
        if step.status == Step.Status.DENIED and begun:
            verdict.say(UNASKED, f"{where} was executed: {begun}")


def _is_doubled(found: Sequence[Line]) -> bool:
    """A verifiable call that was begun and did not get to its end may be run again when its check says so."""
    return len([line for line in found if line["phase"] == "end"]) > 1


def _check_agreement(
    verdict: Verdict, task: Task, where: str, begun: Sequence[Line], decided: Sequence[Decision]
) -> None:
    """Each execution uses up one decision; a rule of the person ("always here") makes the first unnecessary."""
    used = [decision for decision in decided if decision.choice in GO and decision.consumed_at]
    rules = "order" in rules_of(task)
    if len(begun) > len(used) + rules:
        column = TWICE if used else UNASKED
        verdict.say(column, f"{where} began {len(begun)} times with {len(used)} decisions: {begun}")
    wanted = {(decision.arguments or {}).get("note", "") for decision in used if decision.choice != "again"}
    for line in begun:
        if wanted and line["note"] not in wanted:
            verdict.say(UNASKED, f"{where} ran with {line['note']!r}, agreed was {wanted} ({EDITED})")


def _check_keys(verdict: Verdict, written: dict[str, list[Line]]) -> None:
    call_of: dict[str, str] = {}
    for call, found in written.items():
        keys = {line["key"] for line in found}
        if len(keys) != 1:
            verdict.say(KEYS, f"call {call} had the keys {keys}")
        for key in keys:
            if call_of.setdefault(key, call) != call:
                verdict.say(KEYS, f"calls {call} and {call_of[key]} had the same key")


def check_transcripts(verdict: Verdict, last: Iterable[Task]) -> None:
    """What the model of each of these tasks would be told, with everything before it."""
    for task in last:
        messages = transcript(task, "Be kind.")
        for problem in history_problems(messages):
            verdict.say(HISTORIES, f"the conversation up to task {task.pk}: {problem}")


def history_problems(messages: Sequence[Message]) -> list[str]:
    """Why no provider would take this: each call is answered once, right after it, and nothing else is."""
    problems: list[str] = []
    waiting: list[str] = []
    seen: set[str] = set()
    for position, message in enumerate(messages):
        results = [result.call_id for result in message.tool_results]
        if results:
            problems += [
                f"message {position} answers {call}, which is not open" for call in results if call not in waiting
            ]
            problems += [f"message {position} answers a call twice"] * (len(results) != len(set(results)))
            waiting = [call for call in waiting if call not in results]
            continue
        if waiting:
            problems.append(f"{message.role} speaks at {position}, and {waiting} were not answered")
            waiting = []
        if message.role == "assistant":
            calls = [call.id for call in message.tool_calls]
            problems += [f"call {call} comes twice" for call in calls if call in seen]
            seen.update(calls)
            waiting = calls
            if not message.parts:
                problems.append(f"message {position} is empty")
    if waiting:
        problems.append(f"it ends with the open calls {waiting}")
    return problems
