"""Tokens and cost on the pages: under an answer, in a conversation's menu, in settings."""

from __future__ import annotations

import csv
from datetime import timedelta
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from conversations.actions import delete, send
from conversations.fragments import Snapshot, task_changed
from conversations.models import Turn
from executor.models import Agent, Status, Step, Task
from tests.conversations.page import Page
from tests.conversations.worker import hold
from tests.usage_rows import answered, asked, make_agent, make_key
from users.models import User


@pytest.fixture
def agent(db: None) -> Agent:
    return make_agent()


@pytest.fixture
def asked_now(alice: User, agent: Agent) -> Turn:
    return asked(alice, agent, "Hello", timezone.now())


def soup(response: Any) -> BeautifulSoup:
    assert response.status_code == 200
    return BeautifulSoup(response.content.decode(), "html.parser")


def words(found: BeautifulSoup, selector: str) -> list[str]:
    return [" ".join(element.get_text(" ").split()) for element in found.select(selector)]


# --- under an answer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("costs", "line"),
    [
        (["0.0031"], "1.1k tokens · $0.0031"),
        (["0.0031", None], "2.2k tokens · $0.0031 + unknown"),
        ([None], "1.1k tokens · price unknown"),
        (["0"], "1.1k tokens · free"),
    ],
)
def test_under_an_answer_stands_what_it_cost(
    as_alice: Client, asked_now: Turn, costs: list[str | None], line: str
) -> None:
    for seq, cost in enumerate(costs, start=1):
        answered(asked_now, cost, seq)
    page = soup(as_alice.get(asked_now.conversation.get_absolute_url()))
    assert words(page, ".foot .use") == [line]


def test_without_tokens_there_is_nothing_to_tell(as_alice: Client, asked_now: Turn) -> None:
    page = soup(as_alice.get(asked_now.conversation.get_absolute_url()))
    assert page.select(".foot") != []
    assert page.select(".foot .use") == []


def test_the_details_tell_cache_and_reasoning_and_each_model(as_alice: Client, asked_now: Turn) -> None:
    answered(asked_now, "0.5", 1)
    answered(asked_now, None, 2, model="gpt-y")
    page = soup(as_alice.get(asked_now.conversation.get_absolute_url()))
    button = page.select_one(".foot .use")
    assert button is not None
    assert words(page, f"#{button['popovertarget']} dl > div") == [
        "Input 2,000",
        "from the cache 800",
        "Output 200",
        "reasoning 60",
        "Cost $0.50 + unknown",
        "gpt-x 1.1k tokens · $0.50",
        "gpt-y 1.1k tokens · price unknown",
    ]


def test_the_page_of_a_task_tells_it_of_each_answer(as_alice: Client, asked_now: Turn) -> None:
    answered(asked_now, "0.0031", 1)
    answered(asked_now, None, 2)
    page = soup(as_alice.get(reverse("task", args=[asked_now.task_id])))
    assert words(page, ".answer-uses tbody tr") == [
        "1 gpt-x 1,000 400 100 30 $0.0031",
        "2 gpt-x 1,000 400 100 30 price unknown",
    ]
    assert "Cost $0.0031 + unknown" in words(page, ".facts > div")


def test_a_page_that_saw_the_answer_come_shows_the_same_as_one_loaded_later(
    as_alice: Client, alice: User, agent: Agent
) -> None:
    turn = send(alice, agent, "Hello")
    journal = hold(turn.task)
    before = Snapshot.load(turn.task_id)
    url = turn.conversation.get_absolute_url()
    as_alice.get(url)  # Reads the news, which the sidebar shows.
    watched = Page(as_alice.get(url).content.decode())
    answered(turn, "0.0031", 1)
    answered(turn, None, 2)
    journal.end(Status.DONE)
    Task.objects.filter(pk=turn.task_id).update(status=Status.DONE)
    after = Snapshot.load(turn.task_id)
    assert before is not None
    assert after is not None
    watched.receive(task_changed(before.view, after.view))
    fresh = Page(as_alice.get(url).content.decode())
    assert watched.text(".foot .use") == "2.2k tokens · $0.0031 + unknown"
    task = f"#task-{turn.task_id}"
    assert str(watched.soup.select_one(task)) == str(fresh.soup.select_one(task))


# --- of a conversation -----------------------------------------------------------------------------------------------


def test_a_conversations_menu_asks_for_its_sum(as_alice: Client, alice: User, agent: Agent, asked_now: Turn) -> None:
    answered(asked_now, "0.25")
    second = asked(alice, agent, "Again", timezone.now(), asked_now.conversation)
    answered(second, "0.50", model="gpt-y")
    answered(asked(alice, agent, "Elsewhere", timezone.now()), "9")
    page = soup(as_alice.get(asked_now.conversation.get_absolute_url()))
    menu = page.select_one("#conversation-use")
    assert menu is not None
    piece = soup(as_alice.get(str(menu["hx-get"]), headers={"HX-Request": "true"}))
    assert piece.select_one("html") is None
    assert words(piece, "dl > div") == [
        "Answers 2",
        "Input 2,000",
        "from the cache 800",
        "Output 200",
        "reasoning 60",
        "Cost $0.75",
        "gpt-y 1.1k tokens · $0.50",
        "gpt-x 1.1k tokens · $0.25",
    ]
    alone = soup(as_alice.get(str(menu.select_one("a")["href"])))  # type: ignore[index]
    assert alone.select_one("html") is not None
    assert words(alone, "dl > div") == words(piece, "dl > div")


def test_a_conversation_without_answers_says_so(as_alice: Client, asked_now: Turn) -> None:
    response = as_alice.get(reverse("conversation_usage", args=[asked_now.conversation_id]))
    assert "No model has answered here yet." in response.content.decode()


# --- settings --------------------------------------------------------------------------------------------------------


def test_the_page_adds_up_what_one_used(
    as_alice: Client, alice: User, bob: User, agent: Agent, asked_now: Turn
) -> None:
    answered(asked_now, "0.25", 1, api_key=make_key(alice))
    answered(asked_now, None, 2)
    answered(asked(bob, agent, "Bob's secret", timezone.now()), "77")
    page = soup(as_alice.get(reverse("usage")))
    assert words(page, ".totals > div") == [
        "Cost $0.25 + unknown 1 answer without a known price",
        "Input tokens 2,000 800 from the cache",
        "Output tokens 200 60 for reasoning",
        "Answers 2 in 1 task",
    ]
    tables = {str(region["aria-label"]): words(region, "tbody tr") for region in page.select(".table-scroll")}  # type: ignore[arg-type]
    assert tables.pop("Use by day") == [f"{timezone.localdate():%-d %b %Y} 2 2,000 800 200 $0.25 + unknown"]
    assert tables == {
        "Models": ["gpt-x gpt 2 2,000 800 200 $0.25 + unknown"],
        "Agents": ["Helper 2 2,000 800 200 $0.25 + unknown"],
        "Keys": [
            "gpt …wxyz 1 1,000 400 100 $0.25",
            "No stored key of a server, the environment or the demonstration 1 1,000 400 100 price unknown",
        ],
        "Conversations": ["Hello 2 2,000 200 $0.25 + unknown"],
    }
    assert page.select_one(f"a[href='{asked_now.conversation.get_absolute_url()}']") is not None
    assert "77" not in page.get_text()
    assert "secret" not in page.get_text()


def test_each_drawing_has_a_name_a_description_and_the_numbers_as_a_table(as_alice: Client, asked_now: Turn) -> None:
    answered(asked_now, "0.25")
    page = soup(as_alice.get(reverse("usage")))
    drawings = page.select(".chart svg")
    assert len(drawings) == 2
    for drawing in drawings:
        title, about = (page.find(id=name) for name in str(drawing["aria-labelledby"]).split())
        assert drawing["role"] == "img"
        assert title is not None
        assert about is not None
        assert title.name == "title"
        assert "1.1k tokens · $0.25 on 1 day." in about.get_text()
        assert len(drawing.select("g.bar > title")) == 30
    assert page.select_one(".by-day table") is not None
    assert page.select("[style], script:not([src]), style") == []


def test_the_period_is_chosen_by_links(as_alice: Client, alice: User, agent: Agent) -> None:
    answered(asked(alice, agent, "Long ago", timezone.now() - timedelta(days=60)), "0.25")
    page = soup(as_alice.get(reverse("usage")))
    assert "No model has answered you in this time." in page.get_text()
    links = page.select(".periods nav a")
    assert [link.get_text() for link in links] == ["7 days", "30 days", "90 days", "This month"]
    assert [link.get_text() for link in links if link.has_attr("aria-current")] == ["30 days"]
    page = soup(as_alice.get(reverse("usage") + str(links[2]["href"])))
    assert words(page, ".totals > div")[0] == "Cost $0.25"


@pytest.mark.parametrize("period", ["", "nonsense", "-1", "99999999", "%00"])
def test_a_period_that_there_is_not_is_the_usual_one(as_alice: Client, period: str) -> None:
    page = soup(as_alice.get(f"{reverse('usage')}?period={period}"))
    assert words(page, ".periods [aria-current]") == ["30 days"]
    assert as_alice.get(f"{reverse('usage_csv')}?period={period}").status_code == 200


def test_the_dearest_conversations_are_listed_and_none_from_the_bin(
    as_alice: Client, alice: User, agent: Agent
) -> None:
    for number in range(18):
        answered(asked(alice, agent, f"Question {number}", timezone.now()), str(number + 1))
    answered(asked(alice, agent, "Nobody knows", timezone.now()), None)
    dearest = Turn.objects.get(text="Question 17").conversation
    expected = [f"Question {number}" for number in range(17, -1, -1)]

    def listed() -> list[str]:
        return words(soup(as_alice.get(reverse("usage"))), "[aria-label='Conversations'] tbody th")

    assert listed() == [*expected, "Nobody knows"]
    for number in range(3):
        answered(asked(alice, agent, f"Dearer {number}", timezone.now()), str(100 - number))
    assert listed() == [*(f"Dearer {number}" for number in range(3)), *expected[:17]]
    delete(dearest)
    assert "Question 17" not in listed()


def test_many_conversations_take_as_many_queries_as_one(as_alice: Client, alice: User, agent: Agent) -> None:
    def queries() -> int:
        as_alice.get(reverse("usage"))
        with CaptureQueriesContext(connection) as captured:
            as_alice.get(reverse("usage"))
        return len(captured)

    answered(asked(alice, agent, "Hello", timezone.now()), "1", api_key=make_key(alice))
    before = queries()
    for number in range(10):
        answered(
            asked(alice, make_agent(f"agent{number}"), "Hello", timezone.now()),
            "1",
            api_key=make_key(alice, base_url=f"https://{number}.example"),
        )
    assert queries() == before


def test_the_numbers_can_be_taken_along(as_alice: Client, alice: User, asked_now: Turn) -> None:
    answered(asked_now, "0.25", api_key=make_key(alice))
    response = as_alice.get(reverse("usage_csv"))
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].startswith('attachment; filename="usage-')
    (line,) = csv.DictReader(response.content.decode().splitlines())
    assert (line["model"], line["key"], line["cost_usd"]) == ("gpt-x", "gpt …wxyz", "0.25000000")
    assert "Hello" not in response.content.decode()


def test_the_same_is_told_everywhere_of_answers_that_broke_off_and_of_refusals(
    as_alice: Client, admin_client: Client, alice: User, asked_now: Turn
) -> None:
    key = make_key(alice)
    nothing: dict[str, Any] = {"finish_reason": "", "input_tokens": 0, "output_tokens": 0, "api_key": key}
    answered(asked_now, "0.25", api_key=key)
    answered(asked_now, None, 2, status=Step.Status.CANCELLED, **nothing)
    answered(asked_now, "0.50", 3, status=Step.Status.FAILED, **nothing | {"input_tokens": 900})
    answered(asked_now, "0", 4, status=Step.Status.FAILED, **nothing)
    conversation = asked_now.conversation
    price = "$0.75 + unknown"
    chat = soup(as_alice.get(conversation.get_absolute_url()))
    assert words(chat, ".foot .use") == [f"2k tokens · {price}"]
    menu = soup(as_alice.get(reverse("conversation_usage", args=[conversation.pk])))
    (facts,) = words(menu, "main dl.facts") or words(menu, "main dl")
    assert "Answers 3" in facts
    assert f"Cost {price}" in facts
    settings = soup(as_alice.get(reverse("usage")))
    for table in ("Models", "Agents", "Keys", "Conversations"):
        (row,) = words(settings, f"[aria-label='{table}'] tbody tr")
        assert row.endswith(price), table
        assert " 3 1,900 " in row, table
    (line,) = csv.DictReader(as_alice.get(reverse("usage_csv")).content.decode().splitlines())
    assert (line["answers"], line["cost_usd"], line["answers_without_price"]) == ("3", "0.75000000", "1")
    card = soup(as_alice.get(reverse("keys")))
    assert words(card, "#gpt .facts dd")[-1] == price
    task = soup(admin_client.get(reverse("admin:executor_task_change", args=[asked_now.task_id])))
    costs = [row.select("td")[4].get_text() for row in task.select("table.steps tbody tr")]
    assert costs == ["$0.25", "price unknown", "$0.50", ""]
    listed = soup(admin_client.get(reverse("admin:executor_task_changelist")))
    assert words(listed, ".field-price") == [price]


def test_what_the_tools_did_costs_no_tokens(as_alice: Client, asked_now: Turn) -> None:
    Step.objects.create(task=asked_now.task, seq=1, kind=Step.Kind.TOOL, status=Step.Status.DONE, fence=1, name="draw")
    page = soup(as_alice.get(asked_now.conversation.get_absolute_url()))
    assert page.select(".foot .use") == []
