"""Variants of what was said and answered: one path is shown, nothing is lost, and every open page shows the same."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from conversations import actions, branches
from conversations.models import Conversation, Turn
from executor import actions as tasks
from executor.actions import NotNow, create_task
from executor.core.messages import ToolCall
from executor.core.messages import user as user_message
from executor.decisions import WrongAnswer
from executor.hints import notify
from executor.models import Agent, Decision, Status, Step, Task
from executor.states import state_of
from executor.told import transcript
from tests.conversations.test_live import CHART, DRAW, Scene, eventually
from tests.conversations.test_pages import HTMX, soup
from tests.conversations.worker import answer, db, fail, hold
from tests.executor.conftest import in_threads
from tests.executor.test_journal import answer as say
from tests.executor.test_journal import result
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

COUNT = ToolCall("call-1", "count_words", {"text": "a b"})


def bubbles(page: BeautifulSoup) -> list[str]:
    return [bubble.text for bubble in page.select("#turns .bubble")]


def shown(conversation: Conversation) -> list[str]:
    """What the page shows: the person's words, and the answers."""
    turns = conversation.turns.filter(shown=True).order_by("position")
    steps = [turn.task.steps.last() for turn in turns]
    return [f"{turn.text} → {step.text if step else turn.task.status}" for turn, step in zip(turns, steps, strict=True)]


def told(task: Task) -> list[str]:
    return [message.text for message in transcript(task, "")]


@pytest.fixture
def talk(turn: Turn, alice: User, demo: Agent) -> Conversation:
    """Hello, and two more questions, all answered."""
    for number in (2, 3):
        more = actions.send(alice, demo, f"Question {number}", turn.conversation)
        answer(more.task, f"Answer {number}.")
    return turn.conversation


def at(conversation: Conversation, position: int) -> Turn:
    return conversation.turns.select_related("task__agent_version", "conversation").get(position=position, shown=True)


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_an_answer_is_given_once_more_beside_the_first(talk: Conversation) -> None:
    first = at(talk, 2)
    again = branches.regenerate(first)
    assert (again.parent, again.position, again.text) == (first.parent, 2, "Question 2")
    assert again.task.previous == first.task.previous
    assert again.task.thread == talk.pk
    answer(again.task, "Better.")
    assert shown(talk) == ["Hello → Good *morning*.", "Question 2 → Better."]
    assert told(again.task) == ["Hello", "Good *morning*.", "Question 2", "Better."]
    assert talk.turns.count() == 4


def test_what_was_said_meanwhile_is_said_again_too(alice: User, demo: Agent) -> None:
    first = actions.send(alice, demo, "Count the words")
    talk = first.conversation
    more = [actions.send(alice, demo, text, talk) for text in ("In English", "And in Latin")]
    journal = hold(first.task)
    for turn in more:
        assert actions.send_now(turn)
    assert journal.take_in()
    say(journal, "Two.")
    journal.end(Status.DONE)
    again = branches.regenerate(at(talk, 1))
    waiting = list(talk.turns.filter(shown=True).order_by("position").select_related("task"))
    assert [turn.text for turn in waiting] == ["Count the words", "In English", "And in Latin"]
    assert [state_of(turn.task).label for turn in waiting[1:]] == ["Goes in at the next step"] * 2
    journal = hold(again.task)
    assert journal.take_in()
    say(journal, "Duo.")
    journal.end(Status.DONE)
    assert shown(talk) == ["Count the words → Duo."]
    assert told(again.task) == [*told(first.task)[:3], "Duo."]
    once_more = branches.regenerate(at(talk, 1))
    answer(once_more.task, "It needs no second look.")
    (unsaid, _) = talk.turns.filter(position__gt=1)  # Its line goes on, as every line does.
    answer(unsaid.task, "In English: two.")
    assert shown(talk)[:2] == ["Count the words → It needs no second look.", "In English → In English: two."]


def test_what_was_said_is_said_otherwise_and_both_stay(talk: Conversation) -> None:
    before = shown(talk)
    edited = branches.edit(at(talk, 1), "Good evening")
    answer(edited.task, "Evening!")
    assert shown(talk) == ["Good evening → Evening!"]
    assert told(edited.task) == ["Good evening", "Evening!"]
    branches.choose(talk.turns.get(text="Hello"))
    assert shown(talk) == before


def test_a_variant_comes_with_the_newest_of_what_was_said_after_it(talk: Conversation) -> None:
    third = branches.edit(at(talk, 3), "Question 3, once more")
    answer(third.task, "Three.")
    edited = branches.edit(at(talk, 2), "Another question")
    answer(edited.task, "Well.")
    branches.choose(talk.turns.get(text="Question 2"))
    assert shown(talk)[1:] == ["Question 2 → Answer 2.", "Question 3, once more → Three."]
    branches.choose(talk.turns.get(text="Question 3"))
    assert shown(talk)[1:] == ["Question 2 → Answer 2.", "Question 3 → Answer 3."]


def test_the_next_message_goes_on_from_what_is_shown(talk: Conversation, alice: User, demo: Agent) -> None:
    edited = branches.edit(at(talk, 1), "Good evening")
    answer(edited.task, "Evening!")
    following = actions.send(alice, demo, "And now?", talk)
    assert (following.parent, following.position) == (edited, 2)
    assert told(following.task) == ["Good evening", "Evening!", "And now?"]


def test_what_is_at_work_stays_on_the_page(talk: Conversation, alice: User, demo: Agent) -> None:
    edited = branches.edit(at(talk, 1), "Good evening")
    answer(edited.task, "Evening!")
    other = talk.turns.get(text="Hello")
    waiting = actions.send(alice, demo, "Wait", talk)
    for verb in (
        lambda: branches.regenerate(edited),
        lambda: branches.edit(edited, "No"),
        lambda: branches.fork(edited, 1),
        lambda: branches.choose(other),
        lambda: branches.edit(waiting, "No"),
    ):
        with pytest.raises(NotNow, match="Stop it first"):
            verb()
    assert talk.turns.count() == 5
    tasks.stop(waiting.task)
    branches.choose(other)
    assert shown(talk)[0] == "Hello → Good *morning*."


def test_what_is_not_shown_is_not_tried_again_behind_the_page(turn: Turn, alice: User, demo: Agent) -> None:
    failed = actions.send(alice, demo, "Fail", turn.conversation)
    fail(failed.task, "It broke.")
    branches.edit(turn, "Good evening")
    failed.refresh_from_db()
    with pytest.raises(NotNow, match="Another variant"):
        tasks.retry(failed.task)
    failed.task.refresh_from_db()
    assert failed.task.status == Status.FAILED


def test_another_agent_answers_and_one_that_is_gone_does_not(talk: Conversation, demo: Agent) -> None:
    other = Agent.objects.create(name="other", title="Other", provider="demo", position=2)
    again = branches.regenerate(at(talk, 3), other)
    assert again.task.agent_version.agent == other
    talk.refresh_from_db()
    assert talk.agent == other
    answer(again.task, "Other.")
    Agent.objects.filter(pk=demo.pk).update(enabled=False)
    with pytest.raises(NotNow, match="not available any more"):
        branches.edit(at(talk, 2), "Anything")


def test_of_variants_made_at_once_one_is_made(talk: Conversation) -> None:
    turn = at(talk, 2)

    def again(number: int) -> str:
        try:
            branches.edit(Turn.objects.get(pk=turn.pk), f"Number {number}")
        except NotNow:
            return "refused"
        return "made"

    assert sorted(in_threads(6, again)) == ["made"] + ["refused"] * 5
    assert talk.turns.filter(position=2).count() == 2
    assert talk.turns.filter(position=2, shown=True).count() == 1


def test_a_reviewer_sees_every_variant(client: Client, talk: Conversation, dora: User) -> None:
    branches.edit(at(talk, 3), "Question 3, otherwise")
    client.force_login(dora)
    page = client.get(reverse("admin:conversations_conversation_change", args=[talk.pk])).content.decode()
    assert page.count("another variant is shown") == 1
    assert "Question 3, otherwise" in page


def test_where_a_variant_is_taken_back_the_one_before_is_shown_again(talk: Conversation) -> None:
    before = shown(talk)
    assert actions.take_back(branches.edit(at(talk, 2), "Another question"))
    assert shown(talk) == before
    assert branches.variants(list(talk.turns.all())) == {}


def test_a_fork_is_a_variant_too(turn: Turn, alice: User, demo: Agent) -> None:
    worked = worked_turn(alice, demo, turn.conversation)
    made = branches.fork(worked, 2, result="Three words.")
    assert (made.parent, made.position, made.text) == (worked.parent, 2, worked.text)
    assert made.task.base == worked.task
    with pytest.raises(NotNow):
        branches.fork(worked, 2, result="Four.")
    tasks.stop(made.task)
    with pytest.raises(WrongAnswer):
        branches.fork(worked, 99)
    assert turn.conversation.turns.count() == 3


def worked_turn(alice: User, demo: Agent, conversation: Conversation | None = None) -> Turn:
    """A turn whose task drew a chart and counted words, one after the other."""
    turn = actions.send(alice, demo, "Count and draw", conversation)
    journal = hold(turn.task)
    for call, content, files in ((COUNT, "Two words.", ()), (DRAW, "drawn", (CHART,))):
        say(journal, "", call)
        journal.start_tools([call])
        result(journal, call, content, False, *files)
    say(journal, "There it is.")
    journal.end(Status.DONE)
    turn.task.refresh_from_db()
    return turn


def test_searching_finds_variants_and_quotes_what_is_shown(as_alice: Client, talk: Conversation) -> None:
    answer(branches.edit(at(talk, 3), "3 questions about tortoises").task, "Slow.")
    answer(branches.edit(at(talk, 3), "Question 3 about hares").task, "Fast.")
    found = soup(as_alice.get(reverse("search"), {"q": "tortoises"}))
    assert "tortoises" in found.select_one(".result").text  # type: ignore[union-attr]
    found = soup(as_alice.get(reverse("search"), {"q": "3"}))
    assert "hares" in found.select_one(".result-snippet").text  # type: ignore[union-attr]


# --- the page --------------------------------------------------------------------------------------------------------


def test_a_page_shows_one_path_and_where_it_stands(as_alice: Client, talk: Conversation) -> None:
    edited = branches.edit(at(talk, 2), "Another question")
    answer(edited.task, "Well.")
    page = soup(as_alice.get(talk.get_absolute_url()))
    assert bubbles(page) == ["Hello", "Another question"]
    (variants,) = page.select(".variants")
    assert " ".join(variants.text.split()) == "Variant 2/2"
    earlier, later = variants.select("button")
    assert (earlier["aria-label"], later["aria-label"]) == ("Earlier variant", "Later variant")
    assert later["aria-disabled"] == "true"
    response = as_alice.post(str(earlier["formaction"]), follow=True)
    page = soup(response)
    assert bubbles(page) == ["Hello", "Question 2", "Question 3"]
    assert " ".join(page.select_one(".variants").text.split()) == "Variant 1/2"  # type: ignore[union-attr]


def test_everything_works_without_scripts(as_alice: Client, talk: Conversation, demo: Agent) -> None:
    page = soup(as_alice.get(talk.get_absolute_url()))
    last = page.select("#turns .turn")[-1]
    form = soup(as_alice.get(str(last.select_one("a.edit")["href"]))).select_one("form.editing")  # type: ignore[index]
    assert form is not None
    assert form.select_one("textarea").text.strip() == "Question 3"  # type: ignore[union-attr]
    assert form.select_one("a[data-cancel]")["href"].endswith(f"/c/{talk.pk}/#{last['id']}")  # type: ignore
    refused = as_alice.post(str(form["action"]), {"text": " "})
    assert refused.status_code == 422
    assert "Write something first." in refused.content.decode()
    response = as_alice.post(str(form["action"]), {"text": "Question 3, please"})
    edited = at(talk, 3)
    assert response.headers["Location"] == f"{talk.get_absolute_url()}#turn-{edited.pk}"
    answer(edited.task, "Here you are.")
    page = soup(as_alice.get(talk.get_absolute_url()))
    again = page.select("button.regenerate")[-1]
    as_alice.post(str(again["formaction"]), {"agent": demo.name})
    assert at(talk, 3).text == "Question 3, please"
    assert talk.turns.filter(position=3).count() == 3
    said = as_alice.post(str(again["formaction"]), follow=True)
    assert "Stop it first" in said.content.decode()


def test_a_refusal_is_a_sentence_and_what_was_written_stays(as_alice: Client, talk: Conversation) -> None:
    turn = at(talk, 3)
    edit = reverse("edit", args=[turn.task_id])
    response = as_alice.post(edit, {"text": ""}, **HTMX)
    assert response.status_code == 422
    assert soup(response).select_one("hx-partial")["hx-target"] == f"#edit-error-{turn.pk}"  # type: ignore[index]
    assert "Choose another one" in as_alice.post(edit, {"text": "Hi", "agent": "nobody"}, **HTMX).content.decode()
    kept = soup(as_alice.post(edit, {"text": "Hi\x00", "agent": ""})).select_one("textarea")
    assert kept is not None
    assert kept.text.strip() == "Hi\ufffd"
    regenerate = reverse("regenerate", args=[turn.task_id])
    assert as_alice.post(regenerate, {"agent": "nobody"}, **HTMX).status_code == 409
    assert talk.turns.count() == 3


def test_the_words_are_edited_in_their_place(as_alice: Client, talk: Conversation) -> None:
    turn = at(talk, 2)
    edit = reverse("edit", args=[turn.task_id])
    form = soup(as_alice.get(edit, **HTMX))
    assert form.select_one(f"form#said-{turn.pk} textarea[autofocus]") is not None
    assert form.select_one("html") is None
    back = soup(as_alice.get(f"{edit}?cancel", **HTMX))
    page = soup(as_alice.get(talk.get_absolute_url()))
    assert str(back.select_one(f"#said-{turn.pk}")) == str(page.select_one(f"#said-{turn.pk}"))


def test_a_fork_shows_the_steps_and_files_that_it_shares(as_alice: Client, alice: User, demo: Agent) -> None:
    turn = worked_turn(alice, demo)
    made = branches.fork(turn, 5)
    answer(made.task, "Once more.")
    page = soup(as_alice.get(turn.conversation.get_absolute_url()))
    assert page.select_one(".task .answer").text.strip() == "Once more."  # type: ignore[union-attr]
    assert len(page.select(".task > .files img")) == 1
    assert "2 steps" in page.select_one(".work summary").text  # type: ignore[union-attr]
    steps = soup(as_alice.get(reverse("task_steps", args=[made.task_id]), **HTMX))
    assert [step["data-seq"] for step in steps.select(".step")] == ["2", "4"]
    assert page.select_one(".foot .use").text == "15 tokens · free"  # type: ignore[union-attr]
    before = branches.fork(turn, 3)
    tasks.stop(before.task)
    page = soup(as_alice.get(turn.conversation.get_absolute_url()))
    assert page.select(".task > .files img") == []


def test_every_answer_can_be_given_once_more_and_its_steps_lead_to_the_time_line(
    as_alice: Client, alice: User, demo: Agent
) -> None:
    turn = worked_turn(alice, demo)
    failed = actions.send(alice, demo, "Fail", turn.conversation)
    fail(failed.task, "It broke.")
    waiting = actions.send(alice, demo, "Wait", turn.conversation)
    page = soup(as_alice.get(turn.conversation.get_absolute_url()))
    assert page.select_one(f"#work-{turn.task_id} > a")["href"] == reverse("task", args=[turn.task_id])  # type: ignore[index]
    again = [button["formaction"] for button in page.select(".regenerate")]
    assert again == [reverse("regenerate", args=[turn.task_id])]  # What failed goes on by its own button.
    assert page.select(f"#task-{waiting.task_id} .foot-actions") == []


def test_pages_with_and_without_variants_take_as_many_queries(as_alice: Client, talk: Conversation) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            as_alice.get(talk.get_absolute_url())
        return len(captured)

    queries()
    before = queries()
    for number in range(5):
        answer(branches.edit(at(talk, 3), f"Number {number}").task, "Yes.")
    queries()
    assert queries() == before


# --- other pages -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def scene(transactional_db: None, live: None, alice: User, demo: Agent) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        scene = Scene(alice, demo, stack)
        await db(scene.client.force_login, alice)
        yield scene


async def answered(scene: Scene, text: str, said: str, conversation: Conversation | None = None) -> Turn:
    turn = await scene.send(text, conversation)
    await db(answer, turn.task, said)
    found: Turn = await db(lambda: Turn.objects.select_related("conversation", "task__agent_version").get(pk=turn.pk))
    return found


async def test_every_open_page_shows_the_branch_that_was_made(scene: Scene) -> None:
    first = await answered(scene, "Hello", "Hi.")
    second = await answered(scene, "More?", "More.", first.conversation)
    viewer, other = await scene.watch(first.conversation), await scene.watch(first.conversation)
    await scene.is_quiet()
    edited = await db(branches.edit, first, "Good evening")
    await eventually(lambda: viewer.seen(".bubble") == "Good evening")
    await scene.is_quiet()
    work = await scene.work(edited.task)
    await work.ask()
    work.say("Good ev")
    await scene.is_quiet(work)
    work.say("ening.")
    await work.finish()
    await work.end()
    await scene.is_quiet()
    assert other.page.text(".answer") == "Good evening."
    assert other.page.text(".variants") == "Variant 2/2"
    await db(branches.choose, second)
    await eventually(lambda: viewer.seen(".variants") == "Variant 1/2")
    await scene.is_quiet()
    assert [bubble.text for bubble in other.page.soup.select(".bubble")] == ["Hello", "More?"]


async def test_a_variant_is_not_put_below_the_one_that_it_replaces(scene: Scene) -> None:
    """Also where a page hears of its task before it hears of the branch."""
    first = await answered(scene, "Hello", "Hi.")
    viewer = await scene.watch(first.conversation)
    await scene.is_quiet()

    def beside() -> Turn:
        task, _ = create_task(scene.alice, first.task.agent_version, user_message("Good evening"))
        turn = Turn.objects.create(conversation=first.conversation, task=task, position=1, text="Good evening")
        branches._show(turn)
        return turn

    turn = await db(beside)
    await notify(scene.alice.pk, turn.task_id)
    await eventually(lambda: not viewer.seen("#stop") and viewer.page.soup.select_one("#stop") is not None)
    assert [bubble.text for bubble in viewer.page.soup.select(".bubble")] == ["Hello"]
    await db(branches._tell, turn)
    await eventually(lambda: viewer.seen(".bubble") == "Good evening")
    await scene.is_quiet()


async def test_a_page_that_was_away_comes_back_to_the_branch_that_is_shown(scene: Scene) -> None:
    first = await answered(scene, "Hello", "Hi.")
    viewer = await scene.watch(first.conversation)
    await viewer.disconnect()
    edited = await db(branches.edit, first, "Good evening")
    await db(answer, edited.task, "Evening.")
    await db(branches.choose, first)
    await db(branches.choose, edited)
    await viewer.connect()
    await scene.is_quiet()
    assert viewer.page.text(".bubble") == "Good evening"
    await viewer.disconnect()
    await db(branches.choose, first)
    await viewer.connect()
    await scene.is_quiet()
    assert viewer.page.text(".bubble") == "Hello"


async def test_every_open_page_shows_again_what_was_before_a_variant_that_is_taken_back(scene: Scene) -> None:
    first = await answered(scene, "Hello", "Hi.")
    viewer = await scene.watch(first.conversation)
    edited = await db(branches.edit, first, "Good evening")
    await eventually(lambda: viewer.seen(".bubble") == "Good evening")
    await db(actions.take_back, edited)
    await eventually(lambda: viewer.seen(".bubble") == "Hello")
    await scene.is_quiet()


async def test_a_fork_is_live_like_any_other_task(scene: Scene) -> None:
    turn = await db(worked_turn, scene.alice, scene.agent)
    viewer = await scene.watch(turn.conversation)
    pie = {"kind": "pie", "title": "Pie", "values": [3, 4], "labels": ["a", "b"]}
    made = await db(branches.fork, turn, 4, arguments=pie)
    await eventually(lambda: viewer.seen(".variants") == "Variant 2/2")
    await scene.is_quiet()
    work = await scene.work(made.task)
    await scene.is_quiet()
    call = ToolCall(DRAW.id, DRAW.name, pie)
    await work.start(call)
    await scene.is_quiet()
    await work.result(call, "drawn anew", CHART)
    await scene.is_quiet()
    assert len(viewer.page.soup.select(".step")) == 2
    assert len(viewer.page.soup.select(".task > .files img")) == 1
    await work.ask()
    work.say("A pie.")
    await scene.is_quiet(work)
    late = await scene.watch(turn.conversation)
    await scene.is_quiet(work)
    await work.finish()
    await work.end()
    await scene.is_quiet()
    assert late.page.text(".answer") == "A pie."


async def test_what_streams_is_not_taken_back_when_the_turns_are_shown_anew(scene: Scene) -> None:
    first = await answered(scene, "Hello", "Hi.")
    viewer = await scene.watch(first.conversation)
    again = await db(branches.regenerate, first)
    work = await scene.work(again.task)
    await work.ask()
    work.say("Not in the rows yet.")
    await eventually(lambda: viewer.seen(".answer") == "Not in the rows yet.")
    await db(branches._tell, again)
    page = viewer.page.soup
    page.select_one(".turn")["id"] = f"turn-{first.pk}"  # type: ignore[index]  # As if it had missed the change.
    await db(branches._tell, again)
    await eventually(lambda: bool(viewer.seen(f"#turn-{again.pk}")))
    assert viewer.page.text(".answer") == "Not in the rows yet."
    await work.save()
    await scene.is_quiet(work)


# --- the time line ---------------------------------------------------------------------------------------------------


def lines(page: BeautifulSoup) -> list[str]:
    return [" ".join(line.text.split()) for line in page.select(".line-head h2")]


def test_the_time_line_has_every_step_and_what_was_decided(as_alice: Client, alice: User, demo: Agent) -> None:
    turn = worked_turn(alice, demo)
    step = turn.task.steps.get(seq=2)
    Decision.objects.create(
        task=turn.task,
        step=step,
        kind="approval",
        status="decided",
        choice="allow",
        decided_by=alice,
        note="Go on.",
        decided_at=Now(),
    )
    page = soup(as_alice.get(reverse("task", args=[turn.task_id])))
    assert lines(page) == ["Asked for Count words", "Count words", "Asked for Draw chart", "Draw chart", "Answered"]
    assert "Allowed by Alice" in page.select_one(f"#step-{turn.task_id}-2 .decided").text  # type: ignore[union-attr]
    assert "“Go on.”" in page.select_one(f"#step-{turn.task_id}-2 .decided").text  # type: ignore[union-attr]
    said = page.select_one(f"#step-{turn.task_id}-2 .decided time[data-clock]")
    # Scripts write them as the reader's clock has them; without, each says its zone.
    for time in [said, *page.select(".line-head time[data-clock]")]:
        assert time is not None
        assert re.fullmatch(r"\d+ \w{3} \d{4}, \d\d:\d\d:\d\d UTC", time.text)
    assert len(page.select(".line-head time[data-clock]")) == 5
    assert len(page.select(".checkpoint")) == 5
    assert len(page.select(".again")) == 5
    tasks_page = soup(as_alice.get(reverse("task", args=[actions.send(alice, demo, "Wait").task_id])))
    assert tasks_page.select(".again") == []


def test_a_step_is_retried_with_other_arguments_from_its_form(as_alice: Client, alice: User, demo: Agent) -> None:
    turn = worked_turn(alice, demo)
    page = soup(as_alice.get(reverse("task", args=[turn.task_id])))
    form = page.select(f"#step-{turn.task_id}-4 form.again-form")[0]
    names = [field["name"] for field in form.select("textarea, select, input:not([type=hidden])")]
    assert "argument-title" in names
    given = {"what": "arguments", "argument-kind": "pie", "argument-values": "[3, 4"}
    refused = as_alice.post(str(form["action"]), given)
    assert refused.status_code == 422
    again = soup(refused).select_one(f"#step-{turn.task_id}-4 details[open]")
    assert again is not None
    assert "Values: write JSON" in again.text
    assert again.select_one("[name=argument-values]").text == "[3, 4"  # type: ignore[union-attr]
    fine = given | {"argument-values": "[3, 4]", "argument-labels": '["a", "b"]', "argument-title": "Pie"}
    response = as_alice.post(str(form["action"]), fine)
    made = at(turn.conversation, 1)
    assert response.headers["Location"].endswith(f"#turn-{made.pk}")
    assert made.task.steps.get().arguments["values"] == [3, 4]  # type: ignore[index]
    page = soup(as_alice.get(reverse("task", args=[made.task_id])))
    assert [tag.text for tag in page.select(".line-head .tag")] == [
        *["from the earlier variant"] * 3,
        "waiting",
        "Arguments changed",
    ]
    link = page.select_one("a.tag")
    assert link is not None
    assert link["href"] == f"{reverse('task', args=[turn.task_id])}#step-{turn.task_id}-1"
    assert made.task.decisions.get().choice == "allow"


def test_a_step_is_retried_with_another_result_from_its_form(as_alice: Client, alice: User, demo: Agent) -> None:
    turn = worked_turn(alice, demo)
    url = reverse("fork", args=[turn.task_id, 2])
    as_alice.post(url, {"what": "result", "result": "Three words."})
    made = at(turn.conversation, 1)
    assert (made.task.steps.get().status, made.task.steps.get().result) == ("done", "Three words.")
    tasks.stop(made.task)
    page = soup(as_alice.get(reverse("task", args=[made.task_id])))
    assert "Result changed" in [tag.text for tag in page.select(".line-head .tag")]
    assert as_alice.post(reverse("fork", args=[turn.task_id, 77])).status_code == 404
    assert as_alice.post(url, {"what": "arguments", "arguments": "[" * 100_000}).status_code == 422
    assert as_alice.post(url, {"what": "arguments", "arguments": "[]"}).status_code == 422


def test_what_may_do_harm_says_that_it_will_run_again(as_alice: Client, alice: User, demo: Agent) -> None:
    turn = worked_turn(alice, demo)
    url = reverse("task", args=[turn.task_id])
    turn.task.steps.filter(seq=2).update(effect="read")
    turn.task.steps.filter(seq=4).update(effect="unsafe")
    page = soup(as_alice.get(url))
    assert "It will run again." not in page.select_one(f"#step-{turn.task_id}-2").text  # type: ignore[union-attr]
    assert "It will run again." in page.select_one(f"#step-{turn.task_id}-4").text  # type: ignore[union-attr]


def test_a_task_is_downloaded_whole_and_without_secrets(as_alice: Client, alice: User, demo: Agent) -> None:
    turn = worked_turn(alice, demo)
    Step.objects.filter(task=turn.task, seq=1).update(native={"secret": "sk-native"})
    Decision.objects.create(task=turn.task, step=turn.task.steps.get(seq=2), kind="approval", decided_by=alice)
    made = branches.fork(turn, 4, result="drawn by hand")
    answer(made.task, "By hand.")
    response = as_alice.get(reverse("task_json", args=[made.task_id]))
    assert response.headers["Content-Disposition"] == f'attachment; filename="task-{made.task_id}.json"'
    found = response.json()
    assert found["v"] == 1
    assert found["task"]["base"] == {"task": str(turn.task_id), "seq": 4}
    assert found["task"]["input"]["parts"][0]["text"] == "Count and draw"
    assert found["usage"]["input_tokens"] == 10
    owners = [(step["seq"], step["task"] == str(made.task_id)) for step in found["steps"]]
    assert owners == [(1, False), (2, False), (3, False), (4, True), (5, True)]
    assert found["steps"][3]["result"] == "drawn by hand"
    assert found["steps"][1]["decisions"][0]["decided_by"] == "alice"
    assert found["steps"][1]["checkpoint"]["counters"]["tool_calls"] == 1
    assert "native" not in response.content.decode()
    named = set(re.findall(r"`([a-z_0-9]+)`", Path("docs/task-json.md").read_text()))
    assert keys(found) - keys(found["task"]["input"]) - {"input"} <= named | {"input"}


def keys(value: Any) -> set[str]:
    """The names of all fields, but not of what functions were given and what was counted."""
    if isinstance(value, list):
        return set().union(*map(keys, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    free = ("arguments", "counters", "details")
    return set(value).union(*(keys(item) for name, item in value.items() if name not in free))
