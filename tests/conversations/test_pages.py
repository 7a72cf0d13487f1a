"""The pages and what can be done on them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from bs4 import BeautifulSoup
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from conversations import actions
from conversations.models import Conversation, Turn
from executor.advice import YOUR_KEY
from executor.core.errors import LimitReached, TaskExecutionError
from executor.core.events import Finished, ToolFinished
from executor.core.limits import Spent
from executor.core.messages import ToolCall, ToolResult, message_to_json
from executor.core.messages import user as user_message
from executor.models import Agent, Status, Task
from tests.conversations.worker import answer, fail, hold, message
from tools.core.context import NewFile
from tools.models import Resource
from tools.resources import store
from users.models import User

HTMX: Any = {"HTTP_HX_REQUEST": "true"}


def soup(response: Any) -> BeautifulSoup:
    """What was answered, as a tree. (A tree stays one.)"""
    return response if isinstance(response, BeautifulSoup) else BeautifulSoup(response.content.decode(), "html.parser")


def words(response: Any, selector: str) -> str:
    element = soup(response).select_one(selector)
    return " ".join(element.get_text(" ").split()) if element else ""


# --- sending ---------------------------------------------------------------------------------------------------------


def test_the_first_message_makes_a_conversation_and_leads_there(as_alice: Client, demo: Agent) -> None:
    response = as_alice.post(reverse("send_new"), {"text": "How many words has this sentence?"})
    turn = Turn.objects.get()
    assert response.status_code == 302
    assert response.headers["Location"] == turn.conversation.get_absolute_url()
    assert turn.conversation.title == "How many words has this sentence?"
    assert turn.task.status == Status.QUEUED


def test_the_next_message_goes_on_from_the_one_before(as_alice: Client, turn: Turn) -> None:
    url = reverse("send", args=[turn.conversation_id])
    response = as_alice.post(url, {"text": "And now?"}, **HTMX)
    second = Turn.objects.exclude(pk=turn.pk).get()
    assert (second.parent, second.task.previous, second.position) == (turn, turn.task, 2)
    (partial, error) = soup(response).select("hx-partial")
    assert partial["hx-target"] == f"#turns:not(:has(#turn-{second.pk}))"
    assert (error["hx-target"], error.text.strip()) == ("#composer-error", "")


def test_without_scripts_sending_leads_back_to_the_conversation(as_alice: Client, turn: Turn) -> None:
    response = as_alice.post(reverse("send", args=[turn.conversation_id]), {"text": "And now?"})
    assert (response.status_code, response.headers["Location"]) == (302, turn.conversation.get_absolute_url())


def test_sent_twice_with_one_key_it_is_one_message(as_alice: Client, turn: Turn) -> None:
    url, key = reverse("send", args=[turn.conversation_id]), str(uuid4())
    first, again = (as_alice.post(url, {"text": "Once", "key": key}, **HTMX) for _ in range(2))
    assert Turn.objects.filter(text="Once").count() == 1
    assert first.content == again.content
    new = [as_alice.post(reverse("send_new"), {"text": "New", "key": "k2"}).headers["Location"] for _ in range(2)]
    assert new[0] == new[1]
    assert Conversation.objects.count() == 2


def test_the_key_of_somebody_else_is_nobody_elses(as_alice: Client, as_bob: Client, demo: Agent) -> None:
    for client in (as_alice, as_bob):
        client.post(reverse("send_new"), {"text": "Mine", "key": "same"})
    assert Turn.objects.filter(text="Mine").count() == 2


def test_a_key_cannot_bring_a_message_of_another_conversation_here(as_alice: Client, turn: Turn) -> None:
    as_alice.post(reverse("send_new"), {"text": "There", "key": "k"})
    response = as_alice.post(reverse("send", args=[turn.conversation_id]), {"text": "Here", "key": "k"})
    assert response.status_code == 302
    assert turn.conversation.turns.count() == 1


TOO_MUCH = [
    ("", "Write something first."),
    (" \n\t ", "Write something first."),
    ("a" * 200_001, "A message has at most 200,000 characters. Send this in parts."),
    ("a\x00b", "It contains characters that are not text. Remove them and send it again."),
    ("a" * 10_000_000, "A message has at most 200,000 characters. Send this in parts."),
]
NAMES = ["empty", "blank", "long", "NUL", "10 MB"]


@pytest.mark.parametrize(("text", "sentence"), TOO_MUCH, ids=NAMES)
def test_what_cannot_be_sent_is_refused_with_a_sentence(as_alice: Client, turn: Turn, text: str, sentence: str) -> None:
    url = reverse("send", args=[turn.conversation_id])
    response = as_alice.post(url, {"text": text}, **HTMX)
    assert response.status_code == 422
    assert words(response, "hx-partial[hx-target='#composer-error']") == sentence
    assert Turn.objects.count() == 1


@pytest.mark.parametrize(("text", "sentence"), TOO_MUCH, ids=NAMES)
def test_without_scripts_a_refused_message_stands_in_the_composer_again(
    as_alice: Client, turn: Turn, text: str, sentence: str
) -> None:
    for url in (reverse("send", args=[turn.conversation_id]), reverse("send_new")):
        response = as_alice.post(url, {"text": text})
        assert response.status_code == 422
        assert words(response, "#composer-error") == sentence
        (field,) = soup(response).select("#composer textarea")
        assert field.text.strip() == text.replace("\x00", "\ufffd").strip()


def test_half_characters_are_replaced(as_alice: Client, demo: Agent) -> None:
    response = as_alice.post(reverse("send_new"), b"text=a%ED%A0%80b", content_type="application/x-www-form-urlencoded")
    assert response.status_code == 302
    assert Turn.objects.get().text.startswith("a")


def test_what_was_sent_is_kept_as_it_was(as_alice: Client, demo: Agent) -> None:
    as_alice.post(reverse("send_new"), {"text": "  <b>two</b>\r\n\r\n  lines & more  "})
    turn = Turn.objects.get()
    assert turn.text == "  <b>two</b>\n\n  lines & more  "
    page = as_alice.get(turn.conversation.get_absolute_url())
    assert "&lt;b&gt;two&lt;/b&gt;" in page.content.decode()


def test_an_agent_that_is_gone_is_refused_and_the_text_kept(as_alice: Client, demo: Agent) -> None:
    demo.enabled = False
    demo.save()
    Agent.objects.create(name="other", title="Other", provider="demo")
    for name in ("demo", "no such!", "x" * 5000):
        response = as_alice.post(reverse("send_new"), {"text": "Hello", "agent": name})
        assert response.status_code == 422
        assert words(response, "#composer-error") == "This agent is not available any more. Choose another one."
        assert words(response, "textarea") == "Hello"


def test_without_any_agent_the_page_says_so(as_alice: Client) -> None:
    assert "No agent yet" in words(as_alice.get(reverse("home")), "main")
    assert as_alice.post(reverse("send_new"), {"text": "Hello"}).status_code == 422


def test_a_key_that_is_too_long_is_refused_in_words(as_alice: Client, demo: Agent) -> None:
    response = as_alice.post(reverse("send_new"), {"text": "Hello", "key": "k" * 65})
    assert response.status_code in (302, 422)
    assert Turn.objects.count() <= 1


# --- a conversation --------------------------------------------------------------------------------------------------


def test_a_conversation_shows_what_was_said_and_answered(as_alice: Client, turn: Turn) -> None:
    page = as_alice.get(turn.conversation.get_absolute_url())
    assert words(page, ".bubble") == "Hello"
    assert words(page, ".answer") == "Good morning ."
    assert "<em>morning</em>" in page.content.decode()


def test_opening_a_conversation_reads_its_news(as_alice: Client, turn: Turn) -> None:
    assert soup(as_alice.get(reverse("home"))).select_one(".conversation[data-unread]") is not None
    as_alice.get(turn.conversation.get_absolute_url())
    assert soup(as_alice.get(reverse("home"))).select_one(".conversation[data-unread]") is None


def test_renaming_says_the_new_name_everywhere(as_alice: Client, turn: Turn) -> None:
    url = reverse("rename", args=[turn.conversation_id])
    response = as_alice.post(url, {"title": "  A   <new> name "}, **HTMX)
    targets = {partial["hx-target"]: partial.get_text(" ", strip=True) for partial in soup(response)("hx-partial")}
    assert targets[f"main[data-conversation='{turn.conversation_id}'] #title"] == "A <new> name"
    assert "A <new> name" in targets["#conversations"]


@pytest.mark.parametrize("title", ["", "   ", "x" * 121, "a\x00b"])
def test_a_name_that_will_not_do_is_refused_in_words(as_alice: Client, turn: Turn, title: str) -> None:
    url = reverse("rename", args=[turn.conversation_id])
    response = as_alice.post(url, {"title": title}, **HTMX)
    assert response.status_code == 422
    assert words(response, ".toast span") != ""
    assert Conversation.objects.get().title == "Hello"
    assert as_alice.post(url, {"title": title}).status_code == 302


def test_pinning_puts_it_first_and_again_puts_it_back(as_alice: Client, turn: Turn) -> None:
    url = reverse("pin", args=[turn.conversation_id])
    assert "Pinned" in words(as_alice.post(url, **HTMX), "#conversations")
    assert "Pinned" not in words(as_alice.post(url, **HTMX), "#conversations")


@pytest.mark.parametrize(
    ("status", "mark"),
    [
        (Status.RUNNING, "working"),
        (Status.RETRYING, "retrying later"),
        (Status.WAITING, "waiting for you"),
        (Status.FAILED, "failed"),
    ],
)
def test_the_sidebar_says_how_a_conversation_stands_and_turns_only_where_somebody_works(
    as_alice: Client, alice: User, demo: Agent, status: Status, mark: str
) -> None:
    turn = actions.send(alice, demo, "Hello")
    Task.objects.filter(pk=turn.task_id).update(status=status)
    page = soup(as_alice.get(turn.conversation.get_absolute_url()))
    shown = page.select_one(f"#conversation-{turn.conversation_id} .mark")
    assert shown is not None
    assert shown.text == mark
    assert ("spinner" in shown["class"]) == (status == Status.RUNNING)


def test_what_is_deleted_can_be_had_back(as_alice: Client, turn: Turn) -> None:
    path = turn.conversation.get_absolute_url()
    response = as_alice.post(reverse("delete", args=[turn.conversation_id]), **HTMX)
    undo = soup(response).select_one(".toast [hx-post]")
    assert undo is not None
    assert "Hello" not in words(response, "#conversations")
    assert as_alice.get(path).status_code == 404
    response = as_alice.post(str(undo["hx-post"]), **HTMX)
    assert "Hello" in words(response, "#conversations")
    assert as_alice.get(path).status_code == 200


def test_deleting_the_page_one_is_on_leads_home_with_a_way_back(as_alice: Client, turn: Turn) -> None:
    here = f"http://testserver{turn.conversation.get_absolute_url()}"
    response = as_alice.post(reverse("delete", args=[turn.conversation_id]), **HTMX, HTTP_HX_CURRENT_URL=here)
    assert response.headers["HX-Redirect"] == reverse("home")
    home = soup(as_alice.get(reverse("home")))
    assert home.select_one(f".toast [hx-post='{reverse('restore', args=[turn.conversation_id])}']") is not None
    assert soup(as_alice.get(reverse("home"))).select_one(".toast") is None


def test_without_scripts_deleting_and_restoring_lead_somewhere(as_alice: Client, turn: Turn) -> None:
    assert as_alice.post(reverse("delete", args=[turn.conversation_id])).headers["Location"] == reverse("home")
    response = as_alice.post(reverse("restore", args=[turn.conversation_id]))
    assert response.headers["Location"] == turn.conversation.get_absolute_url()


@pytest.fixture
def long_conversation(alice: User, demo: Agent) -> Conversation:
    """2,000 turns, each with an answer."""
    conversation = Conversation.objects.create(user=alice, agent=demo, title="Long", active_at="2026-01-01T00:00Z")
    version, said = demo.current_version(), message_to_json(user_message("Hello"))
    tasks = Task.objects.bulk_create(
        Task(user=alice, agent_version=version, input=said, status=Status.DONE) for _ in range(2000)
    )
    Turn.objects.bulk_create(
        Turn(conversation=conversation, task=task, position=position, text=f"Turn {position}.")
        for position, task in enumerate(tasks, start=1)
    )
    return conversation


def test_two_thousand_turns_cost_what_twenty_one_cost(
    as_alice: Client,
    long_conversation: Conversation,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    as_alice.get(long_conversation.get_absolute_url())
    with django_assert_max_num_queries(15):
        page = as_alice.get(long_conversation.get_absolute_url())
    assert [bubble.text for bubble in soup(page).select(".bubble")] == [f"Turn {n}." for n in range(1981, 2001)]
    assert len(page.content) < 200_000
    seen = 20
    older = soup(page).select_one("#older a")
    while older is not None and seen < 100:
        with django_assert_max_num_queries(10):
            piece = as_alice.get(str(older["hx-get"]), **HTMX)
        seen += len(soup(piece).select(".bubble"))
        older = soup(piece).select_one("#older a")
    assert seen == 100
    first = long_conversation.turns.get(position=3)
    piece = as_alice.get(reverse("older", args=[long_conversation.pk, first.pk]), **HTMX)
    assert [bubble.text for bubble in soup(piece).select(".bubble")] == ["Turn 1.", "Turn 2."]
    assert soup(piece).select_one("#older") is None


def test_a_hundred_conversations_in_the_sidebar_cost_what_one_costs(
    as_alice: Client, alice: User, demo: Agent, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    def queries() -> int:
        with django_assert_max_num_queries(100) as captured:
            as_alice.get(reverse("home"))
        return len(captured.captured_queries)

    actions.send(alice, demo, "One")
    queries()
    before = queries()
    for n in range(30):
        actions.send(alice, demo, f"Conversation {n}")
    assert queries() == before


def test_without_scripts_older_turns_are_a_page_of_their_own(as_alice: Client, turn: Turn) -> None:
    page = as_alice.get(reverse("older", args=[turn.conversation_id, turn.pk]))
    assert page.status_code == 200
    assert soup(page).select_one("#composer") is not None


# --- a task ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def worked(turn: Turn) -> Turn:
    """A turn whose task called a function that made a file, and failed once."""
    turn = actions.send(turn.conversation.user, turn.conversation.agent, "Draw", turn.conversation)  # type: ignore[arg-type]
    journal = hold(turn.task)
    good, bad = ToolCall("c1", "draw_chart", {"kind": "bar"}), ToolCall("c2", "count_words", {"text": "<b>"})
    seq = journal.begin_model()
    journal.finish_model(seq, Finished(message("I draw.", good, bad), "tool_calls"), Spent(), {}, 1)
    journal.start_tools([good, bad])
    chart = NewFile("chart.png", b"\x89PNG", "image/png", "A chart")
    journal.finish_tool(ToolFinished(good, ToolResult("c1", "draw_chart", "drawn"), (chart,)), Spent())
    failed = ToolResult("c2", "count_words", "<script>no</script>", is_error=True)
    journal.finish_tool(ToolFinished(bad, failed, (), "failed"), Spent())
    seq = journal.begin_model()
    journal.finish_model(seq, Finished(message("*Done*."), "stop"), Spent(), {}, 1)
    journal.end(Status.DONE)
    return turn


def test_a_finished_task_is_folded_and_its_steps_load_when_asked_for(as_alice: Client, worked: Turn) -> None:
    page = soup(as_alice.get(worked.conversation.get_absolute_url()))
    work = page.select_one(f"#work-{worked.task_id}")
    assert work is not None
    assert "1 failed" in work.text
    assert work.select(".step") == []
    steps = soup(as_alice.get(str(work["hx-get"]), **HTMX))
    assert [step["data-status"] for step in steps.select(".step")] == ["done", "done", "failed"]
    assert [title.text for title in steps.select(".step-title")] == ["Draw chart", "Count words"]
    assert words(steps, ".step-said") == "I draw."
    assert "&lt;script&gt;no&lt;/script&gt;" in str(steps)
    assert as_alice.get(str(work["hx-get"])).headers["Location"] == reverse("task", args=[worked.task_id])


def test_a_step_says_that_its_result_was_kept_and_since_when(as_alice: Client, worked: Turn) -> None:
    made_at = datetime(2026, 3, 1, 9, 30, 5, tzinfo=UTC)
    worked.task.steps.filter(call_id="c1").update(response_id=made_at.isoformat())
    step = f"#step-{worked.task_id}-2"
    steps = soup(as_alice.get(reverse("task_steps", args=[worked.task_id]), **HTMX))
    assert words(steps, f"{step} .step-time") == "from cache"
    assert "an earlier call with the same arguments gave this result at 1 Mar 2026, " in words(steps, f"{step} .hint")
    assert "from cache" in words(soup(as_alice.get(reverse("task", args=[worked.task_id]))), f"{step} .meta")
    document = as_alice.get(reverse("task_json", args=[worked.task_id])).json()
    assert [step.get("made_at") for step in document["steps"]] == [None, made_at.isoformat(), None, None]
    assert "from cache" not in words(steps, f"#step-{worked.task_id}-3 .step-time")


@pytest.mark.parametrize(
    ("reason", "note"),
    [
        ("stop", ""),
        ("length", "reached the model's length limit"),
        ("context_window", "as long as the model can read"),
        ("content_filter", "content filter stopped it"),
        ("pause", "Send “continue”"),
    ],
)
def test_an_answer_that_was_cut_short_says_why(
    as_alice: Client, alice: User, demo: Agent, reason: Any, note: str
) -> None:
    turn = actions.send(alice, demo, "Tell me a story.")
    journal = hold(turn.task)
    seq = journal.begin_model()
    journal.finish_model(seq, Finished(message("Once upon"), reason), Spent(), {}, 1)
    journal.end(Status.DONE)
    found = soup(as_alice.get(turn.conversation.get_absolute_url())).select_one(".stop-note")
    if note:
        assert found is not None
        assert note in found.text
    else:
        assert found is None


@pytest.mark.parametrize(
    ("reason", "error", "note"),
    [
        ("person", "", "Stopped by you."),
        ("administrator", "", "Stopped by an administrator."),
        ("expired", "", "Nobody answered in time, so it was stopped. Send a message to go on."),
        ("iterations", "It reached its limit.", "It reached its limit. Send “continue” to let it go on."),
        ("cost", "It reached its limit.", "It reached its limit. Send “continue” to let it go on."),
        ("day_tokens", "So many.", "So many. Send “continue” tomorrow to let it go on."),
        ("loop", "It went in circles.", "It went in circles. Stopped, because that leads nowhere. Say what"),
    ],
)
def test_a_task_that_was_stopped_says_why(
    as_alice: Client, alice: User, demo: Agent, reason: str, error: str, note: str
) -> None:
    turn = actions.send(alice, demo, "Go.")
    hold(turn.task).end(Status.STOPPED, error=LimitReached(reason, error) if error else None, stop_reason=reason)
    found = soup(as_alice.get(turn.conversation.get_absolute_url())).select_one(".stop-note")
    assert found is not None
    assert found.text.startswith(note)


def test_the_page_of_a_task_tells_every_step(as_alice: Client, worked: Turn) -> None:
    page = soup(as_alice.get(reverse("task", args=[worked.task_id])))
    statuses = [(step["data-status"], step.h2.text) for step in page.select(".line-step") if step.h2]
    assert statuses == [("done", "Said"), ("done", "Draw chart"), ("failed", "Count words"), ("done", "Answered")]
    assert page.select_one(".file-image") is not None
    assert page.select_one("script:not([src])") is None


def test_the_answer_is_there_as_it_was_written(as_alice: Client, worked: Turn) -> None:
    response = as_alice.get(reverse("answer", args=[worked.task_id]))
    assert response.content == b"*Done*."
    assert response.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_stop_ends_what_waits_and_asks_what_runs(as_alice: Client, alice: User, demo: Agent) -> None:
    waiting, running = actions.send(alice, demo, "One"), actions.send(alice, demo, "Two")
    hold(running.task)
    response = as_alice.post(reverse("stop", args=[waiting.task_id]), **HTMX)
    assert "Stopped by you." in words(response, ".task")
    response = as_alice.post(reverse("stop", args=[running.task_id]), **HTMX)
    assert words(response, ".foot .state") == "Stopping"
    assert as_alice.post(reverse("stop", args=[running.task_id])).status_code == 302
    statuses = [Task.objects.get(pk=turn.task_id).status for turn in (waiting, running)]
    assert statuses == [Status.STOPPED, Status.STOPPING]


def test_retry_goes_on_with_what_failed_and_leaves_alone_what_did_not(
    as_alice: Client, turn: Turn, alice: User, demo: Agent
) -> None:
    failed = actions.send(alice, demo, "Fail")
    fail(failed.task, "It broke.")
    page = as_alice.get(failed.conversation.get_absolute_url())
    assert words(page, ".failure-reason") == "It broke."
    response = as_alice.post(reverse("retry", args=[failed.task_id]), **HTMX)
    assert soup(response).select_one(".task[data-active]") is not None
    assert as_alice.post(reverse("retry", args=[turn.task_id]), **HTMX).status_code == 200
    assert Task.objects.get(pk=turn.task_id).status == Status.DONE


@pytest.mark.parametrize(
    ("hint", "is_linked"), [(f"{YOUR_KEY}.", True), ("Ask an administrator to check the agent's key.", False)]
)
def test_who_is_told_to_check_their_key_is_led_to_it(
    as_alice: Client, alice: User, demo: Agent, hint: str, is_linked: bool
) -> None:
    failed = actions.send(alice, demo, "Fail")
    hold(failed.task).end(Status.FAILED, error=TaskExecutionError("The provider answered 401.", hint=hint))
    page = soup(as_alice.get(failed.conversation.get_absolute_url()))
    links = [str(link["href"]) for link in page.select(".failure a.button")]
    assert [link.startswith(reverse("keys")) for link in links] == [True] * is_linked


def test_what_was_stopped_is_tried_again_without_typing_it_again(as_alice: Client, alice: User, demo: Agent) -> None:
    stopped = actions.send(alice, demo, "Draw a chart")
    response = as_alice.post(reverse("stop", args=[stopped.task_id]), **HTMX)
    (button,) = soup(response).select(".foot [data-retry]")
    as_alice.post(str(button["hx-post"]), **HTMX)
    assert Task.objects.get(pk=stopped.task_id).status == Status.QUEUED


def test_what_failed_is_tried_again_with_the_agent_that_is_chosen_now(
    as_alice: Client, alice: User, bob: User, demo: Agent
) -> None:
    other = Agent.objects.create(name="other", title="Other", provider="demo", position=5)
    Agent.objects.create(name="bobs", title="Bob's", provider="demo", owner=bob)
    failed = actions.send(alice, demo, "Fail")
    fail(failed.task, "It broke.")
    url = reverse("retry", args=[failed.task_id])
    refused = as_alice.post(url, {"agent": "bobs"}, **HTMX)
    assert refused.status_code == 422
    assert "This agent is not available any more." in refused.content.decode()
    assert Task.objects.get(pk=failed.task_id).status == Status.FAILED
    as_alice.post(url, {"agent": "other"}, **HTMX)
    task = Task.objects.select_related("agent_version").get(pk=failed.task_id)
    assert (task.status, task.agent_version.agent) == (Status.QUEUED, other)
    page = as_alice.get(failed.conversation.get_absolute_url())
    assert soup(page).select_one("#agent option[selected]")["value"] == "other"  # type: ignore[index]


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "media_type", "inline"),
    [("a.png", "image/png", True), ("a.svg", "image/svg+xml", False), ("a.html", "text/html", False)],
)
def test_only_raster_images_are_shown_everything_else_is_downloaded(
    as_alice: Client, turn: Turn, name: str, media_type: str, inline: bool
) -> None:
    file = store(turn.task.user_id, turn.task_id, "c", [NewFile(name, b"<script>", media_type)])[0]
    url = reverse("file", args=[file.pk])
    response = as_alice.get(url)
    assert response.headers["Content-Disposition"].startswith("inline" if inline else "attachment")
    assert response.headers["Content-Type"] == (media_type if inline else "application/octet-stream")
    assert "sandbox" in response.headers["Content-Security-Policy"]
    assert as_alice.get(f"{url}?download").headers["Content-Disposition"].startswith("attachment")


def test_a_file_that_has_gone_is_not_there(as_alice: Client, turn: Turn) -> None:
    file: Resource = store(turn.task.user_id, turn.task_id, "c", [NewFile("a.png", b"x", "image/png")])[0]
    file.file.storage.delete(file.file.name or "")
    assert as_alice.get(reverse("file", args=[file.pk])).status_code == 404


# --- search ----------------------------------------------------------------------------------------------------------


def found(client: Client, query: str) -> list[str]:
    return [
        title.text for title in soup(client.get(reverse("search"), {"q": query}, **HTMX)).select(".result-title strong")
    ]


def test_search_finds_titles_messages_and_answers_with_every_word(as_alice: Client, alice: User, demo: Agent) -> None:
    for text, said in (("Whales sing", "In the deep <b>ocean</b>."), ("Ships", "They cross the ocean.")):
        turn = actions.send(alice, demo, text)
        answer(turn.task, said)
    assert found(as_alice, "ocean") == ["Ships", "Whales sing"]
    assert found(as_alice, "OCEAN whales") == ["Whales sing"]
    assert found(as_alice, "ocean desert") == []
    assert found(as_alice, "   ") == []
    assert found(as_alice, "\x00") == []
    assert found(as_alice, "x" * 5000) == []


def test_what_is_found_is_marked_and_escaped(as_alice: Client, alice: User, demo: Agent) -> None:
    actions.send(alice, demo, "See <script>alert(1)</script> here")
    for query in ("<script>", "script", "see"):
        page = as_alice.get(reverse("search"), {"q": query})
        assert "<script>alert" not in page.content.decode()
        assert words(page, ".result mark").lower() == query


def test_what_is_found_in_an_answer_is_shown_without_markdown(as_alice: Client, alice: User, demo: Agent) -> None:
    said = "# Seas\n\nThe **deep** ocean has\n`no` [end](http://example.org/hidden)\n\n| A | B |\n|--|--|\n| 1 | 2 |"
    answer(actions.send(alice, demo, "How *deep*?").task, said)
    for query, mark in (("ocean", "ocean"), ("hidden", "")):
        page = as_alice.get(reverse("search"), {"q": query})
        assert words(page, ".result-snippet") == "Seas The deep ocean has no end A B 1 2"
        assert [found.text for found in soup(page).select(".result mark")] == ([mark] if mark else [])
    # What a person wrote is shown as they wrote it, here as on the page.
    assert words(as_alice.get(reverse("search"), {"q": "how"}), ".result-snippet") == "How *deep*?"


def test_letters_that_grow_when_lowered_do_not_shift_the_mark(as_alice: Client, alice: User, demo: Agent) -> None:
    actions.send(alice, demo, "İİİİİİ needle")
    page = as_alice.get(reverse("search"), {"q": "needle"})
    assert words(page, ".result mark") == "needle"


def test_what_is_deleted_is_not_found(as_alice: Client, turn: Turn) -> None:
    assert found(as_alice, "hello") == ["Hello"]
    actions.delete(turn.conversation)
    assert found(as_alice, "hello") == []


# --- every page ------------------------------------------------------------------------------------------------------


def every_page(turn: Turn) -> list[str]:
    task = [turn.task_id]
    return [
        reverse("home"),
        turn.conversation.get_absolute_url(),
        reverse("task", args=task),
        reverse("search") + "?q=hello",
        reverse("account_settings"),
        reverse("account_login"),
        "/there/is/no/such/page",
    ]


def test_no_page_holds_a_script_a_style_or_a_handler_of_its_own(as_alice: Client, worked: Turn) -> None:
    for path in every_page(worked):
        response = as_alice.get(path, follow=True)
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in f"{policy};"
        assert "unsafe" not in policy
        for element in soup(response).find_all(True):
            assert element.name != "style", path
            assert element.name != "script" or element.has_attr("src"), path
            for name, value in element.attrs.items():
                assert not name.startswith(("on", "hx-on", "style")), (path, name)
                assert not str(value).startswith(("js:", "javascript:")), (path, name)


def test_what_is_not_there_is_said_kindly(as_alice: Client) -> None:
    for path in ("/nothing", reverse("conversation", args=[uuid4()]), "/c/not-an-id/"):
        response = as_alice.get(path)
        assert response.status_code == 404
        assert soup(response).select_one("h1") is not None


def test_every_page_of_failure_renders_without_a_request() -> None:
    from django.template.loader import get_template

    for name in ("400.html", "403.html", "404.html", "429.html", "500.html"):
        assert "<h1" in get_template(name).render()


def test_a_fault_of_ours_shows_the_page_of_failure_and_no_trace(
    as_alice: Client, turn: Turn, caplog: pytest.LogCaptureFixture
) -> None:
    Task.objects.filter(pk=turn.task_id).update(input={"what": "is this"})
    turn.task.agent_version.__class__.objects.update(config={})
    as_alice.raise_request_exception = False
    response = as_alice.get(turn.conversation.get_absolute_url())
    assert response.status_code == 500
    assert "Traceback" not in response.content.decode()
    assert soup(response).select_one("h1") is not None
