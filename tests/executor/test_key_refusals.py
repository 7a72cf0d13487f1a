"""What a task notes at the key with which its model was asked: that it was refused, and that it works again."""

from __future__ import annotations

import pytest

from executor.models import Agent, Task
from tests.executor.conftest import MakeTask, claimed
from tests.executor.test_retries import execute
from tests.executor.test_run import ended
from tests.fakes.model_server import ModelServer
from users import api_keys
from users.models import ApiKey, KeyState

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

RIGHT, WRONG = "sk-canary-the-right-one-0123456789", "sk-canary-the-wrong-one-0123456789"


@pytest.fixture
def task(make_task: MakeTask, model_server: ModelServer) -> Task:
    """One whose model is at a server that wants a key."""
    model_server.api_key = RIGHT
    return make_task("Go.", provider="openai_compatible", model="echo", base_url=model_server.base_url)


def test_a_key_that_a_task_was_refused_with_does_not_go_on_saying_that_it_works(
    task: Task, model_server: ModelServer
) -> None:
    key = api_keys.add(task.user, "openai_compatible", WRONG, model_server.base_url)
    api_keys.record_check(key, "")
    execute(claimed(task))
    assert ended(task) == ("failed", "", "auth")
    key = ApiKey.objects.get(pk=key.pk)
    assert key.state == KeyState.FAILED
    assert "Incorrect API key provided: •••" in key.check_problem


def test_an_answer_takes_back_what_was_noted_at_its_key(task: Task, model_server: ModelServer) -> None:
    key = api_keys.add(task.user, "openai_compatible", RIGHT, model_server.base_url)
    api_keys.record_check(key, "The provider answered 401.")
    execute(claimed(task))
    assert ended(task)[0] == "done"
    assert ApiKey.objects.get(pk=key.pk).state == KeyState.READY


def test_an_answer_writes_nothing_at_a_key_that_has_no_problem(task: Task, model_server: ModelServer) -> None:
    key = api_keys.add(task.user, "openai_compatible", RIGHT, model_server.base_url)
    execute(claimed(task))
    assert ended(task)[0] == "done"
    assert ApiKey.objects.get(pk=key.pk).checked_at is None


def test_a_server_that_wants_a_key_when_none_was_sent_says_what_is_missing_and_where(
    task: Task, model_server: ModelServer
) -> None:
    execute(claimed(task))
    assert ended(task) == ("failed", "", "no_key")
    task.refresh_from_db()
    assert task.error == f"{model_server.base_url} wants a key, and there is none for it yet."
    assert "Settings → Keys" in task.error_hint


@pytest.mark.parametrize("provider", ["gpt", "claude", "gemini"])
def test_a_server_of_ones_own_may_want_no_key_whatever_it_speaks(
    make_task: MakeTask, model_server: ModelServer, provider: str
) -> None:
    base_url = model_server.base_url if provider == "gpt" else model_server.address
    task = make_task("Go.", provider=provider, model="echo", base_url=base_url)
    Agent.objects.update(owner=None)
    execute(claimed(task))
    assert ended(task)[0] == "done"
    assert len(model_server.asked) == 1
