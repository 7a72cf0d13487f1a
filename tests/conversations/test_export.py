"""A conversation as one file: everything is in it, however long it is, and it is made a little at a time."""

from __future__ import annotations

import gc
import json
import re
import tracemalloc
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from conversations import actions, branches
from conversations.export import TURNS, as_json, as_markdown
from conversations.models import Conversation, Turn
from executor.core.messages import message_to_json, user
from executor.models import Agent, Decision, Status, Step, Task
from executor.sub_tasks import give
from tests.conversations.declared_work import make_declared
from tests.conversations.test_sub_tasks import below, entry
from tests.conversations.test_summaries import summarised
from tests.conversations.test_variants import keys, worked_turn
from tests.conversations.worker import answer, db
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)

_MOMENT = re.compile(r"exported.*")
DOCS = Path(__file__).parents[2] / "docs"


def long_conversation(alice: User, demo: Agent, count: int) -> Conversation:
    """So many turns, all of one size; every hundredth task began with a summary."""
    now = timezone.now()
    conversation = Conversation.objects.create(user=alice, agent=demo, title="Long", active_at=now)
    version = demo.current_version()
    tasks: list[Task] = []
    turns: list[Turn] = []
    steps: list[Step] = []
    for number in range(1, count + 1):
        said = message_to_json(user(f"Question {number:06}"))
        task = Task(user=alice, agent_version=version, input=said, status=Status.DONE, head_seq=2, model_calls=1)
        turn = Turn(conversation=conversation, task=task, position=number, text=f"Question {number:06}")
        turn.parent = turns[-1] if turns else None
        first = {"kind": "compaction", "covers_seq": 2} if number % 100 == 0 else {"kind": "note"}
        steps.append(Step(task=task, seq=1, status="done", fence=1, text=f"Before {number:06}", **first))
        steps.append(Step(task=task, seq=2, kind="model", status="done", fence=1, text=f"Answer {number:06} " * 40))
        tasks.append(task)
        turns.append(turn)
    Task.objects.bulk_create(tasks, batch_size=200)
    Turn.objects.bulk_create(turns, batch_size=200)
    Step.objects.bulk_create(steps, batch_size=200)
    return conversation


def exported(conversation: Conversation) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(whole(as_json, conversation))
    return found


def whole(form: Callable[[Conversation], Iterator[str]], conversation: Conversation) -> str:
    return "".join(form(Conversation.objects.get(pk=conversation.pk)))


def sent(response: Any) -> bytes:
    return b"".join(response.streaming_content)


# --- everything is in it ---------------------------------------------------------------------------------------------


def test_two_thousand_turns_are_all_there_in_their_order_and_what_was_summarised_as_it_was_said(
    alice: User, demo: Agent
) -> None:
    conversation = long_conversation(alice, demo, 2_000)
    turns = exported(conversation)["turns"]
    assert [turn["text"] for turn in turns] == [f"Question {number:06}" for number in range(1, 2_001)]
    answers = [turn["answer"]["steps"][-1]["text"].split(" A")[0] for turn in turns]
    assert answers == [f"Answer {number:06}" for number in range(1, 2_001)]
    assert sum(turn["answer"]["steps"][0]["kind"] == "compaction" for turn in turns) == 20
    text = whole(as_markdown, conversation)
    assert re.findall(r"^> Question (\d+)$", text, re.MULTILINE) == [f"{number:06}" for number in range(1, 2_001)]
    assert len(re.findall(r"^Answer \d+ Answer", text, re.MULTILINE)) == 2_000


def test_a_task_is_told_in_the_same_form_everywhere(as_alice: Client, alice: User, demo: Agent) -> None:
    turn = worked_turn(alice, demo)
    Decision.objects.create(
        task=turn.task, step=turn.task.steps.get(seq=2), kind="approval", status="decided", choice="allow",
        decided_by=alice, decided_at=timezone.now(), note="Go on.", arguments={"text": "other words"},
    )  # fmt: skip
    made = branches.fork(turn, 4, result="drawn by hand")
    answer(made.task, "By hand.")
    response = as_alice.get(reverse("conversation_json", args=[turn.conversation_id]))
    found = json.loads(sent(response))
    assert [told["shown"] for told in found["turns"]] == [True, False], "The page shows the fork."
    for told, task in zip(found["turns"], (made.task, turn.task), strict=True):
        assert told["answer"] == as_alice.get(reverse("task_json", args=[task.pk])).json()
    assert found["turns"][1]["answer"]["steps"][1]["decisions"][0]["note"] == "Go on."
    text = whole(as_markdown, turn.conversation)
    assert "*May it run?: Allowed by alice, " in text
    assert "> Go on." in text
    assert "other words" in text
    assert "drawn by hand" in text
    assert text.count("*Another variant, which the page does not show.*") == 1


def test_what_other_agents_did_is_in_it_at_whatever_depth(alice: User, demo: Agent) -> None:
    turn = actions.send(alice, demo, "Find out")
    for task, call in ((turn.task, "call-1"), (None, "call-2")):
        giver = task or below(turn.task, "sun")
        giver.steps.create(
            seq=1, kind="tool", status="waiting", fence=1, name="delegate", call_id=call, arguments={"agent": "demo"}
        )
        Task.objects.filter(pk=giver.pk).update(status=Status.AWAITING, attempts=1, head_seq=1)
        giver.refresh_from_db()
        give(giver, call, [entry("sun" if task else "core")])
    sun = below(turn.task, "sun")
    answer(below(sun, "core"), "Very hot.")
    answer(sun, "Hot.")
    (told,) = exported(turn.conversation)["turns"]
    given = {task["task"]["parent"]["name"]: task for task in told["below"]}
    assert given["sun"]["task"]["parent"]["task"] == str(turn.task_id)
    assert given["core"]["steps"][-1]["text"] == "Very hot."
    assert given["core"]["task"]["parent"] == {"task": str(sun.pk), "call_id": "call-2", "name": "core"}
    text = whole(as_markdown, turn.conversation)
    assert "### Given to another agent “core”: Demo\n\n> Do core.\n" in text
    assert "Very hot." in text


def test_what_was_filled_in_and_what_a_summary_stands_for_are_in_it(alice: User, demo: Agent) -> None:
    first, second = summarised(alice, demo)
    third = actions.send(alice, demo, "A report", second.conversation)
    make_declared(third)
    answered, summary, declared = exported(first.conversation)["turns"]
    assert answered["answer"]["steps"][0]["text"] == "Twice a day."
    assert summary["answer"]["steps"][0]["covers"] == {"task": str(first.task_id), "seq": 1}
    assert declared["answer"]["task"]["data"] == {"place": "Brest"}
    text = whole(as_markdown, first.conversation)
    for words in ("Twice a day.", "> They like tides.", "**Report on tides** was started with:", '"place": "Brest"'):
        assert words in text


def test_nothing_that_somebody_said_breaks_out_of_its_place(alice: User, demo: Agent) -> None:
    turn = actions.send(alice, demo, "# Not a heading\n\n---\n````")
    turn.task.steps.create(
        seq=1, kind="tool", status="done", fence=1, name="look", call_id="c", arguments={}, result="```\n`````\n# Out"
    )
    text = whole(as_markdown, turn.conversation)
    assert "> # Not a heading\n>\n> ---\n> ````\n" in text
    assert "\n``````\n```\n`````\n# Out\n``````\n" in text


def test_every_field_is_explained(alice: User, demo: Agent) -> None:
    turn = worked_turn(alice, demo)
    pages = "".join((DOCS / name).read_text() for name in ("conversation-export.md", "task-json.md"))
    named = set(re.findall(r"`([a-z_0-9]+)`", pages))
    found = exported(turn.conversation)
    assert keys(found) - {"role", "parts", "type"} <= named
    assert list(found) == ["v", "conversation", "turns"]


# --- a little at a time ----------------------------------------------------------------------------------------------


def test_each_portion_takes_as_many_queries_as_any_other(alice: User, demo: Agent) -> None:
    def queries(turns: int) -> int:
        conversation = long_conversation(alice, demo, turns)
        with CaptureQueriesContext(connection) as captured:
            whole(as_json, conversation)
        return len(captured)

    one, two, many = queries(TURNS), queries(2 * TURNS), queries(20 * TURNS)
    assert two - one <= 8
    assert many - two == 18 * (two - one)


def test_what_comes_later_is_read_later(alice: User, demo: Agent) -> None:
    pieces = as_json(long_conversation(alice, demo, 4 * TURNS))
    with CaptureQueriesContext(connection) as begun:
        next(pieces), next(pieces)
    with CaptureQueriesContext(connection) as went_on:
        list(pieces)
    assert 0 < len(begun) < len(went_on)


@pytest.mark.parametrize("form", [as_json, as_markdown])
def test_a_long_conversation_takes_no_more_memory_than_a_short_one(alice: User, demo: Agent, form: Any) -> None:
    def peak(turns: int) -> int:
        conversation = long_conversation(alice, demo, turns)
        gc.collect()
        tracemalloc.start()
        try:
            for _ in form(conversation):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(TURNS)  # What is built once.
    assert peak(60 * TURNS) < 4 * peak(3 * TURNS), "Twenty times as much passes through."


async def test_the_site_sends_it_in_pieces(alice: User, demo: Agent) -> None:
    conversation = await db(long_conversation, alice, demo, 3 * TURNS)
    client = AsyncClient()
    await client.aforce_login(alice)
    for name, form in (("conversation_json", as_json), ("conversation_markdown", as_markdown)):
        response = await client.get(reverse(name, args=[conversation.pk]))
        sending: Any = response
        pieces = [piece async for piece in sending.streaming_content]
        assert len(pieces) > 3 * TURNS
        said = b"".join(pieces).decode()
        assert _MOMENT.sub("", said) == _MOMENT.sub("", await db(whole, form, conversation))


def test_a_turn_that_is_taken_back_meanwhile_is_left_out_and_no_other(alice: User, demo: Agent) -> None:
    conversation = long_conversation(alice, demo, 3 * TURNS)
    pieces = as_json(conversation)
    first = next(pieces)
    conversation.turns.get(position=3 * TURNS).delete()
    texts = [turn["text"] for turn in json.loads(first + "".join(pieces))["turns"]]
    assert texts == [f"Question {number:06}" for number in range(1, 3 * TURNS)]


# --- ways to it ------------------------------------------------------------------------------------------------------


def test_it_is_a_file_with_the_name_of_the_conversation(as_alice: Client, turn: Turn) -> None:
    Conversation.objects.update(title="Grüße aus Brest / “heute”")
    response = as_alice.get(reverse("conversation_markdown", args=[turn.conversation_id]))
    assert response.headers["Content-Disposition"] == 'attachment; filename="grue-aus-brest-heute.md"'
    assert response.headers["Content-Type"] == "text/markdown; charset=utf-8"
    Conversation.objects.update(title="潮汐")
    response = as_alice.get(reverse("conversation_json", args=[turn.conversation_id]))
    assert response.headers["Content-Disposition"] == 'attachment; filename="conversation.json"'


def test_the_menu_leads_to_it_with_and_without_scripts(as_alice: Client, turn: Turn) -> None:
    page = as_alice.get(reverse("conversation_usage", args=[turn.conversation_id])).content.decode()
    for name in ("conversation_json", "conversation_markdown"):
        assert f'<a href="{reverse(name, args=[turn.conversation_id])}" download>' in page


def test_the_command_writes_the_same_also_of_what_is_in_the_bin(turn: Turn, tmp_path: Path) -> None:
    actions.delete(turn.conversation)
    out = StringIO()
    call_command("export_conversation", str(turn.conversation_id), stdout=out)
    assert json.loads(out.getvalue())["turns"][0]["text"] == "Hello"
    file = tmp_path / "talk.md"
    call_command("export_conversation", str(turn.conversation_id), "--as", "markdown", "--output", str(file))
    assert "> Hello" in file.read_text()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["nonsense"], "“nonsense” is no id of a conversation. It is the part of its address after /c/."),
        ([str(uuid4())], "There is no conversation "),
        (["", "--output", "/nowhere/a.json"], "/nowhere/a.json cannot be written: No such file or directory."),
    ],
)
def test_the_command_says_what_is_wrong(turn: Turn, given: list[str], sentence: str) -> None:
    given[0] = given[0] or str(turn.conversation_id)
    with pytest.raises(CommandError, match=re.escape(sentence)):
        call_command("export_conversation", *given, stdout=StringIO())
