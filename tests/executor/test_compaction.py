"""What was said first is summarised, as a step on record, where it is more than the model can be told."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.models.signals import post_init
from django.test.utils import CaptureQueriesContext

from executor.actions import stop
from executor.core.compaction import ASKED, TOLD
from executor.core.errors import LLMError
from executor.core.messages import Message, Usage, message_to_json, user
from executor.database import in_database
from executor.forks import fork
from executor.models import DayAccount, Status, Step, Task
from executor.run import Interruption, Run
from executor.told import EARLIER_TASKS, transcript, what_is_told
from tests.executor import scripted as script_of
from tests.executor.conftest import MakeScript, MakeTask, claimed, values, worker_dies
from tests.executor.core.test_budget import problems
from tests.executor.scripted import Answer, Hold, Piece, Script, call
from tests.executor.test_every_model import MODELS, agent, calculate
from tests.executor.test_run import ended, execute, reach
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

Functions = Callable[[], list[str]]
#: Of a model for which about 5,500 bytes are room.
SMALL: dict[str, Any] = {"functions": [], "parameters": {"context_window": 3_000}}


#: As of a provider that did not count what it read.
UNCOUNTED = Usage(output_tokens=2)


def say(*pieces: Piece, usage: Usage = UNCOUNTED) -> Answer:
    return script_of.say(*pieces, usage=usage)


def talk(first: Task, turns: int, length: int = 600) -> Task:
    """So many answered messages after another, beginning with `first`. Returns the last."""
    tasks = [first]
    for number in range(1, turns):
        said = message_to_json(user(f"Question {number}"))
        version, before = first.agent_version, tasks[-1]
        tasks.append(Task(user=first.user, agent_version=version, input=said, previous=before))
    Task.objects.bulk_create(tasks[1:])
    Task.objects.filter(pk__in=[task.pk for task in tasks]).update(status=Status.DONE, head_seq=1)
    Step.objects.bulk_create(
        Step(task=task, seq=1, kind="model", status="done", fence=1, text=f"Answer {number} " + "." * length)
        for number, task in enumerate(tasks)
    )
    return tasks[-1]


def after(before: Task, text: str = "And now?") -> Task:
    said = message_to_json(user(text))
    return Task.objects.create(user=before.user, agent_version=before.agent_version, input=said, previous=before)


@pytest.fixture
def long(make_task: MakeTask) -> Callable[..., Task]:
    """A message after some others, which are a little more than its model can be told."""

    def long(script: Script, turns: int = 9, **agent: Any) -> Task:
        return after(talk(make_task("Question 0", script, **{**SMALL, **agent}), turns))

    return long


Long = Callable[..., Task]


def kinds(task: Task) -> list[tuple[str, str]]:
    return [(step.kind, step.status) for step in task.steps.order_by("seq")]


def texts(messages: tuple[Message, ...] | list[Message]) -> list[str]:
    return [message.text for message in messages]


def the_compaction(task: Task) -> Step:
    return task.steps.get(kind=Step.Kind.COMPACTION)


# --- what becomes of it ----------------------------------------------------------------------------------------------


def test_what_was_said_first_is_told_in_short_and_what_was_said_last_as_it_was(
    long: Long, scripted: MakeScript
) -> None:
    task = long(script := scripted(say("They like tides."), say("Fine.")))
    rows = values(Step.objects.exclude(task=task))
    execute(claimed(task))
    assert ended(task) == ("done", "", "")
    assert kinds(task) == [("compaction", "done"), ("model", "done")]
    asked, question = (texts(one) for one in script.asked)
    assert asked[0] == "Question 0"
    assert asked[-1].startswith(ASKED)
    assert question[0].startswith(TOLD)
    assert "In short:\n\nThey like tides." in question[0]
    assert question[-1] == "And now?"
    assert question[1:-1] == texts(transcript(task.previous, ""))[-len(question) + 2 :], "Nothing is missing between."  # type: ignore[arg-type]
    assert not any(said in asked for said in question[1:])
    assert values(Step.objects.exclude(task=task)) == rows, "History stays as it is."


def test_it_stands_for_that_in_later_tasks_which_read_nothing_before_it(long: Long, scripted: MakeScript) -> None:
    task = long(script := scripted(say("They like tides."), say("Fine."), say("Still fine.")))
    execute(claimed(task))
    follower = after(task, "And then?")
    execute(claimed(follower))
    assert kinds(follower) == [("model", "done")]
    assert texts(script.asked[2])[: len(script.asked[1])] == texts(script.asked[1])
    assert texts(script.asked[2])[len(script.asked[1]) :] == ["Fine.", "And then?"]
    last = Task.objects.get(pk=the_compaction(task).covers_task or "")
    told = {piece.task_id for piece in what_is_told(follower).pieces if piece.upto == 0}
    assert told
    assert not Task.objects.filter(pk__in=told, created_at__lte=last.created_at).exists()


def test_a_summary_is_summarised_with_what_came_after_it(long: Long, scripted: MakeScript) -> None:
    task = long(script := scripted(say("They like tides."), say("Fine."), say("Tides, and boats."), say("Yes.")))
    execute(claimed(task))
    last = after(talk(after(task, "Boats?"), 12), "What do I like?")
    execute(claimed(last))
    asked = texts(script.asked[2])
    assert "They like tides." in asked[0]
    assert "Question 0" not in asked
    question = texts(script.asked[3])
    assert "Tides, and boats." in question[0]
    assert "They like tides." not in question[0]


def test_a_long_loop_is_summarised_without_tearing_calls_from_their_results(
    make_task: MakeTask, scripted: MakeScript, functions: Functions
) -> None:
    rounds = [say(f"Round {n} " + "." * 1_000, call("look", topic=f"tide {n}")) for n in range(12)]
    script = scripted(*rounds[:6], say("Six looks."), *rounds[6:11], say("Eleven looks."), *rounds[11:], say("Done."))
    agent = {**SMALL, "functions": ["look"], "parameters": {"context_window": 3_200}, "max_iterations": 50}
    task = make_task("Look at the tides.", script, **agent)
    execute(claimed(task))
    assert ended(task)[0] == "done"
    compactions = list(task.steps.filter(kind="compaction").order_by("seq"))
    assert [step.text for step in compactions] == ["Six looks.", "Eleven looks."]
    assert all(step.covers_task is None for step in compactions)
    assert functions() == ["look"] * 12
    for question in script.asked:
        if not question[-1].text.startswith(ASKED):
            assert not problems(question, question)
            assert "Look at the tides." in question[0].text, "What the person wants stays."
    assert task.tool_calls == 12


def test_so_many_messages_are_summarised_although_they_are_short(make_task: MakeTask, scripted: MakeScript) -> None:
    script = scripted(say("Little was said."), say("Fine."), say("Fine."))
    task = after(talk(make_task("Hello.", script, functions=[]), EARLIER_TASKS, 5))
    execute(claimed(task))
    assert kinds(task) == [("compaction", "done"), ("model", "done")]
    assert len(script.asked[1]) <= EARLIER_TASKS + 2
    follower = after(task)
    execute(claimed(follower))
    assert kinds(follower) == [("model", "done")]


def test_who_is_asked_at_a_limit_is_told_what_there_is_room_for(long: Long, scripted: MakeScript) -> None:
    task = long(script := scripted(say("I did nothing.")))
    Task.objects.filter(pk=task.pk).update(
        allowed={"summarise": {"limit": "tokens", "sentence": "It reached its limit.", "after": 0}}
    )
    execute(claimed(task))
    assert kinds(task) == [("model", "done")]
    assert sum(map(len, texts(script.asked[0]))) < 6_000


@pytest.mark.parametrize("provider", MODELS)
def test_every_provider_accepts_a_loop_whose_beginning_was_summarised(
    provider: str, make_task: MakeTask, model_server: ModelServer
) -> None:
    rounds = [
        Turn(reasoning="Hm.", text="." * 1_500, calls=(calculate(f"{n}+1"), calculate(f"{n}*2"))) for n in range(4)
    ]
    model_server.script([*rounds[:3], Turn(text="Three rounds."), rounds[3], Turn(reasoning="So.", text="Done.")])
    found = agent(provider, model_server)
    small = {**found.get("parameters", {}), "context_window": 1_000}
    task = make_task("Work it out.", functions=["calculate"], **{**found, "parameters": small})
    execute(claimed(task))
    assert (ended(task)[0], task.error) == ("done", "")
    assert the_compaction(task).text == "Three rounds."
    question = json.dumps(model_server.asked[-1].body)
    assert "Three rounds." in question
    assert "Work it out." in question
    assert "0+1" not in question
    assert not model_server.left_over


# --- tokens, money, limits -------------------------------------------------------------------------------------------


def test_it_is_paid_for_as_any_question_and_is_no_round(long: Long, scripted: MakeScript) -> None:
    script = scripted(say("Tides.", usage=Usage(700, 30)), say("Fine.", usage=Usage(300, 5)))
    task = long(script, max_iterations=1, input_price=Decimal(10), output_price=Decimal(10))
    execute(claimed(task))
    assert ended(task)[0] == "done"
    assert (task.model_calls, task.input_tokens, task.output_tokens) == (1, 1_000, 35)
    compaction = the_compaction(task)
    assert compaction.cost == Decimal("0.0073")
    assert task.cost == Decimal("0.01035")
    assert compaction.asked_bytes
    account = DayAccount.objects.get()
    assert (account.tokens, account.cost, account.reserved_tokens) == (1_035, task.cost, 0)


def test_how_much_is_told_follows_what_the_provider_counted(long: Long, scripted: MakeScript) -> None:
    script = scripted(say("Tides.", usage=Usage(4_000, 5)), say("Fine."), say("Little."), say("Fine."))
    task = long(script)
    execute(claimed(task))
    follower = after(talk(after(task), 5))
    execute(claimed(follower))
    assert kinds(follower)[0] == ("compaction", "done"), "For its tokens are shorter than anybody thought."


def test_it_is_not_asked_for_when_the_day_does_not_allow_it(long: Long, scripted: MakeScript) -> None:
    task = long(scripted())
    User.objects.update(max_tokens_per_day=2_000)
    execute(claimed(task))
    task.refresh_from_db()
    assert task.status == Status.WAITING
    assert kinds(task) == []


# --- when something comes between ------------------------------------------------------------------------------------


def test_a_worker_that_dies_in_it_leaves_nothing_and_it_is_asked_again(long: Long, scripted: MakeScript) -> None:
    hold = Hold()
    task = long(scripted(say("They", hold, " like"), say("They like tides."), say("Fine.")))

    async def die(run: Run) -> None:
        await reach(hold)
        run.interrupt(Interruption.LOST)

    execute(claimed(task), die)
    assert kinds(task) == [("compaction", "started")]
    worker_dies(task)
    execute(claimed(task))
    assert kinds(task) == [("compaction", "failed"), ("compaction", "done"), ("model", "done")]
    failed = task.steps.get(seq=1)
    assert (failed.error_kind, failed.covers_seq, failed.cost) == ("interrupted", None, None)
    assert ended(task)[0] == "done"


def test_a_worker_that_goes_away_does_not_wait_for_it(long: Long, scripted: MakeScript) -> None:
    hold = Hold()
    task = long(scripted(say(hold), say("They like tides."), say("Fine.")))

    async def leave(run: Run) -> None:
        await reach(hold)
        run.interrupt(Interruption.HAND_OVER)

    execute(claimed(task), leave)
    task.refresh_from_db()
    assert (task.status, kinds(task)) == (Status.QUEUED, [("compaction", "failed")])
    execute(claimed(task))
    assert kinds(task)[1:] == [("compaction", "done"), ("model", "done")]


def test_it_can_be_stopped_and_the_next_message_begins_it_anew(long: Long, scripted: MakeScript) -> None:
    hold = Hold()
    task = long(script := scripted(say("They", hold), say("They like tides."), say("Fine.")))

    async def stop_it(run: Run) -> None:
        await reach(hold)
        assert await in_database(stop, task)
        run.interrupt(Interruption.STOP)

    execute(claimed(task), stop_it)
    assert ended(task) == ("stopped", "person", "")
    assert [(step.status, step.text, step.covers_seq) for step in task.steps.all()] == [("cancelled", "", None)]
    follower = after(task, "Again.")
    execute(claimed(follower))
    assert kinds(follower) == [("compaction", "done"), ("model", "done")]
    assert texts(script.asked[2])[-1] == "Again."


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (say(""), "The model answered with nothing."),
        (say("x" * 3_000), "The summary is too long."),
        (say(LLMError("content_filter", "Not that.")), "Not that."),
        (say(LLMError("context_too_long", "Too much.")), "Too much."),
    ],
)
def test_where_no_summary_comes_of_it_the_oldest_is_left_out_and_the_model_is_told_so(
    long: Long, scripted: MakeScript, answer: Any, why: str
) -> None:
    task = long(script := scripted(answer, say("Fine."), say("Fine.")))
    execute(claimed(task))
    assert ended(task)[0] == "done"
    assert kinds(task) == [("compaction", "failed"), ("model", "done")]
    assert the_compaction(task).error == why
    first = texts(script.asked[1])[0]
    assert first.startswith(TOLD)
    assert "no summary" in first
    assert "xxx" not in first
    execute(claimed(follower := after(task)))
    assert kinds(follower) == [("model", "done")], "It is not tried again for what was left out."


def test_the_summary_before_stays_where_the_next_one_fails(long: Long, scripted: MakeScript) -> None:
    task = long(script := scripted(say("They like tides."), say("Fine."), say(""), say("Yes.")))
    execute(claimed(task))
    last = after(talk(after(task, "Boats?"), 12))
    execute(claimed(last))
    assert kinds(last) == [("compaction", "failed"), ("model", "done")]
    first = texts(script.asked[3])[0]
    assert "They like tides." in first
    assert "no summary of what was said last before this" in first


def test_a_provider_that_nobody_could_ask_fails_the_task_as_always(long: Long, scripted: MakeScript) -> None:
    task = long(scripted(say(LLMError("permission", "No.")), say("They like tides."), say("Fine.")))
    execute(claimed(task))
    assert ended(task) == ("failed", "", "permission")
    assert the_compaction(task).covers_seq is None
    follower = after(task)
    execute(claimed(follower))
    assert kinds(follower) == [("compaction", "done"), ("model", "done")]


def test_a_model_that_reads_less_than_anybody_knew_is_told_less_once(make_task: MakeTask, scripted: MakeScript) -> None:
    too_long = LLMError("context_too_long", "8,192 tokens at most.")
    script = scripted(say(too_long), say("They like tides."), say("Fine."))
    task = after(talk(make_task("Question 0", script, functions=[]), 20))
    execute(claimed(task))
    assert ended(task)[0] == "done"
    assert kinds(task) == [("model", "failed"), ("compaction", "done"), ("model", "done")]
    assert sum(map(len, texts(script.asked[2]))) < sum(map(len, texts(script.asked[0]))) * 0.5


def test_a_model_that_reads_nothing_fails_with_its_own_sentence(make_task: MakeTask, scripted: MakeScript) -> None:
    too_long = LLMError("context_too_long", "8,192 tokens at most.")
    script = scripted(say(too_long), say("They like tides."), say(too_long))
    task = after(talk(make_task("Question 0", script, functions=[]), 20))
    execute(claimed(task))
    assert ended(task) == ("failed", "", "context_too_long")


# --- branches --------------------------------------------------------------------------------------------------------


def test_what_is_tried_again_from_before_it_does_not_see_it(long: Long, scripted: MakeScript) -> None:
    task = long(script := scripted(say("They like tides."), say("Fine."), say("Boats."), say("Well.")))
    execute(claimed(task))
    beside = after(task.previous, "And now, really?")  # type: ignore[arg-type]
    execute(claimed(beside))
    assert kinds(beside) == [("compaction", "done"), ("model", "done")]
    assert "tides" not in "".join(texts(script.asked[3]))


def test_a_fork_of_what_came_after_it_shares_it(long: Long, scripted: MakeScript) -> None:
    task = long(script := scripted(say("They like tides."), say("Fine."), say("Better."), say("Yes.")))
    execute(claimed(task))
    forked = fork(task, 2)
    execute(claimed(forked))
    assert script.asked[2] == script.asked[1]
    follower = after(forked, "Then?")
    execute(claimed(follower))
    assert "They like tides." in texts(script.asked[3])[0]
    assert texts(script.asked[3])[-2:] == ["Better.", "Then?"]


# --- cost ------------------------------------------------------------------------------------------------------------


def test_a_message_costs_the_same_after_two_thousand_turns_as_after_a_hundred(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    def cost(turns: int) -> tuple[int, int, int, int]:
        """Queries, rows, bytes read, and bytes told for the next message."""
        script = scripted(say("Little was said."), say("Fine."))
        task = after(talk(make_task("Hello.", script, functions=[]), turns, 300))
        execute(claimed(task))
        loaded: list[Any] = []

        def note(instance: Any, **_: Any) -> None:
            loaded.append(instance)

        for model in (Task, Step):
            post_init.connect(note, model)
        try:
            with CaptureQueriesContext(connection) as captured:
                messages = transcript(after(task), "")
        finally:
            for model in (Task, Step):
                post_init.disconnect(note, model)
        read = sum(len(getattr(row, "text", "")) for row in loaded)
        return len(captured), len(loaded), read, sum(map(len, texts(messages)))

    short, medium, endless = cost(EARLIER_TASKS), cost(150), cost(2_000)
    assert endless[:2] == medium[:2] == short[:2]
    assert endless[2] == pytest.approx(short[2], rel=0.05)
    assert endless[3] == pytest.approx(short[3], rel=0.05)
