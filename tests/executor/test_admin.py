"""Agents and what they did, in Django admin."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from bs4 import BeautifulSoup
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from conversations.actions import send
from executor.actions import create_task
from executor.core.config import AgentConfig
from executor.core.declaration import declaration_of, executor_class
from executor.core.messages import user as user_message
from executor.models import (
    Agent,
    AgentVersion,
    ApprovalRule,
    Checkpoint,
    Decision,
    DeclaredTask,
    ReviewLog,
    Status,
    Step,
    Task,
    Worker,
)
from executor.sub_tasks import give
from tests.conftest import make_user
from tools.core.context import NewFile
from tools.models import McpServer
from tools.resources import store
from users import api_keys
from users.models import FirstAdminToken, User

SECRET = "the word that nobody else may read"
X = {"name": "x", "steps": [{"id": "text", "instruction": "Write.", "required_info": ["topic"]}]}
LIST, ADD = "admin:executor_agent_changelist", "admin:executor_agent_add"


@pytest.fixture
def as_dora(dora: User) -> Client:
    client = Client()
    client.force_login(dora)
    return client


@pytest.fixture
def as_helper(db: None) -> Client:
    """Staff who may see everything there is, but not what people said."""
    helper = make_user("helper", is_staff=True)
    helper.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(helper)
    return client


@pytest.fixture
def task(alice: User, demo: Agent) -> Task:
    """Alice asked something secret; a function was called and failed, and the model answered."""
    return make_task(alice, demo, SECRET)


def make_task(user: User, agent: Agent, text: str, status: Status = Status.FAILED) -> Task:
    task, _ = create_task(user, agent.current_version(), user_message(text))
    Task.objects.filter(pk=task.pk).update(
        status=status, head_seq=2, started_at=Now(), ended_at=Now(), error=f"Failed at {text}"
    )
    for seq, kind, name in ((1, Step.Kind.MODEL, ""), (2, Step.Kind.TOOL, "draw_chart")):
        Step.objects.create(
            task=task,
            seq=seq,
            kind=kind,
            name=name,
            status=Step.Status.FAILED,
            fence=1,
            text=text,
            result=text,
            error=text,
            arguments={"text": text},
            started_at=Now(),
        )
    Checkpoint.objects.create(task=task, seq=1, counters={"iterations": 1})
    task.refresh_from_db()
    return task


def page(client: Client, name: str, *args: Any, **query: Any) -> str:
    response = client.get(reverse(f"admin:{name}", args=args), query)
    assert response.status_code == 200, response
    return response.content.decode()


def agent_form(**fields: Any) -> dict[str, Any]:
    """The form of an agent as a browser sends it."""
    return {
        "name": "helper",
        "title": "Helper",
        "enabled": "on",
        "position": "0",
        "provider": "demo",
        "all_functions": "on",
        "on_unknown": "ask",
        "suggestions": "[]",
        "max_iterations": "5",
        "max_seconds": "60",
        "max_tool_calls": "9",
        "versions-TOTAL_FORMS": "0",
        "versions-INITIAL_FORMS": "0",
        **fields,
    }


def sent_by_a_browser(page: Any) -> dict[str, str]:
    """What pressing Save on the page sends, untouched. `page` is the response."""
    sent: dict[str, str] = {}
    for field in BeautifulSoup(page.content.decode(), "html.parser").select("main form [name]"):
        if field.name == "textarea":
            value: Any = field.get_text().removeprefix("\n")
        elif field.name == "select":
            value = next((option.get("value", "") for option in field.select("[selected]")), "")
        elif field.get("type") in ("checkbox", "radio", "submit") and not field.has_attr("checked"):
            continue
        else:
            value = field.get("value", "on" if field.has_attr("checked") else "")
        sent[str(field["name"])] = value
    return {**sent, "_save": "Save"}


class TestEveryPage:
    @pytest.fixture
    def rows(self, task: Task, bob: User) -> list[Any]:
        """One of every model in admin, so that no page is shown empty."""
        agent = task.agent_version.agent
        assert agent
        turn = send(bob, agent, "Hello")
        store(task.user_id, task.pk, "call", [NewFile("a.txt", b"text", "text/plain")])
        declared = DeclaredTask.objects.create(name="x", title="X", declaration=declaration_of(executor_class(X)))
        return [
            *(declared, declared.current_version()),
            *(agent, task.agent_version, task, task.steps.get(seq=2), turn.conversation, task.user),
            Worker.objects.create(owner="o", host="h", pid=1, beat_at=Now()),
            Decision.objects.create(task=task, step=task.steps.get(seq=2), kind="approval", note=SECRET),
            ApprovalRule.objects.create(user=bob, thread=turn.conversation_id, function="draw_chart"),
            ReviewLog.objects.create(reviewer_name="dora", what="a look", path="/"),
            McpServer.objects.create(name="files", url="http://files.example/mcp"),
            Group.objects.create(name="Reviewers"),
            api_keys.add(None, "gpt", "sk-the-key-of-the-site-0123456789"),
            FirstAdminToken.objects.create(digest="0" * 64, expires_at="2030-01-01T00:00Z"),
        ]

    def test_that_has_no_rows_has_no_pages_of_rows(self, as_dora: Client) -> None:
        for model in admin.site._registry:
            if not model._meta.managed:
                page = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
                assert as_dora.get(page).status_code == 200
                for address in ("1/change/", "1/history/", "1/delete/", "add/"):
                    assert as_dora.get(page + address).status_code == 404, page + address

    def test_opens_for_an_administrator(self, as_dora: Client, rows: list[Any]) -> None:
        for model in admin.site._registry:
            name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
            assert as_dora.get(reverse(f"{name}_changelist")).status_code == 200, name
            if model._meta.managed:
                obj = next((row for row in rows if isinstance(row, model)), None) or model._default_manager.first()
                assert obj is not None, f"Make one of {model} for this test."
                response = as_dora.get(reverse(f"{name}_change", args=[obj.pk]))
                assert response.status_code == 200, name
                assert " style=" not in response.content.decode().partition("<main")[2], name
        assert as_dora.get(reverse("admin:index")).status_code == 200

    def test_is_closed_to_people_who_are_not_on_the_staff(self, rows: list[Any], alice: User) -> None:
        outsider, anybody = Client(), Client()
        outsider.force_login(alice)
        for model in admin.site._registry:
            name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
            urls = [reverse(f"{name}_changelist")]
            urls += [reverse(f"{name}_change", args=[row.pk]) for row in rows if isinstance(row, model)]
            for url in urls:
                assert outsider.get(url, follow=True).status_code == 403, url
                assert "/login/" in anybody.get(url, follow=True).redirect_chain[-1][0], url


class TestAnAgent:
    def save(self, client: Client, agent: Agent | None = None, **fields: Any) -> list[str]:
        """Send the form. Returns what it objects to."""
        url = reverse("admin:executor_agent_change", args=[agent.pk]) if agent else reverse(ADD)
        if agent:
            opened = agent.updated_at.isoformat()
            fields = {"name": agent.name, "title": agent.title, "opened": opened, **fields}
        response = client.post(url, agent_form(**fields))
        if response.status_code == 302:
            return []
        form = response.context["adminform"].form
        return [f"{name}: {error}" for name, errors in form.errors.items() for error in errors]

    def test_is_added_and_answers_with_all_functions(self, as_dora: Client) -> None:
        assert self.save(as_dora, suggestions='[{"title": "Try", "prompt": "This"}]') == []
        agent = Agent.objects.get(name="helper")
        assert agent.functions == ["*"]
        assert agent.suggestions == [{"title": "Try", "prompt": "This"}]
        assert agent.current_version().number == 1

    def test_gets_the_functions_that_were_ticked(self, as_dora: Client) -> None:
        assert self.save(as_dora, all_functions="", functions=["draw_chart", "calculate"]) == []
        assert Agent.objects.get(name="helper").functions == ["draw_chart", "calculate"]

    def test_keeps_a_version_of_each_change_that_matters_to_the_model(self, as_dora: Client, demo: Agent) -> None:
        assert self.save(as_dora, demo, instructions="Be brief.", max_iterations="210") == []
        assert demo.versions.count() == 2
        assert "Be brief." in page(as_dora, "executor_agentversion_change", demo.current_version().pk)
        shown = page(as_dora, "executor_agent_change", demo.pk)
        assert reverse("admin:executor_agentversion_change", args=[demo.current_version().pk]) in shown

    def test_that_was_saved_unchanged_has_no_new_version(self, as_dora: Client, demo: Agent) -> None:
        fields = {"max_iterations": "210", "max_seconds": "1800", "max_tool_calls": "200", "parameter-demo-pause": "0"}
        assert self.save(as_dora, demo, **fields) == []
        assert demo.versions.count() == 1

    def test_may_be_limited_in_tokens_and_dollars_and_is_the_same_however_they_are_written(
        self, as_dora: Client
    ) -> None:
        assert self.save(as_dora, max_tokens="5000", max_cost="0.5") == []
        agent = Agent.objects.get(name="helper")
        limits = agent.config().limits
        assert (limits.tokens, limits.cost) == (5_000, Decimal("0.5"))
        assert agent.current_version().config["limits"]["cost"] == "0.5000"
        assert AgentConfig.from_json(agent.current_version().config).limits == limits
        assert self.save(as_dora, agent, max_tokens="5000", max_cost="0.5000") == []
        assert agent.versions.count() == 1

    def test_may_have_a_server_whose_name_has_no_dot(self, as_dora: Client) -> None:
        assert self.save(as_dora, provider="openai_compatible", base_url="http://ollama:11434/v1", model="m") == []
        assert Agent.objects.get(name="helper").base_url == "http://ollama:11434/v1"

    @pytest.mark.parametrize(
        ("fields", "objection"),
        [
            (
                {"suggestions": '[{"title": }]'},
                "suggestions: It is not valid JSON: Expecting value in line 1, column 12",
            ),
            ({"suggestions": '[{"title": NaN}]'}, "suggestions: It is not JSON that can be stored"),
            ({"suggestions": "[" * 100_000}, "suggestions: It is not JSON that can be stored"),
            ({"suggestions": '[{"title": "Try"}]'}, "suggestions: [0].prompt: is missing: give it a text."),
            ({"suggestions": '{"title": "Try"}'}, "suggestions: Write a list of objects"),
            ({"provider": "openai_compatible"}, "base_url: '' is not the address of a model server"),
            ({"base_url": "http://me:secret@host/v1"}, "base_url: Give an address such as"),
            ({"base_url": "javascript:alert(1)"}, "base_url: Give an address such as"),
            ({"max_tokens": "0"}, "max_tokens: Ensure this value is greater than or equal to 1."),
            ({"max_cost": "-1"}, "max_cost: Ensure this value is greater than or equal to 0."),
            ({"max_iterations": "0"}, "max_iterations: Ensure this value is greater than or equal to 1."),
            ({"all_functions": "", "functions": ["nonsense"]}, "functions: Select a valid choice."),
        ],
    )
    def test_is_refused_with_a_sentence(self, as_dora: Client, fields: dict[str, Any], objection: str) -> None:
        objections = self.save(as_dora, **fields)
        assert len(objections) == 1, objections
        assert objections[0].startswith(objection)
        assert not Agent.objects.exists()

    def test_keeps_what_was_typed_when_it_is_refused(self, as_dora: Client) -> None:
        response = as_dora.post(reverse(ADD), agent_form(suggestions='{"mine": '))
        assert "{&quot;mine&quot;: " in response.content.decode()

    def test_says_which_of_its_functions_are_missing_and_keeps_them(self, as_dora: Client, demo: Agent) -> None:
        demo.functions = ["calculate", "gone"]
        demo.save()
        shown = page(as_dora, "executor_agent_change", demo.pk)
        assert "gone: there is no such function at the moment." in shown
        assert self.save(as_dora, demo, all_functions="", functions=["calculate", "gone"]) == []
        demo.refresh_from_db()
        assert demo.functions == ["calculate", "gone"]

    def test_says_whether_its_key_is_set_and_never_what_it_is(
        self, as_dora: Client, demo: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        demo.api_key_variable = "SOME_KEY"
        demo.save()
        assert "SOME_KEY is not set." in page(as_dora, "executor_agent_change", demo.pk)
        monkeypatch.setenv("SOME_KEY", "sk-12345")
        shown = page(as_dora, "executor_agent_change", demo.pk)
        assert "SOME_KEY is set." in shown
        assert "sk-12345" not in shown

    def test_is_moved_and_switched_off_in_the_list(self, as_dora: Client, demo: Agent) -> None:
        opened = sent_by_a_browser(as_dora.get(reverse(LIST)))
        moved = {**opened, "form-0-position": "7"}
        del moved["form-0-enabled"]
        assert as_dora.post(reverse(LIST), moved).status_code == 302
        demo.refresh_from_db()
        assert (demo.position, demo.enabled) == (7, False)

    def test_that_two_edit_at_once_keeps_what_the_first_one_saved_and_what_the_second_one_typed(
        self, as_dora: Client, demo: Agent
    ) -> None:
        url = reverse("admin:executor_agent_change", args=[demo.pk])
        mine, theirs = (sent_by_a_browser(as_dora.get(url)) for _ in range(2))
        assert as_dora.post(url, {**theirs, "instructions": "Theirs."}).status_code == 302
        refused = as_dora.post(url, {**mine, "title": "Mine"})
        assert "This agent was changed by somebody else while you were editing it" in refused.content.decode()
        demo.refresh_from_db()
        assert (demo.title, demo.instructions, demo.versions.count()) == ("Demo", "Theirs.", 2)
        typed = sent_by_a_browser(refused)
        assert (typed["title"], typed["instructions"]) == ("Mine", "")
        assert as_dora.post(url, typed).status_code == 302
        demo.refresh_from_db()
        assert (demo.title, demo.instructions) == ("Mine", "")

    def test_that_is_saved_twice_by_a_double_click_is_not_refused(self, as_dora: Client, demo: Agent) -> None:
        url = reverse("admin:executor_agent_change", args=[demo.pk])
        form = {**sent_by_a_browser(as_dora.get(url)), "title": "Mine"}
        assert [as_dora.post(url, form).status_code for _ in range(2)] == [302, 302]
        assert demo.versions.count() == 2

    def test_is_not_set_back_by_a_list_that_was_opened_before(self, as_dora: Client, demo: Agent) -> None:
        opened = sent_by_a_browser(as_dora.get(reverse(LIST)))
        Agent.objects.update(enabled=False)
        assert as_dora.post(reverse(LIST), {**opened, "form-0-position": "7"}).status_code == 302
        demo.refresh_from_db()
        assert (demo.position, demo.enabled) == (7, False)

    def test_can_be_looked_at_by_staff_who_may_not_change_it(self, as_helper: Client, demo: Agent) -> None:
        assert "Demo" in page(as_helper, "executor_agent_change", demo.pk)
        assert as_helper.post(reverse(ADD), agent_form()).status_code == 403

    def test_goes_and_its_versions_and_tasks_stay(self, as_dora: Client, task: Task, demo: Agent) -> None:
        url = reverse("admin:executor_agent_delete", args=[demo.pk])
        assert as_dora.post(url, {"post": "yes"}).status_code == 302
        assert AgentVersion.objects.get(tasks=task).agent is None
        page(as_dora, "executor_task_change", task.pk)


class TestReview:
    def test_shows_reviewers_what_was_said_and_records_each_look(
        self, as_dora: Client, task: Task, alice: User, dora: User
    ) -> None:
        assert SECRET in page(as_dora, "executor_task_changelist")
        shown = page(as_dora, "executor_task_change", task.pk)
        assert SECRET in shown
        assert "draw_chart" in shown
        assert SECRET in page(as_dora, "executor_step_change", task.steps.get(seq=2).pk)
        looks = list(ReviewLog.objects.order_by("id").values_list("reviewer", "owner_name", "what"))
        step = task.steps.get(seq=2)
        assert looks == [
            (dora.pk, "", "List of tasks"),
            (dora.pk, "alice", f"Task {task.pk}"),
            (dora.pk, "alice", f"Step {step.pk}"),
        ]
        assert f"Task {task.pk}" in page(as_dora, "executor_reviewlog_changelist")

    def test_shows_what_people_decided_to_reviewers_only(
        self, as_dora: Client, as_helper: Client, task: Task, alice: User
    ) -> None:
        step = task.steps.get(seq=2)
        decision = Decision.objects.create(
            task=task, step=step, kind="approval", status="decided", choice="deny", decided_by=alice, note=SECRET
        )
        for client in (as_dora, as_helper):
            listed = page(client, "executor_decision_changelist")
            assert "Denied" in listed
            assert SECRET not in listed
        assert SECRET in page(as_dora, "executor_decision_change", decision.pk)
        assert as_helper.get(reverse("admin:executor_decision_change", args=[decision.pk])).status_code == 403
        assert ReviewLog.objects.filter(what=f"Decision {decision.pk}").count() == 1

    def test_does_not_record_that_one_looked_at_ones_own(self, as_dora: Client, dora: User, demo: Agent) -> None:
        page(as_dora, "executor_task_change", make_task(dora, demo, "mine").pk)
        assert not ReviewLog.objects.exists()

    def test_keeps_the_record_when_the_people_are_gone(self, as_dora: Client, task: Task, alice: User) -> None:
        page(as_dora, "executor_task_change", task.pk)
        alice.delete()
        assert ReviewLog.objects.get().owner_name == "alice"

    def test_shows_other_staff_that_there_is_something_and_not_what(self, as_helper: Client, task: Task) -> None:
        for name in ("executor_task_changelist", "executor_step_changelist"):
            shown = page(as_helper, name)
            assert "alice" in shown
            assert SECRET not in shown
        for name, pk in (("executor_task_change", task.pk), ("executor_step_change", task.steps.get(seq=1).pk)):
            assert as_helper.get(reverse(f"admin:{name}", args=[pk])).status_code == 403
        assert not ReviewLog.objects.exists()

    def test_finds_no_words_for_staff_who_may_not_read_them(
        self, as_helper: Client, as_dora: Client, task: Task
    ) -> None:
        word = SECRET.split()[-1]
        assert "draw_chart" in page(as_dora, "executor_step_changelist", q=word)
        assert "2. draw_chart" not in page(as_helper, "executor_step_changelist", q=word)

    @pytest.mark.parametrize(
        ("name", "guess"),
        [
            ("executor_task_changelist", "error__startswith"),
            ("executor_task_changelist", "input__icontains"),
            ("executor_step_changelist", "text__icontains"),
            ("executor_step_changelist", "task__error__icontains"),
        ],
    )
    def test_lets_nobody_guess_at_what_they_may_not_read(
        self, as_helper: Client, as_dora: Client, task: Task, name: str, guess: str
    ) -> None:
        assert as_helper.get(reverse(f"admin:{name}"), {guess: "F"}).status_code == 400
        assert "alice" in page(as_helper, name, status__exact="failed")
        assert "alice" not in page(as_helper, name, q="Failed at")

    def test_shows_no_word_to_those_who_may_stop_tasks_only(self, task: Task) -> None:
        operator = make_user("operator", is_staff=True)
        operator.user_permissions.set(Permission.objects.filter(codename__in=("view_task", "change_task")))
        client = Client()
        client.force_login(operator)
        assert SECRET not in page(client, "executor_task_changelist")

    def test_changes_nothing_of_the_record(self, as_dora: Client, task: Task) -> None:
        for name, pk in (("task", task.pk), ("step", task.steps.get(seq=1).pk)):
            assert (
                as_dora.post(reverse(f"admin:executor_{name}_change", args=[pk]), {"status": "done"}).status_code == 403
            )
            assert as_dora.post(reverse(f"admin:executor_{name}_delete", args=[pk]), {"post": "yes"}).status_code == 403
            assert as_dora.get(reverse(f"admin:executor_{name}_add")).status_code == 403


class TestTasks:
    def stop(self, client: Client, *tasks: Task) -> str:
        fields = {"action": "stop", "_selected_action": [str(task.pk) for task in tasks]}
        return client.post(reverse("admin:executor_task_changelist"), fields, follow=True).content.decode()

    def test_are_stopped_where_they_are_still_at_work(self, as_dora: Client, alice: User, demo: Agent) -> None:
        running, over = (make_task(alice, demo, "x", status) for status in (Status.RUNNING, Status.DONE))
        assert "1 told to stop. 1 had ended already." in self.stop(as_dora, running, over)
        running.refresh_from_db()
        over.refresh_from_db()
        assert (running.status, over.status) == (Status.STOPPING, Status.DONE)

    def test_are_not_stopped_by_staff_who_may_only_look(self, as_helper: Client, alice: User, demo: Agent) -> None:
        task = make_task(alice, demo, "x", Status.RUNNING)
        self.stop(as_helper, task)
        task.refresh_from_db()
        assert task.status == Status.RUNNING

    @pytest.mark.parametrize("query", ["alice", "Failed at"])
    def test_are_found_by_person_and_error(self, as_dora: Client, task: Task, query: str) -> None:
        assert SECRET in page(as_dora, "executor_task_changelist", q=query)
        assert SECRET not in page(as_dora, "executor_task_changelist", q="nobody-like-that")

    def test_are_listed_by_a_number_of_queries_that_does_not_grow(
        self, as_dora: Client, alice: User, bob: User, demo: Agent
    ) -> None:
        names = ("executor_task_changelist", "executor_step_changelist", "executor_agent_changelist")
        make_task(alice, demo, "first")
        few = [self.queries(as_dora, name) for name in names]
        for number in range(12):
            other = Agent.objects.create(name=f"a{number}", title=f"A{number}", provider="demo")
            make_task(bob, other, f"more {number}")
        assert [self.queries(as_dora, name) for name in names] == few

    def queries(self, client: Client, name: str) -> int:
        page(client, name)  # Permissions and content types are remembered from the first time on.
        with CaptureQueriesContext(
            connection,
        ) as captured:
            page(client, name)
        return len(captured)

    def test_can_be_followed_to_their_steps(self, as_dora: Client, task: Task, bob: User, demo: Agent) -> None:
        other = make_task(bob, demo, "somebody else's")
        shown = page(as_dora, "executor_step_changelist", task__id__exact=str(task.pk))
        assert str(task.pk) in shown
        assert str(other.pk) not in shown
        assert "2. draw_chart" in page(as_dora, "executor_step_changelist", function="draw_chart")
        assert "2. draw_chart" not in page(as_dora, "executor_step_changelist", function="calculate")


class TestWorkers:
    def test_that_have_not_beaten_for_long_are_silent(self, as_dora: Client) -> None:
        Worker.objects.create(owner="a", host="here", pid=1, beat_at=Now())
        assert "Silent" not in page(as_dora, "executor_worker_changelist")
        Worker.objects.create(owner="b", host="there", pid=2, beat_at="2020-01-01T00:00Z")
        assert "Silent" in page(as_dora, "executor_worker_changelist")


def test_cards_are_shown_with_line_breaks(as_dora: Client, demo: Agent) -> None:
    demo.suggestions = [{"title": "Try", "prompt": "This"}]
    demo.save()
    shown = json.dumps(demo.suggestions, indent=2).replace('"', "&quot;")
    assert shown in page(as_dora, "executor_agent_change", demo.pk)


def test_admin_tells_how_long_a_short_step_took(as_dora: Client, task: Task) -> None:
    step = task.steps.order_by("seq").first()
    assert step is not None
    began = timezone.now()
    task.steps.filter(pk=step.pk).update(started_at=began, ended_at=began + timedelta(milliseconds=7))
    listed = as_dora.get(reverse("admin:executor_step_changelist"), {"task__id__exact": str(task.pk)})
    assert "7 ms" in [cell.text for cell in BeautifulSoup(listed.content, "html.parser").select(".field-duration")]


def test_admin_says_of_a_call_that_its_result_came_from_the_cache(as_dora: Client, task: Task) -> None:
    step = task.steps.get(seq=2)
    assert "Made at" not in page(as_dora, "executor_step_change", step.pk)
    task.steps.filter(pk=step.pk).update(response_id="2026-03-01T09:30:05+00:00")
    assert "Made at 2026-03-01" in page(as_dora, "executor_step_change", step.pk)
    task.steps.filter(pk=step.pk).update(ended_at=Now())
    assert "from cache" in page(as_dora, "executor_task_change", task.pk)


def test_tasks_that_agents_give_to_others_lead_to_each_other(as_dora: Client, dora: User, demo: Agent) -> None:
    task, _ = create_task(dora, demo.current_version(), user_message("Go."))
    give(task, "call", [{"id": "sun", "agent": "demo", "task": "Look.", "after": []}])
    child = Task.objects.get(parent=task)
    listed = as_dora.get(reverse("admin:executor_task_changelist")).content.decode()
    above, below = (reverse("admin:executor_task_change", args=[each.pk]) for each in (task, child))
    given = f"{reverse('admin:executor_task_changelist')}?parent__id__exact={task.pk}"
    assert f'part of <a href="{above}">' in listed
    assert f'gave <a href="{given}">1</a>' in listed
    assert as_dora.get(given).context["cl"].queryset.get() == child
    assert f'<a href="{below}">' in as_dora.get(above).content.decode()
    assert f'<a href="{above}">' in as_dora.get(below).content.decode()
    asked = Decision.objects.create(task=child, kind=Decision.Kind.QUESTION)
    assert (
        "Demo v1, for Demo v1"
        in as_dora.get(reverse("admin:executor_decision_change", args=[asked.pk])).content.decode()
    )
