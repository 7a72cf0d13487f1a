"""What templates are given of tasks: plain values made from rows, the same for a page, a fragment and a live update."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Q, QuerySet
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.text import slugify

from conversations import sub_tasks, words
from conversations.branches import Variants
from conversations.cards import DecisionView, decision_views
from conversations.code_cells import RUNS_CODE, CellView, cell_view, edit_view, run_all_url
from conversations.declared import FRAMES, DeclaredView, declared_view
from conversations.markdown import BlockStream, render
from conversations.models import Turn
from conversations.sub_tasks import Given, SubTaskView, gives_tasks
from conversations.summaries import SUMMARISING, SummaryView, summary_views
from conversations.summaries import title as summary_title
from conversations.use import AnswerUse, UseView, answer_uses, by_model, task_use
from executor.advice import YOUR_KEY
from executor.core.errors import LLM_ERROR_KINDS, GoingInCircles
from executor.core.llms.factory import llm_class
from executor.core.validation import ResponseInvalid
from executor.credentials import KeyMissing, place
from executor.files import has_files, references
from executor.history import whole
from executor.models import Agent, Decision, Status, Step, Task
from executor.states import State, state_of
from executor.usage import step_use
from tools.models import Resource
from tools.serving import INLINE_TYPES
from users import api_keys
from users.models import User

THINKING, WRITING, WORKING = "Thinking", "Writing", "Working"
NOTHING_GIVEN = Given()
#: Calls that run, or are about to.
RUN = (Step.Status.PENDING, Step.Status.STARTED)


@dataclass(frozen=True, slots=True)
class FileView:
    id: UUID
    name: str
    media_type: str
    size: str
    #: How it is shown: "image", "audio", "video", "table", "text", or "file" for what is only named.
    kind: str
    url: str
    download_url: str
    description: str
    version: int
    #: How it begins (see tools.core.peek), of tables and texts.
    preview: dict[str, Any]

    @classmethod
    def of(cls, resource: Resource) -> FileView:
        url = reverse("file", args=[resource.pk])
        return cls(
            resource.pk,
            resource.name,
            resource.media_type,
            filesizeformat(resource.size),
            _kind(resource),
            url,
            f"{url}?download",
            resource.description,
            resource.version,
            resource.preview or {},
        )


def file_views(resources: Iterable[Resource]) -> list[FileView]:
    return [FileView.of(resource) for resource in resources]


def _kind(resource: Resource) -> str:
    if resource.media_type in INLINE_TYPES:
        return resource.media_type.partition("/")[0]
    preview = resource.preview or {}
    return "table" if preview.get("rows") else "text" if preview.get("text") else "file"


#: Their text is not the model's: what a person said, what a step asked, what it is called.
_SAID = (Step.Kind.MESSAGE, Step.Kind.QUESTION, Step.Kind.STEP)


@dataclass(frozen=True, slots=True)
class StepView:
    id: str
    seq: int
    kind: str
    title: str
    intent: str
    status: str
    duration: str
    arguments: str
    result: str
    error: str
    files: tuple[FileView, ...]
    #: What it said while it ran, and sentences beside the result.
    output: str
    notes: tuple[str, ...]
    #: What is shown in place of arguments and output where it ran code.
    cell: CellView | None
    text: SafeString
    reasoning: SafeString
    use: str
    attempt: int
    started_at: datetime | None
    #: An earlier call gave the result then, and this one took it from the cache.
    made_at: datetime | None
    checkpoint: bool
    model: str
    said: str
    #: Whether other tasks answer it, which these are, and how far they are.
    is_given: bool
    tasks: tuple[SubTaskView, ...]
    waits_for: str

    @classmethod
    def of(
        cls,
        step: Step,
        files: Iterable[FileView] = (),
        *,
        tasks: tuple[SubTaskView, ...] = (),
        text: bool = True,
        checkpoint: bool = False,
    ) -> StepView:
        is_tool = step.kind == Step.Kind.TOOL
        is_given = bool(tasks) or gives_tasks(step)
        failed = step.status in (Step.Status.FAILED, Step.Status.UNKNOWN)
        return cls(
            id=f"{step.task_id}-{step.seq}",
            seq=step.seq,
            kind=step.kind,
            title=words.human_name(step.name) if is_tool else _model_title(step),
            intent=sub_tasks.intent(tasks) or words.intent(step.arguments) if is_tool else "",
            status=step.status,
            duration="" if step.made_at else words.duration(step.started_at, step.ended_at),
            arguments=words.pretty(step.arguments) if is_tool and step.arguments is not None else step.raw_arguments,
            result="" if failed and is_tool else words.shorten(words.pretty_text(step.result)),
            error=(words.shorten(step.result) or step.error) if failed and is_tool else step.error,
            files=tuple(files),
            output=step.output,
            notes=tuple(step.notes),
            cell=cell_view(step),
            text=render(step.text) if text and step.text and step.kind not in _SAID else SafeString(""),
            reasoning=render(step.reasoning) if step.reasoning else SafeString(""),
            use=step_use(step).line,
            attempt=step.attempt,
            started_at=step.started_at,
            made_at=step.made_at,
            checkpoint=checkpoint,
            model=step.model if not is_tool else "",
            said=words.shorten(step.text) if step.kind in (Step.Kind.MESSAGE, Step.Kind.QUESTION) else "",
            is_given=is_given,
            tasks=tasks,
            waits_for=sub_tasks.waits_for(tasks) if is_given and step.started_at else "waiting for you",
        )


@dataclass(frozen=True, slots=True)
class TaskView:
    id: UUID
    status: str
    attempts: int
    is_active: bool
    state_label: str
    #: How many tasks are to end before it begins, and whether its message goes into the one at work before that.
    place: int
    steers: bool
    #: It is not over, and nobody works on it right now.
    is_still: bool
    agent_name: str
    agent_title: str
    is_demo: bool
    steps: tuple[StepView, ...]
    #: How far its declared steps are; None if it has none.
    declared: DeclaredView | None
    #: What the person is asked before it goes on.
    decisions: tuple[DecisionView, ...]
    step_count: int
    failed_count: int
    summary: str
    #: What the person said while it was at work.
    messages: tuple[str, ...]
    #: What its model was told in place of earlier messages.
    summaries: tuple[SummaryView, ...]
    answer: SafeString
    open_blocks: SafeString
    open_block: SafeString
    files: tuple[FileView, ...]
    #: The files that came with the person's words and are there, and whether any came.
    sent: tuple[FileView, ...]
    came_with_files: bool
    #: Where all code that it ran is run again; "" where that is not offered.
    run_all_url: str
    error: str
    error_hint: str
    stop_note: str
    #: That another agent's model answers, and why.
    note: str
    #: When the provider is asked again, or may be, and why not before.
    retry_at: datetime | None
    retry_reason: str
    can_retry: bool
    needs_key: bool
    check_key: bool
    key_url: str
    use: UseView
    models: tuple[tuple[str, str], ...]
    answers: tuple[AnswerUse, ...]
    duration: str
    model: str
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class TurnView:
    id: UUID
    position: int
    text: str
    created_at: datetime
    task: TaskView
    #: None where it is the only one.
    variants: Variants | None = None

    @classmethod
    def of(cls, turn: Turn, task: TaskView, variants: Variants | None = None) -> TurnView:
        return cls(turn.pk, turn.position, turn.text, turn.created_at, task, variants)


def sent_files(tasks: Iterable[Task]) -> dict[UUID, tuple[FileView, ...]]:
    """What came with the words of tasks and is still there. One query, or none where nothing came."""
    wanted = {task.pk: references(task.input) for task in tasks}
    ids = [pk for several in wanted.values() for pk in several]
    found = Resource.objects.defer("told").in_bulk(ids) if ids else {}
    return {task: tuple(FileView.of(found[pk]) for pk in several if pk in found) for task, several in wanted.items()}


@dataclass(frozen=True, slots=True)
class AgentView:
    name: str
    title: str
    description: str
    is_demo: bool
    suggestions: list[dict[str, str]]
    #: What people call the provider for which a key is missing, or the address for which one may be; "" if none is.
    missing_key: str
    perhaps_missing_key: str
    #: Where it is entered.
    key_url: str
    runs_code: bool


def agent_views(user: User) -> list[AgentView]:
    """The agents that `user` may choose from, in one query; in two if some of them need keys of people."""
    agents = list(Agent.objects.usable_by(user))
    needing = {agent.pk for agent in agents if wants_key(agent)}
    places = api_keys.places(user) if needing else set()
    return [_agent_view(agent, lacks_key=agent.pk in needing and agent.place not in places) for agent in agents]


def _agent_view(agent: Agent, *, lacks_key: bool) -> AgentView:
    is_needed = lacks_key and not agent.base_url
    return AgentView(
        name=agent.name,
        title=agent.title,
        description=agent.description,
        is_demo=agent.provider == "demo",
        suggestions=agent.suggestions,
        missing_key=place(agent.provider) if is_needed else "",
        perhaps_missing_key=agent.base_url if lacks_key and not is_needed else "",
        key_url=key_url(*agent.place),
        runs_code=not {RUNS_CODE, "*"}.isdisjoint(agent.functions),
    )


def wants_key(agent: Agent) -> bool:
    """Whether a key of people's is needed to ask its model, or may well be: at an address that an administrator gave,
    and that speaks as a provider does which wants one. A server of one's own tells when it is asked."""
    if agent.api_key_variable or (agent.base_url and agent.owner_id):
        return False
    try:
        return llm_class(agent.provider).needs_key
    except ValueError:  # A custom one that was taken out of the settings; its tasks will say so.
        return False


def key_anchor(provider: str, base_url: str = "") -> str:
    """What the card of a key is called in an address."""
    return f"{provider}-{slugify(base_url)}" if base_url else provider


def key_url(provider: str, base_url: str = "") -> str:
    """Where a key for this place is entered: the page of keys, with its form open."""
    query = {"for": provider, **({"at": base_url} if base_url else {})}
    return f"{reverse('keys')}?{urlencode(query)}#{key_anchor(provider, base_url)}"


def task_views(tasks: Iterable[Task], *, every_step: bool = False) -> dict[UUID, TaskView]:
    """Views of many tasks in five queries. Finished tasks come without their steps unless `every_step`; of those that
    are declared, only what is done is finished."""
    by_id = {task.pk: task for task in tasks}
    shown = [task for task in by_id.values() if every_step or shows_steps(task)]
    others = [task for task in by_id.values() if not (every_step or shows_steps(task))]
    steps = whole(shown, Step.objects.defer("native"))
    # Of the others only the answer is shown and the steps are counted, so what they were given and gave is left alone.
    steps |= whole(others, Step.objects.defer("native", "arguments", "raw_arguments", "result", "output", "notes"))
    files: dict[UUID | None, list[Resource]] = defaultdict(list)
    makers = by_id.keys() | {step.task_id for pk in by_id for step in steps[pk]}
    for resource in made_files().filter(task_id__in=makers).order_by("created_at", "id"):
        files[resource.task_id].append(resource)
    decisions = pending_decisions([pk for pk, task in by_id.items() if task.is_active])
    counted = [pk for pk, task in by_id.items() if every_step or not task.is_active]
    given = Given.by(steps, counted, (step for task in shown for step in steps[task.pk]))
    sent = sent_files(by_id.values())
    return {
        pk: task_view(
            task,
            steps[pk],
            files_of(task, steps[pk], files),
            decisions.get(pk, ()),
            given,
            sent=sent[pk],
            every_step=every_step,
        )
        for pk, task in by_id.items()
    }


def made_files() -> QuerySet[Resource]:
    return Resource.objects.exclude(source=Resource.Source.UPLOAD).defer("told")


def files_of(task: Task, steps: Sequence[Step], files: Mapping[UUID | None, Sequence[Resource]]) -> list[Resource]:
    """Of `files`, by the task that made them, those of a task: its own, and those of the steps that it shares."""
    shared = {(step.task_id, step.call_id) for step in steps if step.task_id != task.pk}
    makers = dict.fromkeys(task_id for task_id, _ in shared)
    before = [file for maker in makers for file in files.get(maker, ()) if (maker, file.call_id) in shared]
    return sorted(before, key=lambda file: (file.created_at, file.pk)) + list(files.get(task.pk, ()))


def pending_decisions(task_ids: Collection[UUID]) -> dict[UUID, list[Decision]]:
    """What people are asked about these tasks, and about those below them."""
    found: dict[UUID, list[Decision]] = defaultdict(list)
    if task_ids:
        together = Task.objects.filter(Q(pk__in=task_ids) | Q(root__in=task_ids))
        pending = Decision.objects.filter(task__in=together, status=Decision.Status.PENDING)
        for decision in pending.select_related("step", "task__agent_version").order_by("pk"):
            top = decision.task.root_id
            found[decision.task_id if decision.task_id in task_ids or top is None else top].append(decision)
    return found


def task_view(
    task: Task,
    steps: Sequence[Step],
    resources: Sequence[Resource] = (),
    decisions: Sequence[Decision] = (),
    given: Given = NOTHING_GIVEN,
    *,
    sent: tuple[FileView, ...] = (),
    every_step: bool = False,
    known: Mapping[int, StepView] = MappingProxyType({}),
) -> TaskView:
    """Of an answer that is being written, what was last saved is shown; see `with_text`. The steps of a fork come with
    those that it shares, and so do its files; its use and its answer are its own.

    `known` has views, by seq, of steps that are over and were looked at before.
    """
    config = task.agent_version.config
    own = [step for step in steps if step.task_id == task.pk]
    answer = _answer_step(task, own)
    listed = [step for step in steps if _is_listed(step, steps, answer)]
    by_call: dict[tuple[UUID | None, str], list[FileView]] = defaultdict(list)
    for resource in resources:
        by_call[resource.task_id, resource.call_id].append(FileView.of(resource))
    writing = (open_step(steps) or answer) if task.is_active else None
    text = BlockStream(writing.text if writing else "")
    failed = task.status in (Status.FAILED, Status.NEEDS_ATTENTION)
    # What to do comes first; what the provider said helps an administrator.
    first, second = task.error, task.error_hint
    if task.error_kind in LLM_ERROR_KINDS:
        first, second = second, first
    tool_count = sum(step.kind == Step.Kind.TOOL for step in steps)
    failed_count = sum(step.kind == Step.Kind.TOOL and step.status == Step.Status.FAILED for step in steps)
    took = _worked(task, own)
    is_whole = every_step or shows_steps(task)
    retry_at = None if task.status in (Status.WAITING, Status.AWAITING) else task.not_before
    state = state_of(task)
    needs_key = failed and task.error_kind == KeyMissing.kind
    check_key = failed and YOUR_KEY in task.error_hint
    views = {
        step.seq: known.get(step.seq)
        or StepView.of(
            step,
            by_call.get((step.task_id, step.call_id or ""), ()),
            tasks=given.of(step),
            text=step is not answer and step is not writing,
        )
        for step in listed
        if is_whole
    }
    views = _with_cells(task, steps, views)
    if task.status == Status.AWAITING:
        state = sub_tasks.state_while([below for view in views.values() for below in view.tasks], state)
    declared = declared_view(task, steps, state, views, whole=is_whole)
    count = declared.total if declared else tool_count or len(listed)
    used = own if every_step or not task.is_active else ()  # Told at the end; adding up at each look would take time.
    return TaskView(
        id=task.pk,
        status=task.status,
        attempts=task.attempts,
        is_active=task.is_active,
        state_label=_state_label(task, steps, state, is_writing=text.started),
        place=state.place,
        steers=task.steers and state.place > 0,
        is_still=state.is_still,
        agent_name=config["name"],
        agent_title=config["title"],
        is_demo=config["provider"] == "demo",
        steps=tuple(views.values()),
        declared=declared,
        decisions=decision_views(decisions),
        step_count=count,
        failed_count=failed_count,
        summary=_summary(took, count, steps) if (listed or declared) and not task.is_active else "",
        messages=tuple(step.text for step in steps if step.kind == Step.Kind.MESSAGE),
        summaries=summary_views(steps),
        answer=render(answer.text) if answer and not task.is_active else SafeString(""),
        open_blocks=text.done,
        open_block=text.open_html,
        files=tuple(file for files in by_call.values() for file in files),
        sent=sent,
        came_with_files=has_files(task.input),
        run_all_url=run_all_url(task, steps),
        error=first if failed else "",
        error_hint=second,
        stop_note=_stop_note(task, answer),
        note=_took_over(config["title"], own),
        retry_at=retry_at,
        retry_reason=words.failure(task.error_kind) if retry_at else "",
        can_retry=failed or (task.status == Status.STOPPED and task.stop_reason == "person"),
        needs_key=needs_key,
        check_key=check_key,
        key_url=key_url(config["provider"], config["base_url"]) if needs_key or check_key else "",
        use=task_use(used, given.uses.get(task.pk)),
        models=by_model(used),
        answers=answer_uses(own) if every_step else (),
        duration=took,
        model=_model(config["model"], own),
        started_at=task.started_at,
    )


def _with_cells(task: Task, steps: Sequence[Step], views: dict[int, StepView]) -> dict[int, StepView]:
    """While it is at work, cells that run and the last one are open; when it is over, each can be run again."""
    cells = {seq: view.cell for seq, view in views.items() if view.cell is not None}
    if not cells:
        return views
    by_seq = {step.seq: step for step in steps}
    changed = {}
    for seq, cell in cells.items():
        is_open = task.is_active and (seq == max(cells) or views[seq].status == Step.Status.STARTED)
        edit = None if task.is_active else edit_view(task, by_seq[seq], steps)
        if (cell.is_open, cell.edit) != (is_open, edit):
            changed[seq] = replace(views[seq], cell=replace(cell, is_open=is_open, edit=edit))
    return views | changed


def shows_steps(task: Task) -> bool:
    """Whether the page of a conversation shows its steps: of what is declared, also how far it got."""
    return task.is_active or (task.declared_id is not None and task.status != Status.DONE)


def with_text(view: TaskView, text: BlockStream, note: str = "") -> TaskView:
    """The same task with what streams right now in place of what was last saved of it."""
    label = WRITING if view.state_label == THINKING and text.started else view.state_label
    return replace(view, open_blocks=text.done, open_block=text.open_html, state_label=note or label)


def open_step(steps: Sequence[Step]) -> Step | None:
    """The model step that is being written."""
    return next((step for step in reversed(steps) if step.kind == Step.Kind.MODEL and step.is_open), None)


def answer_text(task: Task) -> str:
    """The Markdown of what the task answered in the end, "" if it did not."""
    step = _answer_step(task, list(task.steps.defer("native").order_by("seq")))
    return step.text if step else ""


def _answer_step(task: Task, steps: Sequence[Step]) -> Step | None:
    """The last thing the model said, if nothing came after it. While the task is active that is a whole answer which
    asked for no calls: the task will end with it, and until then it must not look like a step. A declared task says it
    in a note, or in a summary that belongs to none of its steps."""
    if task.declared_id:
        steps = [step for step in steps if step.parent_seq is None]
        if noted := next((step for step in steps if step.kind == Step.Kind.NOTE), None):
            return noted
    said = (step for step in reversed(steps) if step.kind == Step.Kind.MODEL)
    last = next(said, None)
    if last is None or not last.text or any(step.parent_seq == last.seq for step in steps):
        return None
    ended = (Step.Status.DONE,) if task.is_active else (Step.Status.DONE, Step.Status.CANCELLED, Step.Status.FAILED)
    return last if last.status in ended else None


def _is_listed(step: Step, steps: Sequence[Step], answer: Step | None) -> bool:
    """Function calls always; the model's steps where they say something that is not the answer itself. Summaries have a
    line of their own, unless they are of what was said in a step."""
    if step.kind in FRAMES:
        return False
    if step.kind == Step.Kind.COMPACTION:
        return step.parent_seq is not None and (step.is_open or step.covers_seq is not None)
    if step.kind != Step.Kind.MODEL:
        return True
    if step.status == Step.Status.FAILED:
        was_asked_again = step.error_kind == "interrupted" or (step.error_kind == "expired" and not step.text)
        return not was_asked_again and step is not answer
    if step is answer or step.is_open:
        return bool(step.reasoning)
    return bool(step.reasoning or step.text)


def _state_label(task: Task, steps: Sequence[Step], state: State, *, is_writing: bool) -> str:
    if state.is_still:
        return state.label
    if task.status == Status.RUNNING and steps:
        running = [step for step in steps if step.kind == Step.Kind.TOOL and step.status in RUN]
        if len(running) == 1:
            return words.human_name(running[0].name)
        if running:
            return f"Running {len(running)} functions"
        if steps[-1].kind == Step.Kind.COMPACTION and steps[-1].is_open:
            return SUMMARISING
        if task.declared_id and open_step(steps) is None:
            return WORKING
        return WRITING if is_writing else THINKING
    if task.status == Status.RETRYING:
        return f"Retrying · {words.failure(task.error_kind)}"
    return state.label


_GO_ON = "Send “continue” to let it go on."
_STOPPED_BY = {
    "person": "Stopped by you.",
    "administrator": "Stopped by an administrator.",
    "expired": "Nobody answered in time, so it was stopped. Send a message to go on.",
}
#: What helps where going on does not.
_INSTEAD = {
    GoingInCircles.kind: "Stopped, because that leads nowhere. Say what it should do instead.",
    "day_tokens": "Send “continue” tomorrow to let it go on.",
    "day_cost": "Send “continue” tomorrow to let it go on.",
}


_CUT_SHORT = {
    "length": "The answer ends here because it reached the model's length limit.",
    "context_window": "The answer ends here because the conversation is as long as the model can read.",
    "content_filter": "The answer ends here because the provider's content filter stopped it.",
    "pause": "The provider paused here. Send “continue” to let it go on.",
}


def _stop_note(task: Task, answer: Step | None) -> str:
    if task.status == Status.STOPPED:
        known = _STOPPED_BY.get(task.stop_reason)
        return known or f"{task.error} {_INSTEAD.get(task.stop_reason, _GO_ON)}".strip()
    if task.status == Status.DONE and answer is not None and answer.finish_reason in _CUT_SHORT:
        return _CUT_SHORT[answer.finish_reason]
    if task.status == Status.DONE and answer is None:
        return "The model answered with nothing."
    return ""


def _model(own: str, steps: Sequence[Step]) -> str:
    """The name of the agent's model, or of the one that took over."""
    last = next((step for step in reversed(steps) if step.kind == Step.Kind.MODEL), None)
    return last.model if last and last.name else own


def _took_over(title: str, steps: Sequence[Step]) -> str:
    asked = [step for step in steps if step.kind == Step.Kind.MODEL]
    if not asked or not asked[-1].name:
        return ""
    failed = (step for step in reversed(asked) if step.status == Step.Status.FAILED and not step.name)
    why = next((f" ({words.failure(step.error_kind)})" for step in failed if step.error_kind != "interrupted"), "")
    return f"{title} did not answer{why}; {asked[-1].name} took over."


#: What of its calls one wants to know without unfolding them.
_WENT_WRONG = {
    Step.Status.FAILED: "failed",
    Step.Status.UNKNOWN: "may have run",
    Step.Status.DENIED: "not allowed",
}


def _worked(task: Task, steps: Sequence[Step]) -> str:
    """How long it took, without the times in which it did nothing: while a person was asked, or after its worker died.
    Each declared step is one from its beginning to its end, so of these the whole time is told."""
    times = sorted((step.started_at, step.ended_at) for step in steps if step.started_at and step.ended_at)
    if task.declared_id or not times or not task.ended_at:
        return words.duration(task.started_at, task.ended_at)
    worked, until = timedelta(), times[0][0]
    for start, end in times:
        worked += max(timedelta(), end - max(start, until))
        until = max(until, end)
    return words.length(worked)


def _summary(took: str, count: int, steps: Sequence[Step]) -> str:
    ends = Counter(step.status for step in steps if step.kind == Step.Kind.TOOL)
    parts = [f"Worked {took}" if took else "Worked", f"{count} step{'' if count == 1 else 's'}"]
    return " · ".join(parts + [f"{ends[status]} {said}" for status, said in _WENT_WRONG.items() if ends[status]])


_TITLES: dict[str, str] = {
    Step.Kind.MESSAGE: "You, meanwhile",
    Step.Kind.STEP: "",  # What it is called.
    Step.Kind.QUESTION: "Asked",
    Step.Kind.NOTE: "The answer",
}


def _model_title(step: Step) -> str:
    if step.kind in _TITLES:
        return _TITLES[step.kind] or step.text or step.name
    if step.kind == Step.Kind.COMPACTION:
        return summary_title(step)
    if step.status == Step.Status.FAILED and step.error_kind == ResponseInvalid.kind:
        return "Not in the demanded form"
    if step.status == Step.Status.FAILED:
        return "Broke off; asked again" if step.text else "The model did not answer"
    if step.is_open:
        return "Thinking"
    return "Thought" if step.reasoning and not step.text else "Said"
