"""The suite's model goes on with a plan after whatever part of it was summarised or left out."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from chaos.plans import label, make
from chaos.world import EVERYBODY, Said
from executor.core import compaction
from executor.core.messages import Message, assistant, user
from executor.core.summary import ASKED as AT_LIMIT

PLAN = make(Random(7), 7, "chaos-gpt").text
OLDER = make(Random(6), 6, "chaos-gpt").text


def wire(*messages: Message) -> list[dict[str, Any]]:
    return [{"role": message.role, "content": message.text} for message in messages]


def merged(*messages: Message) -> list[dict[str, Any]]:
    """As some providers are told what nobody answered."""
    found: list[dict[str, Any]] = []
    for message in wire(*messages):
        if found and found[-1]["role"] == message["role"] == "user":
            found[-1]["content"] += f"\n\n{message['content']}"
        else:
            found.append(message)
    return found


ROUNDS = (assistant("Round 1: word"), assistant("Round 2: "))
SUMMARY = compaction.told("Answers so far: 3.", PLAN)


@pytest.mark.parametrize("told", [wire, merged])
@pytest.mark.parametrize(
    ("messages", "answers"),
    [
        ((user(PLAN),), 0),
        ((user(PLAN), *ROUNDS), 2),
        ((user(PLAN), *ROUNDS, user("Word 8: hurry up.")), 2),
        ((user(OLDER), *ROUNDS, user(PLAN)), 0),
        ((SUMMARY,), 3),
        ((SUMMARY, user("Word 8: hurry up.")), 3),
        ((SUMMARY, assistant("Round 4: ")), 4),
        ((compaction.told("Answers so far: 3.", PLAN, is_partial=True), assistant("Round 6: ")), 6),
        ((compaction.told("Answers so far: 3.", OLDER), user(PLAN)), 0),
        ((compaction.told("Answers so far: 3."), user(PLAN), *ROUNDS), 2),
        ((user(PLAN), compaction.told("Answers so far: 3.")), 3),
        ((user(PLAN), compaction.told("Answers so far: 3."), assistant("So be it.")), 4),
    ],
)
def test_it_knows_how_far_it_is(told: Any, messages: tuple[Message, ...], answers: int) -> None:
    said = Said.of(told(*messages))
    assert (said.answers, said.sums_up) == (answers, False)
    assert PLAN in said.plan["content"]


def test_it_sums_up_when_it_is_asked_to() -> None:
    asked = user(f"{compaction.ASKED}, to go on from your summary")
    assert Said.of(wire(user(PLAN), *ROUNDS, asked)) == Said(wire(user(PLAN))[0], 2, True)
    assert not Said.of(wire(user(PLAN), *ROUNDS, user(AT_LIMIT))).sums_up


def test_what_is_given_to_others_has_numbers_of_its_own() -> None:
    plans = [make(Random(seed), 7, "chaos-gpt", EVERYBODY) for seed in range(60)]
    giving = [plan for plan in plans if plan.gives]
    assert giving
    for plan in giving:
        ((*below,),) = plan.gives
        numbers = [n for one in (plan, *below) for together in one.calls for _, n in together if n]
        assert len(set(numbers)) == len(numbers)
        assert all(label(one.text) == one.key for one in below)
