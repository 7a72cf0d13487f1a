"""Messages sent while a task is at work: where they stand, what a person can do with them until it is their turn."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from io import StringIO
from itertools import pairwise
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from conversations import actions, branches, consumers
from conversations.fragments import active_task
from conversations.models import Conversation, Turn
from conversations.search import search
from conversations.sidebar import conversation_view
from executor import actions as tasks
from executor import lease
from executor.actions import NotNow
from executor.models import Agent, Status, Task, Worker
from executor.states import state_of
from tests.conversations.page import Page
from tests.conversations.test_live import PATIENCE, Scene
from tests.conversations.test_races import at_once
from tests.conversations.worker import db, hold
from tests.executor.test_worker import eventually
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

BEGUN = "It is being answered already."


@pytest.fixture
def line(alice: User, demo: Agent) -> list[Turn]:
    """Four messages; the first is being answered."""
    first = actions.send(alice, demo, "One")
    others = [actions.send(alice, demo, text, first.conversation) for text in ("Two", "Three", "Four")]
    hold(first.task)
    return [first, *others]


def shown(turn: Turn) -> list[tuple[int, str]]:
    """The conversation, in the order of its turns, each of which follows the one before and waits for its task."""
    turns = list(turn.conversation.turns.order_by("position").select_related("task"))
    for before, after in pairwise(turns):
        assert (after.parent_id, after.task.previous_id) == (before.pk, before.task_id)
    return [(turn.position, turn.text) for turn in turns]


def post(client: Client, name: str, turn: Turn, query: str = "", **headers: Any) -> Any:
    return client.post(reverse(name, args=[turn.task_id]) + query, **headers)


# --- what a person can do --------------------------------------------------------------------------------------------


def test_a_message_that_waits_is_removed_and_the_others_close_up(as_alice: Client, line: list[Turn]) -> None:
    response = post(as_alice, "take_back", line[1])
    assert response.status_code == 302
    assert shown(line[0]) == [(1, "One"), (2, "Three"), (3, "Four")]
    assert not Task.objects.filter(pk=line[1].task_id).exists()


def test_a_message_that_is_edited_is_in_the_composer_of_the_next_page_also_without_javascript(
    as_alice: Client, line: list[Turn]
) -> None:
    response = as_alice.post(reverse("take_back", args=[line[3].task_id]) + "?edit", follow=True)
    assert ">Four</textarea>" in response.content.decode()
    assert shown(line[0]) == [(1, "One"), (2, "Two"), (3, "Three")]
    assert ">Four</textarea>" not in as_alice.get(line[0].conversation.get_absolute_url()).content.decode()


def test_a_message_that_goes_first_moves_in_front_of_the_others(as_alice: Client, line: list[Turn]) -> None:
    assert post(as_alice, "send_now", line[2]).status_code == 302
    assert shown(line[0]) == [(1, "One"), (2, "Three"), (3, "Two"), (4, "Four")]
    line[2].task.refresh_from_db()
    assert line[2].task.steers
    assert post(as_alice, "send_now", line[3]).status_code == 302
    assert shown(line[0]) == [(1, "One"), (2, "Three"), (3, "Four"), (4, "Two")]


@pytest.mark.parametrize("name", ["take_back", "send_now"])
def test_who_comes_too_late_is_told_in_a_sentence(as_alice: Client, line: list[Turn], name: str) -> None:
    response = post(as_alice, name, line[0], headers={"HX-Request": "true"})
    assert (response.status_code, BEGUN in response.content.decode()) == (409, True)
    page = as_alice.post(reverse(name, args=[line[0].task_id]), follow=True).content.decode()
    assert BEGUN in page
    assert len(shown(line[0])) == 4


def test_a_message_that_went_into_the_task_at_work_is_no_turn_any_more_and_can_be_found(
    alice: User, as_alice: Client, line: list[Turn]
) -> None:
    first = line[0].task
    Task.objects.filter(pk=first.pk).update(lease_until=Now() - timedelta(seconds=1))
    journal = hold(first)
    assert actions.send_now(line[2])
    assert journal.take_in() is not None
    assert shown(line[0]) == [(1, "One"), (2, "Two"), (3, "Four")]
    assert [found.url for found in search(alice, "Three")] == [line[0].conversation.get_absolute_url()]
    page = as_alice.get(line[0].conversation.get_absolute_url()).content.decode()
    assert page.count("You, meanwhile:") == 2  # Among the steps, and for whoever folds those.


def test_a_removal_and_a_new_message_at_once_leave_one_line(alice: User, demo: Agent, line: list[Turn]) -> None:
    for text in "abcd":
        last = line[0].conversation.turns.order_by("-position")[0]
        at_once(
            partial(actions.take_back, last),
            partial(actions.send, alice, demo, text, line[0].conversation),
            partial(actions.send_now, line[2]),
        )
        assert [position for position, _ in shown(line[0])] == [1, 2, 3, 4]


def test_the_message_goes_in_or_is_removed_while_others_are_sent(alice: User, demo: Agent, line: list[Turn]) -> None:
    Task.objects.filter(pk=line[0].task_id).update(lease_until=Now() - timedelta(seconds=1))
    journal = hold(line[0].task)
    assert actions.send_now(line[1])
    at_once(
        journal.take_in,
        lambda: actions.take_back(line[1]),
        lambda: actions.send(alice, demo, "Five", line[0].conversation),
        lambda: actions.send_now(line[3]),
    )
    texts = [text for _, text in shown(line[0])]
    assert "Two" not in texts
    assert {"One", "Three", "Five"} <= set(texts)
    told = list(line[0].task.steps.filter(kind="message").values_list("text", flat=True))
    assert sorted([*texts[1:], *told]) in (
        ["Five", "Four", "Three", "Two"],
        ["Five", "Four", "Three"],
    )


def test_stop_is_for_the_task_at_work_however_the_line_was_changed(line: list[Turn]) -> None:
    actions.send_now(line[3])
    line[0].task.refresh_from_db()
    tasks.stop(line[0].task)
    Task.objects.filter(pk=line[0].task_id).update(status=Status.STOPPED)
    hold(line[3].task)
    at_work = active_task(line[0].conversation_id)
    assert at_work is not None
    assert at_work.pk == line[3].task_id


def test_the_task_that_waits_for_a_person_is_stopped_and_the_line_goes_on(line: list[Turn]) -> None:
    Task.objects.filter(pk=line[0].task_id).update(status=Status.WAITING, owner="", lease_until=None)
    line[0].task.refresh_from_db()
    assert tasks.stop(line[0].task)
    assert hold(line[1].task)


# --- tried again -----------------------------------------------------------------------------------------------------


def claimable(*turns: Turn) -> list[str]:
    """Those that a worker could begin."""
    return [turn.text for turn in turns if Task.objects.filter(lease.claimable(), pk=turn.task_id).exists()]


def end(turn: Turn, status: Status = Status.DONE) -> None:
    Task.objects.filter(pk=turn.task_id).update(status=status, owner="", lease_until=None)


def again(turn: Turn) -> bool:
    """Whoever asks for it: the rules are those of the task."""
    return tasks.retry(Task.objects.get(pk=turn.task_id))


def stop_in_line(*turns: Turn) -> None:
    for turn in turns:
        turn.task.refresh_from_db()
        assert tasks.stop(turn.task)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_what_was_stopped_in_the_line_takes_its_place_again(line: list[Turn], order: tuple[int, ...]) -> None:
    stop_in_line(line[1], line[2])
    for at in order:
        assert again(line[at])
    shown(line[0])
    for done, following in pairwise(line):
        end(done)
        assert claimable(*line) == [following.text]


def test_nothing_is_tried_again_while_what_was_said_after_it_is_answered(
    alice: User, demo: Agent, as_alice: Client, line: list[Turn]
) -> None:
    stop_in_line(line[1])
    end(line[0], Status.FAILED)
    hold(line[2].task)
    for turn in line[:2]:
        response = post(as_alice, "retry", turn, headers={"HX-Request": "true"})
        assert response.status_code == 409
        assert "What was said after it is being answered" in response.content.decode()
    end(line[2])
    assert claimable(*line) == ["Four"]
    with pytest.raises(NotNow):  # It is about to begin.
        again(line[1])
    assert claimable(*line) == ["Four"]


def test_nothing_is_said_beside_what_is_answered_once_more_further_up(as_alice: Client, line: list[Turn]) -> None:
    stop_in_line(*line[1:])
    end(line[0], Status.FAILED)
    assert again(line[3])
    end(line[3])
    assert again(line[1])
    url = reverse("send", args=[line[0].conversation_id])
    for headers in ({}, {"HX-Request": "true"}):
        response = as_alice.post(url, {"text": "Five, please"}, headers=headers)
        assert response.status_code == 422
        assert "Something further up is being answered once more" in response.content.decode()
    assert "Five, please" in as_alice.post(url, {"text": "Five, please"}).content.decode()
    with pytest.raises(CommandError, match="further up"):
        call_command("ask", "Five", user="alice", conversation=str(line[0].conversation_id), stderr=StringIO())
    end(line[1])
    assert as_alice.post(url, {"text": "Five, please"}).status_code == 302
    assert claimable(*Turn.objects.filter(text__startswith="Five")) == ["Five, please"]


@pytest.mark.parametrize(
    ("stopped", "order"), [(1, ["One", "Two", "Five", "Three", "Four"]), (2, ["One", "Five", "Two", "Three", "Four"])]
)
def test_a_message_that_goes_first_leaves_one_path_also_around_what_was_stopped_in_the_line(
    alice: User, demo: Agent, line: list[Turn], stopped: int, order: list[str]
) -> None:
    last = actions.send(alice, demo, "Five", line[0].conversation)
    stop_in_line(line[stopped])
    assert actions.send_now(last)
    turns = list(last.conversation.turns.order_by("position"))
    assert [(turn.position, turn.text) for turn in turns] == list(enumerate(order, 1))
    assert [turn.parent for turn in turns] == [None, *turns[:-1]]
    assert branches.variants(turns) == {}


# --- where it stands -------------------------------------------------------------------------------------------------


def labels(*turns: Turn) -> list[str]:
    return [state_of(Task.objects.get(pk=turn.task_id)).label for turn in turns]


def at_work(turn: Turn, status: Status) -> None:
    Task.objects.filter(pk=turn.task_id).update(status=status)


def a_worker(seconds_ago: float = 0) -> None:
    Worker.objects.update_or_create(
        owner="w", defaults={"host": "h", "pid": 1, "beat_at": Now() - timedelta(seconds=seconds_ago)}
    )


def test_each_message_says_where_it_stands(as_alice: Client, line: list[Turn]) -> None:
    assert labels(*line) == ["Working", "Queued · 1st in line", "Queued · 2nd in line", "Queued · 3rd in line"]
    actions.send_now(line[3])
    assert labels(*line[1:]) == ["Queued · 2nd in line", "Queued · 3rd in line", "Goes in at the next step"]
    at_work(line[0], Status.WAITING)
    assert labels(line[3]) == ["Goes in when you have answered above"]
    assert actions.take_back(line[3])
    assert labels(*line[:3]) == ["Waiting for you", "Waits for your answer above", "Queued · 2nd in line"]
    page = as_alice.get(line[0].conversation.get_absolute_url()).content.decode()
    assert "Waits for your answer above" in page
    assert page.count(">Remove</button>") == 2


def test_who_waits_for_a_worker_is_told_so(as_alice: Client, alice: User, demo: Agent) -> None:
    turn = actions.send(alice, demo, "Hello")
    assert labels(turn) == ["Queued"]
    Task.objects.filter(pk=turn.task_id).update(created_at=Now() - timedelta(seconds=6))
    assert labels(turn) == ["Queued · no worker is running"]
    a_worker(30)
    assert labels(turn) == ["Queued · no worker is running"]
    a_worker()
    assert labels(turn) == ["Queued · no worker is free"]
    assert "Queued · no worker is free" in as_alice.get(turn.conversation.get_absolute_url()).content.decode()


def test_what_nobody_works_on_any_more_is_resuming_and_nothing_turns(as_alice: Client, line: list[Turn]) -> None:
    def beats() -> bool:
        page = Page(as_alice.get(line[0].conversation.get_absolute_url()).content.decode())
        return page.soup.select_one(".turn .beat:not(.still)") is not None

    assert beats()
    Task.objects.filter(pk=line[0].task_id).update(lease_until=Now() - timedelta(seconds=1))
    assert labels(line[0]) == ["Resuming · no worker is running"]
    a_worker()
    assert labels(line[0]) == ["Resuming"]
    assert not beats()


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (Status.RUNNING, "working"),
        (Status.STOPPING, "working"),
        (Status.WAITING, "waiting"),
        (Status.RETRYING, "retrying"),
        (Status.DONE, "queued"),
    ],
)
def test_the_sidebar_tells_of_the_task_at_work_not_of_those_behind_it(
    line: list[Turn], status: Status, state: str
) -> None:
    at_work(line[0], status)
    view = conversation_view(line[0].conversation_id)
    assert view is not None
    assert view.state == state


def test_the_sidebar_does_not_turn_for_a_task_that_lost_its_worker(line: list[Turn]) -> None:
    Task.objects.filter(pk=line[0].task_id).update(lease_until=Now() - timedelta(seconds=1))
    view = conversation_view(line[0].conversation_id)
    assert view is not None
    assert view.state == "resuming"


def test_admin_lists_where_tasks_stand(dora: User, line: list[Turn]) -> None:
    client = Client()
    client.force_login(dora)
    page = client.get(reverse("admin:executor_task_changelist")).content.decode()
    assert "Queued · 2nd in line" in page


def ask(text: str, conversation: Conversation, **options: Any) -> tuple[str, str, CommandError]:
    """Standard output and error of `manage.py ask`, and how it ends: nobody answers it here."""
    out, told = StringIO(), StringIO()
    with pytest.raises(CommandError) as raised:
        call_command(
            *("ask", text, "--user", "alice", "--conversation", str(conversation.pk)),
            stdout=out,
            stderr=told,
            timeout=1.5,
            **options,
        )
    return out.getvalue(), told.getvalue(), raised.value


def test_ask_says_where_its_message_stands(line: list[Turn]) -> None:
    _, told, error = ask("Five", line[0].conversation)
    assert "Queued · 4th in line." in told
    assert "Queued · 4th in line. It waits for the message before it" in str(error)
    document = json.loads(ask("Six", line[0].conversation, json=True)[0])
    assert (document["status"], document["state"]) == ("queued", "Queued · 5th in line")


def test_ask_says_that_its_message_was_taken_back_elsewhere(line: list[Turn]) -> None:
    def take_back() -> None:
        eventually(lambda: Turn.objects.filter(text="Five").exists())
        actions.take_back(Turn.objects.get(text="Five"))
        connections.close_all()

    elsewhere = threading.Thread(target=take_back)
    elsewhere.start()
    _, _, error = ask("Five", line[0].conversation)
    elsewhere.join()
    assert "This message was taken back, or went into the answer before it" in str(error)


# --- on pages that are open ------------------------------------------------------------------------------------------


@pytest.fixture
async def scene(transactional_db: None, live: None, alice: User, demo: Agent) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        scene = Scene(alice, demo, stack)
        await db(scene.client.force_login, alice)
        yield scene


async def sent(scene: Scene) -> list[Turn]:
    first = await scene.send("One")
    return [first, *[await scene.send(text, first.conversation) for text in ("Two", "Three", "Four")]]


async def test_every_page_shows_the_line_as_it_changes(scene: Scene) -> None:
    line = await sent(scene)
    one, two = await scene.watch(line[0].conversation), await scene.watch(line[0].conversation)
    work = await scene.work(line[0].task)
    await work.ask()
    work.say("First.\n\nSec")
    await scene.is_quiet(work)
    assert one.page.text(f"#foot-{line[2].task_id} .state") == "Queued · 2nd in line"
    await db(actions.take_back, line[1])
    await scene.is_quiet(work)
    assert one.page.text(f"#foot-{line[2].task_id} .state") == "Queued · 1st in line"
    await db(actions.send_now, line[3])
    await scene.is_quiet(work)
    for viewer in (one, two):
        assert [turn["id"] for turn in viewer.page.soup.select(".turn")] == [f"turn-{line[at].pk}" for at in (0, 3, 2)]
    await work.finish()
    await work.end()
    await scene.is_quiet()
    assert two.page.text(f"#foot-{line[2].task_id} .state") == "Queued · 1st in line"


async def test_a_page_that_was_not_told_of_the_line_finds_out_by_itself(scene: Scene) -> None:
    line = await sent(scene)

    def go_first() -> None:
        with transaction.atomic():
            assert actions.send_now(line[2])
            assert actions.send_now(line[3])
            connection.run_on_commit.clear()  # Nobody hears of it.

    viewer = await scene.watch(line[0].conversation)
    await scene.work(line[0].task)
    await scene.is_quiet()
    await db(go_first)
    await scene.is_quiet(patience=PATIENCE + 8)  # The hub looks at the rows by itself.
    ids = [turn["id"] for turn in viewer.page.soup.select(".turn")]
    assert ids == [f"turn-{line[at].pk}" for at in (0, 2, 3, 1)]


async def test_every_page_shows_a_message_move_into_the_task_at_work(scene: Scene) -> None:
    line = await sent(scene)
    viewer = await scene.watch(line[0].conversation)
    work = await scene.work(line[0].task)
    await db(actions.send_now, line[1])
    await scene.is_quiet()
    seq = await db(work.journal.take_in)
    assert seq is not None
    work.seq = seq
    work.stream.open_step(seq)
    work.say("Both.")
    await scene.is_quiet(work)
    assert viewer.page.soup.select_one(f"#turn-{line[1].pk}") is None
    assert viewer.page.text(f"#steps-{line[0].task_id} .step") == "You, meanwhile: Two"
    await work.finish()
    await work.end()
    await scene.is_quiet()
    assert viewer.page.text(f"#meanwhile-{line[0].task_id}") == "You, meanwhile: Two"


async def test_a_page_that_comes_back_does_not_show_what_is_gone(scene: Scene) -> None:
    line = await sent(scene)
    viewer = await scene.watch(line[0].conversation)
    await viewer.disconnect()
    await db(actions.take_back, line[1])
    await db(actions.send_now, line[3])
    await viewer.connect()
    await scene.is_quiet()
    assert len(viewer.page.soup.select(".turn")) == 3


def test_a_page_that_connects_asks_for_its_turns_once(
    alice: User, line: list[Turn], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    moment, conversation = timezone.now(), line[0].conversation_id
    with django_assert_num_queries(3):  # The sidebar's state, the turns, and what Stop would stop.
        turns, _ = consumers._news_since(alice, conversation, moment + timedelta(seconds=60))
    assert turns == line
    actions.send_now(line[3])
    _, pieces = consumers._news_since(alice, conversation, moment + timedelta(seconds=60))
    assert f"#turn-{line[3].pk}" in pieces[-1]


async def test_a_page_stops_beating_when_the_worker_is_gone_without_a_reload(scene: Scene) -> None:
    turn = await scene.send("One")
    viewer = await scene.watch(turn.conversation)
    await scene.work(turn.task)
    await scene.is_quiet()
    assert viewer.page.soup.select_one(".turn .beat:not(.still)") is not None
    await db(Task.objects.filter(pk=turn.task_id).update, lease_until=Now() - timedelta(seconds=1))
    await scene.is_quiet(patience=PATIENCE + 8)  # The hub looks at the rows by itself.
    assert viewer.page.text(".state").startswith("Resuming")
    assert viewer.page.soup.select_one(".turn .beat:not(.still)") is None
