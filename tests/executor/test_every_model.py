"""Each provider's own format, from the task's row to the wire and back; and one conversation across all of them.

The fake server refuses what the real ones refuse: thoughts that are missing, changed, or another model's.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from executor import decisions
from executor.models import Status, Step, Task
from tests.executor.conftest import MakeTask, claimed
from tests.executor.test_run import execute
from tests.fakes.fixtures import _model_server, model_server
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Call, Turn
from users import api_keys
from users.models import User

__all__ = ["_model_server", "model_server"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

MODELS = {
    "gpt": "gpt-6.1-sol",
    "claude": "claude-sonnet-5-5",
    "gemini": "gemini-3.8-flash",
    "openai_compatible": "qwen3:8b",
}
WORDS = "the quick brown fox"


def agent(provider: str, server: ModelServer) -> dict[str, Any]:
    """The settings of an agent that is given by base URL only, with a key of alice for that address."""
    base_url = server.base_url if provider in ("gpt", "openai_compatible") else server.address
    alice, _ = User.objects.get_or_create(username="alice")
    if api_keys.find(alice, provider, base_url) is None:
        api_keys.add(alice, provider, f"sk-of-alice-for-{provider}-0123456789", base_url)
    parameters = {"include_thoughts": True} if provider == "gemini" else {}
    return {"provider": provider, "model": MODELS[provider], "base_url": base_url, "parameters": parameters}


def calculate(expression: str) -> Call:
    return Call("calculate", {"expression": expression})


def done(task: Task) -> list[Step]:
    task.refresh_from_db()
    assert (task.status, task.error) == (Status.DONE, "")
    return list(task.steps.order_by("seq"))


@pytest.mark.parametrize("provider", MODELS)
def test_a_task_of_six_steps_runs_through_with_parallel_calls_and_its_thoughts_replayed(
    provider: str, make_task: MakeTask, model_server: ModelServer
) -> None:
    model_server.script(
        [
            Turn(
                reasoning="Two at once.",
                text="I begin. ",
                calls=(calculate("6*7"), Call("text_statistics", {"text": WORDS})),
            ),
            *(Turn(reasoning=f"Step {n}.", calls=(calculate(f"{n}+1"),)) for n in range(2, 6)),
            Turn(reasoning="That was all.", text="It is 42, in 4 words."),
        ]
    )
    task = make_task(
        "Go.", functions=["calculate", "text_statistics"], max_iterations=10, **agent(provider, model_server)
    )
    execute(claimed(task))
    steps = done(task)
    assert [step.kind for step in steps] == ["model", "tool", "tool"] + ["model", "tool"] * 4 + ["model"]
    assert {step.status for step in steps} == {"done"}
    assert "42" in steps[1].result
    assert json.loads(steps[2].result)["words"] == 4
    assert steps[-1].text == "It is 42, in 4 words."
    assert steps[0].reasoning == "Two at once."
    assert (task.model_calls, task.tool_calls, task.failed_calls) == (6, 6, 0)
    assert task.output_tokens > 0

    asked = [json.dumps(request.body) for request in model_server.asked]
    assert len(asked) == 6
    # What came back from each answer goes out with the next question, thoughts included, and nothing was refused.
    for step, question in zip([s for s in steps if s.kind == "model"], asked[1:], strict=False):
        assert step.native
        assert replayed(provider, step) in question
    assert not model_server.left_over


def replayed(provider: str, step: Step) -> str:
    """Something of the provider's own form of an answer that no rebuilding could bring back."""
    assert step.native
    items = step.native["items"]
    match provider:
        case "gpt":
            return str(next(item["encrypted_content"] for item in items if item["type"] == "reasoning"))
        case "claude":
            return str(next(item["signature"] for item in items if item["type"] == "thinking"))
        case "gemini":
            return str(next(part["thoughtSignature"] for part in items if "thoughtSignature" in part))
        case _:
            return step.reasoning


def test_one_conversation_changes_its_provider_again_and_again(make_task: MakeTask, model_server: ModelServer) -> None:
    previous: Task | None = None
    order = ["claude", "gemini", "gpt", "openai_compatible", "claude", "gpt"]
    for number, provider in enumerate(order, 1):
        turns = [
            Turn(reasoning=f"Thought {number}.", calls=(calculate(f"{number}*100"), calculate(f"{number}*1000"))),
            Turn(reasoning="So.", text=f"Answer {number}."),
        ]
        model_server.script(turns)
        settings = agent(provider, model_server)
        task = make_task(f"Question {number}?", previous=previous, functions=["calculate"], **settings)
        execute(claimed(task))
        assert done(task)[-1].text == f"Answer {number}."
        previous = task
    last = json.dumps(model_server.asked[-1].body)
    for number in range(1, len(order) + 1):
        assert f"Question {number}?" in last
        assert f"{number}00" in last
        assert f"Answer {number}." in last or number == len(order)
    # Thoughts went back to nobody but who had them: of the six tasks' first thoughts only GPT's own may be there.
    for number in (1, 2, 4, 5):
        assert f"Thought {number}." not in last


@pytest.mark.parametrize("provider", MODELS)
def test_a_key_that_is_refused_says_so_and_is_shown_nowhere(
    provider: str, make_task: MakeTask, model_server: ModelServer
) -> None:
    model_server.api_key = "another key"
    task = make_task("Go.", **agent(provider, model_server))
    execute(claimed(task))
    task.refresh_from_db()
    assert (task.status, task.error_kind) == (Status.FAILED, "auth")
    assert f"sk-of-alice-for-{provider}" not in json.dumps([*task.steps.values(), *Task.objects.values()], default=str)


@pytest.mark.parametrize("provider", MODELS)
def test_every_provider_takes_a_note_of_the_loop_guard_and_the_question_for_a_summary(
    provider: str, make_task: MakeTask, model_server: ModelServer
) -> None:
    again = [Turn(reasoning=f"Hm {n}.", calls=(calculate("6*7"),)) for n in range(4)]
    model_server.script([*again, Turn(reasoning="Enough.", text="It was 42 each time.")])
    task = make_task("Go.", functions=["calculate"], max_iterations=4, **agent(provider, model_server))
    execute(claimed(task))
    decisions.summarise(task.decisions.get(), task.user)
    execute(claimed(task))
    task.refresh_from_db()
    assert (task.status, task.steps.latest("seq").text) == (Status.STOPPED, "It was 42 each time.")
    asked = [json.dumps(request.body) for request in model_server.asked]
    assert ["go in circles" in question for question in asked] == [False, False, False, True, False]
    assert "You cannot call functions any more" in asked[-1]
    assert "[calculate gave: " in asked[-1]
    assert not model_server.left_over
