"""A model that goes in circles is told so, and is stopped where that does not help."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from executor.core.errors import GoingInCircles, LimitReached
from executor.core.guard import STEER_AT, STOP_AT, Guard
from executor.core.limits import Limits
from executor.core.messages import Message, ToolResult, assistant, tool, user
from executor.core.validation import with_corrections
from tests.executor.conftest import MakeScript
from tests.executor.core.test_loop import FakeTools, run
from tests.executor.scripted import call, say

Result = tuple[str, str, str, bool]


def ok(name: str, argument: str = "x", result: str = "fine") -> Result:
    return name, argument, result, False


def bad(name: str, argument: str = "x", result: str = "It broke.") -> Result:
    return name, argument, result, True


def rounds(*answers: Sequence[Result]) -> list[Message]:
    """An answer for each, with its calls and their results."""
    messages: list[Message] = []
    for answer in answers:
        calls = [call(name, argument=argument) for name, argument, _, _ in answer]
        results = [ToolResult(one.id, one.name, text, failed) for one, (_, _, text, failed) in zip(calls, answer)]  # noqa: B905
        messages += [assistant("", *calls), tool(*results)]
    return messages


def notes(transcript: Sequence[Message]) -> list[str]:
    """What the model is told with its next question, without what was said."""
    guard = Guard()
    guard.look(transcript)
    return [message.text for message in guard.steer(transcript) if message not in transcript]


ASKED = [user("Go.")]


def test_the_same_call_with_the_same_result_is_told_at_the_third_time_and_ends_it_at_the_fifth() -> None:
    assert (STEER_AT, STOP_AT) == (3, 5)
    same = [[ok("look")]] * 5
    assert notes(ASKED + rounds(*same[:2])) == []
    (told,) = notes(ASKED + rounds(*same[:3]))
    assert "you called look 3 times with the same arguments and the same result" in told
    assert len(notes(ASKED + rounds(*same[:4]))) == 2
    with pytest.raises(GoingInCircles, match="It went in circles: it called look 5 times") as stopped:
        notes(ASKED + rounds(*same))
    assert isinstance(stopped.value, LimitReached)
    assert (stopped.value.limit, stopped.value.kind) == ("loop", "loop")


def test_they_need_not_follow_each_other() -> None:
    between = [ok("look"), ok("list", "a"), ok("look"), ok("list", "b"), ok("list", "c"), ok("look")]
    assert len(notes(ASKED + rounds(*([one] for one in between)))) == 1


@pytest.mark.parametrize(
    "different",
    [
        [[ok("look", str(n))] for n in range(9)],
        [[ok("look", result=str(n))] for n in range(9)],
        [[ok(f"look{n}")] for n in range(9)],
        [[ok("look")] * 9],  # In one answer, side by side: it was never told better.
    ],
    ids=["arguments", "results", "functions", "at once"],
)
def test_what_differs_is_no_circle(different: list[list[Result]]) -> None:
    assert notes(ASKED + rounds(*different)) == []


def test_arguments_are_the_same_in_whatever_order_they_are_written() -> None:
    found: list[Message] = []
    for arguments in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 2}):
        one = call("look", **arguments)
        found += [assistant("", one), tool(ToolResult(one.id, "look", "fine"))]
    assert len(notes(ASKED + found)) == 1


def test_the_same_error_in_a_row_counts_whatever_was_asked_for() -> None:
    errors = [[bad("send", str(n))] for n in range(5)]
    assert notes(ASKED + rounds(*errors[:2])) == []
    (told,) = notes(ASKED + rounds(*errors[:3]))
    assert "you called send 3 times in a row and got the same error each time" in told
    with pytest.raises(GoingInCircles, match="send 5 times in a row"):
        notes(ASKED + rounds(*errors))


def test_what_works_in_between_or_fails_otherwise_breaks_the_row() -> None:
    fails = [bad("send", str(n)) for n in range(5)]
    works = ok("look", "y")
    assert notes(ASKED + rounds([fails[0]], [fails[1]], [works], [fails[2]], [fails[3]])) == []
    assert notes(ASKED + rounds([fails[0]], [fails[1]], [fails[2], works])) == []
    assert notes(ASKED + rounds([fails[0]], [fails[1]], [bad("send", "9", "Something else.")], [fails[2]])) == []


def test_going_back_and_forth_is_told_at_once() -> None:
    a, b = [ok("look", "a")], [ok("list", "b")]
    assert notes(ASKED + rounds(a, b, a)) == []
    (told,) = notes(ASKED + rounds(a, b, a, b))
    assert "back and forth between look and list" in told
    with pytest.raises(GoingInCircles):
        notes(ASKED + rounds(a, b, a, b, a, b, a, b, a))
    assert notes(ASKED + rounds(a, b, a, [ok("list", "b", "new")])) == []


def test_what_was_told_stays_where_it_was_told() -> None:
    """Byte by byte: a prefix of the next question, also for who reads the transcript anew, as after a crash."""
    grown, guard = ASKED + rounds(*[[ok("look")]] * 3), Guard()
    guard.look(grown)
    before = list(guard.steer(grown))
    grown += rounds([ok("list")], [ok("look", "z")])
    guard.look(grown)
    assert list(guard.steer(grown))[: len(before)] == before
    anew = Guard()
    anew.look(grown)
    assert list(anew.steer(grown)) == list(guard.steer(grown))


def test_results_that_came_one_by_one_are_the_same_as_those_read_together() -> None:
    one, two = call("look", argument="a"), call("look", argument="b")
    first, second = (ToolResult(one.id, "look", "fine"), ToolResult(two.id, "look", "fine"))
    early = ASKED + rounds(*[[ok("look", "a"), ok("look", "b")]] * 2)
    live = [*early, assistant("", one, two), tool(second), tool(first)]
    read = [*early, assistant("", one, two), tool(first, second)]
    assert notes(live) == notes(read) != []


def test_a_word_of_the_person_begins_the_count_anew() -> None:
    earlier = ASKED + rounds(*[[ok("look")]] * 5)
    assert notes([*earlier, user("Go on."), *rounds([ok("look")], [ok("look")])])[2:] == []
    steered = [*ASKED, *rounds([ok("look")], [ok("look")]), user("Slowly."), *rounds([ok("look")])]
    assert notes(steered) == []


def test_what_nobody_was_told_is_not_told_later() -> None:
    """The round at which an earlier task ended had no question behind it."""
    assert notes([*ASKED, *rounds(*[[ok("look")]] * 3), user("Go on.")]) == []


def test_it_goes_together_with_corrections_of_the_answers_form() -> None:
    schema = {"type": "object"}
    transcript = [*ASKED, *rounds(*[[ok("look")]] * 3), assistant("No JSON."), *rounds([ok("list")])]
    guard = Guard()
    guard.look(transcript)
    told = guard.steer(with_corrections(transcript, schema))
    assert [message.role for message in told[7:]] == ["user", "assistant", "user", "assistant", "tool"]
    assert "go in circles" in told[7].text
    assert "does not have the form" in told[9].text


async def test_the_loop_tells_and_then_stops(scripted: MakeScript) -> None:
    tools, script = FakeTools(), scripted(*[say(call("look")) for _ in range(5)])
    with pytest.raises(GoingInCircles):
        await run(script.llm(), tools, ASKED, Limits(iterations=5))
    assert tools.ran == ["look"] * 5
    assert ["go in circles" in asked[-1].text for asked in script.asked] == [False, False, False, True, True]
