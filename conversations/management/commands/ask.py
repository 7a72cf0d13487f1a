"""`manage.py ask`: a message, the steps of the task that answers it, and the answer, without a browser.

It goes the way that a message of the page goes, to the same worker, and follows the task's rows.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from django.db.models.functions import Now
from django.http import Http404

from conversations.access import get_conversation
from conversations.actions import send
from conversations.forms import MessageForm
from conversations.models import Conversation, Turn
from conversations.present import StepView, answer_text
from conversations.terminal import Cards, Others, all_below, as_json, decisions_of, of_others
from conversations.words import clock
from executor.actions import NotNow, stop
from executor.models import Agent, Status, Step, Task, Worker
from executor.registry import AgentRegistry
from executor.states import WORKER_GONE, state_of
from tools.models import Resource
from users.models import User

POLL = 0.1
#: After so long without a worker one is told that there may be none.
PATIENCE = 10.0
#: How long to wait for a task that was stopped.
STOPPING = 10.0
#: Seconds between two looks where it stands in the line.
LINE_EVERY = 1.0
GONE = "This message was taken back, or went into the answer before it: the conversation shows which."

FAILED, USAGE, INTERRUPTED = 1, 2, 130
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits until it is known what was sent: a task that nobody knows of cannot be stopped."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


class _CtrlC:
    """Notes that it was pressed, and raises KeyboardInterrupt, which is lost while Python cleans something up."""

    def __init__(self) -> None:
        self.pressed = self.heard = 0

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _press(self, number: int, frame: FrameType | None) -> None:
        self.pressed += 1
        signal.default_int_handler(number, frame)

    def look(self) -> None:
        """Raise KeyboardInterrupt if it was pressed and nobody heard of it."""
        if self.pressed > self.heard:
            raise KeyboardInterrupt


class Command(BaseCommand):
    help = "Send a message to an agent, show the steps it takes, and print the answer."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("text", help="what to say; - reads it from standard input")
        parser.add_argument("--agent", help="its name; default: the conversation's, else the first one")
        parser.add_argument("--user", help="who asks; default: the only administrator")
        parser.add_argument("--conversation", metavar="ID", help="go on in this conversation")
        parser.add_argument("--yes", action="store_true", help="allow every function and plan that it asks about")
        parser.add_argument("--no", action="store_true", help="deny them, and let it decide what it asks")
        parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
        parser.add_argument(
            "--timeout", type=float, default=600.0, metavar="SECONDS", help="how long to wait (default: %(default)g)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._handle(**options)
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used: {error}. {_folder()}") from error

    def _handle(self, **options: Any) -> None:
        form = MessageForm({"text": sys.stdin.read() if options["text"] == "-" else options["text"]})
        if not form.is_valid() and "text" in form.errors:
            raise CommandError(form.sentence(), returncode=USAGE)
        user = _user(options["user"])
        conversation = _conversation(user, options["conversation"])
        agent = _agent(user, options["agent"], conversation)
        self._quiet: bool = options["json"]
        self._steps = _Steps(self._note)
        self._others = Others(self._note)
        policy = "yes" if options["yes"] else "no" if options["no"] else ""
        self._cards = Cards(user, self._note, policy, quiet=self._quiet)
        began = time.monotonic()
        turn: Turn | None = None
        code = 0
        with _CtrlC() as self._ctrl_c:
            try:
                with _undisturbed():
                    turn = send(user, agent, form.cleaned_data["text"], conversation)
                self._note(f"{agent.title} · conversation {turn.conversation_id}")
                task = self._follow(turn.task, began + options["timeout"])
            except NotNow as why:
                raise CommandError(str(why), returncode=FAILED) from why
            except KeyboardInterrupt:
                if turn is None:
                    raise
                task, code = self._stop(turn.task), INTERRUPTED
        self._report(turn, task, agent)
        if code or task.status != Status.DONE:
            raise CommandError(_outcome(task), returncode=code or FAILED)

    # --- following ---------------------------------------------------------------------------------------------------

    def _follow(self, task: Task, until: float) -> Task:
        """Until the task is over or time is up. Prints each step when it begins and when it ends."""
        complain_at = time.monotonic() + PATIENCE
        look_at = 0.0
        status, stands = task.status, ""
        while True:
            self._ctrl_c.look()
            try:
                task.refresh_from_db()
            except Task.DoesNotExist as error:
                raise CommandError(GONE, returncode=FAILED) from error
            self._steps.look(task)
            if status == Status.AWAITING or task.status == Status.AWAITING:
                self._others.look(task)
            if not task.is_active or time.monotonic() >= until:
                return task
            if task.status in (Status.WAITING, Status.AWAITING):
                self._cards.look(task)
            if task.status != status:
                status = task.status
                if status == Status.RETRYING and task.not_before:
                    self._note(f"{task.error} Retrying at {clock(task.not_before)}.")
            if task.status == Status.QUEUED and time.monotonic() >= look_at:
                look_at = time.monotonic() + LINE_EVERY
                state = state_of(task)
                if state.place and state.label != stands:
                    stands = state.label
                    self._note(f"{stands}.")
            if task.status != Status.QUEUED:
                complain_at = time.monotonic() + PATIENCE
            elif time.monotonic() >= complain_at:
                self.stderr.write(self.style.WARNING(f"{_why_queued(task)} Waiting."))
                complain_at = until
            time.sleep(POLL)

    def _stop(self, task: Task) -> Task:
        self._ctrl_c.heard = self._ctrl_c.pressed
        self._note("Stopping.")
        stop(task)
        try:
            return self._follow(task, time.monotonic() + STOPPING)
        except KeyboardInterrupt:  # Who presses it twice does not want to wait.
            return task

    # --- telling -----------------------------------------------------------------------------------------------------

    def _note(self, line: str) -> None:
        if not self._quiet:
            self.stderr.write(_CONTROL.sub("", line), self.style.HTTP_NOT_MODIFIED)
            self.stderr.flush()

    def _report(self, turn: Turn, task: Task, agent: Agent) -> None:
        files = [_file(resource) for resource in Resource.objects.filter(task_id=task.pk).order_by("created_at", "id")]
        answer = answer_text(task)
        if not self._quiet:
            if answer:
                self.stdout.write(_CONTROL.sub("", answer))
            for file in files:
                self._note(f"{file['name']}: {file.get('path', file['media_type'])}")
            return
        made = {str(pk): call for pk, call in Resource.objects.filter(task_id=task.pk).values_list("pk", "call_id")}
        document = {
            "conversation": str(turn.conversation_id),
            "task": str(task.pk),
            "status": task.status,
            "state": state_of(task).label,
            "agent": agent.name,
            "steps": [
                _step(step, [pk for pk, call in made.items() if step.call_id and call == step.call_id])
                for step in task.steps.order_by("seq")
            ],
            "tasks": [of_others(other) for other in all_below(task)],
            "decisions": [as_json(decision) for decision in decisions_of(task).select_related("step").order_by("pk")],
            "files": files,
            "answer": answer,
            "error": {"kind": task.error_kind, "message": task.error, "hint": task.error_hint} if task.error else None,
            "usage": {
                "model_calls": task.model_calls,
                "tool_calls": task.tool_calls,
                "failed_calls": task.failed_calls,
                "input_tokens": task.input_tokens,
                "output_tokens": task.output_tokens,
                "seconds": _seconds(task),
            },
        }
        self.stdout.write(json.dumps(document, ensure_ascii=False, indent=2))


class _Steps:
    """Tells each function call when it begins and when it ends, reading only rows that may have changed."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._settled = 0  # All steps up to this one have been told.
        self._begun: set[int] = set()
        self._ended: set[int] = set()

    def look(self, task: Task) -> None:
        for step in task.steps.filter(seq__gt=self._settled).order_by("seq").defer("native"):
            is_new = step.status != Step.Status.PENDING and step.seq not in self._begun
            is_over = not step.is_open and step.seq not in self._ended
            self._begun.update({step.seq} if is_new else ())
            self._ended.update({step.seq} if is_over else ())
            if step.kind == Step.Kind.TOOL and (is_new or is_over):
                self._tell(f"  {step.seq:>3}. {' · '.join(_words(step, is_new, is_over))}")
        while self._settled + 1 in self._ended:
            self._settled += 1


def _words(step: Step, is_new: bool, is_over: bool) -> Iterator[str]:
    view = StepView.of(step)
    yield view.title
    if is_new and view.intent:
        yield view.intent
    if is_over:
        error = f": {' '.join(step.error.split())[:200]}" if step.error else ""
        yield f"{step.get_status_display().lower()}{error}"
        if view.duration:
            yield view.duration


def _why_queued(task: Task) -> str:
    state = state_of(task)
    if state.place:
        return f"{state.label}. It waits for the message before it, which is still being answered."
    if Worker.objects.filter(beat_at__gt=Now() - WORKER_GONE).exists():
        return "No worker has taken it up yet; they may all be busy."
    return f"No worker is running. Start one with `manage.py up`; `manage.py doctor` says what is missing. {_folder()}"


def _folder() -> str:
    return f"This is the data folder {settings.DATA_DIR}; --data FOLDER or AGENTSITE_DATA names another."


def _outcome(task: Task) -> str:
    """Why there is no complete answer."""
    if task.status == Status.WAITING:
        return "It is not over yet: it waits for you and goes on when you have decided."
    if task.is_active:
        reason = _why_queued(task) if task.status == Status.QUEUED else ""
        return f"It is not over yet ({task.get_status_display().lower()}) and will go on by itself. {reason}".strip()
    if task.status == Status.STOPPED:
        return f"Stopped. {task.error}".strip()
    return "\n".join(part for part in (task.error or "It failed.", task.error_hint) if part)


def _step(step: Step, files: list[str]) -> dict[str, Any]:
    is_tool = step.kind == Step.Kind.TOOL
    return {
        "seq": step.seq,
        "kind": step.kind,
        "name": step.name if is_tool else step.model,
        "arguments": step.arguments if step.arguments is not None else step.raw_arguments or None,
        "result": step.result if is_tool else step.text,
        "status": step.status,
        "error": step.error,
        "seconds": _seconds(step),
        "files": files,
    }


def _file(resource: Resource) -> dict[str, Any]:
    file = {"id": str(resource.pk), "name": resource.name, "media_type": resource.media_type, "size": resource.size}
    try:
        return file | {"path": resource.file.path}
    except NotImplementedError:  # It lies in a store that has no paths.
        return file


def _seconds(thing: Task | Step) -> float | None:
    if thing.started_at is None or thing.ended_at is None:
        return None
    return round((thing.ended_at - thing.started_at).total_seconds(), 3)


# --- who, where, to whom ---------------------------------------------------------------------------------------------


def _user(name: str | None) -> User:
    if name is None:
        found = list(User.objects.filter(is_superuser=True, is_active=True)[:2])
        if len(found) == 1:
            return found[0]
        reason = "There is no administrator yet" if not found else "There is more than one administrator"
        raise CommandError(f"{reason}. Say who asks with --user NAME.", returncode=USAGE)
    user = User.objects.filter(username=name).first()
    if user is None:
        raise CommandError(f"There is nobody with the user name {name!r}.", returncode=USAGE)
    if not user.is_active:
        raise CommandError(f"{name} is suspended.", returncode=USAGE)
    return user


def _conversation(user: User, conversation_id: str | None) -> Conversation | None:
    if conversation_id is None:
        return None
    try:
        return get_conversation(user, UUID(conversation_id))
    except (ValueError, Http404) as error:
        raise CommandError(f"{user} has no conversation {conversation_id!r}.", returncode=USAGE) from error


def _agent(user: User, name: str | None, conversation: Conversation | None) -> Agent:
    registry = AgentRegistry(user)
    try:
        if name:
            return registry.agent(name)
        if conversation and conversation.agent and conversation.agent.enabled:
            return conversation.agent
        return registry.default()
    except LookupError as error:
        raise CommandError(str(error), returncode=USAGE) from error
