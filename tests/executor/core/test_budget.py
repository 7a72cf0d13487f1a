"""How large a question is, and what is left out of one that is too large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.core.budget import (
    LEFT_OUT,
    LONG_RESULT,
    PICTURE,
    SMALLEST_ROOM,
    TOKENS_PER_BYTE,
    Budget,
    ContextFull,
    Scales,
    clipped,
    coverable,
    learnt,
    pieces,
    pruned,
    size,
)
from executor.core.messages import (
    File,
    Message,
    Native,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    assistant,
    system,
    tool,
    user,
)

LOOK = ToolSpec("look", "Looks.", {"type": "object"})


def asked(number: int, length: int, calls: int = 1) -> list[Message]:
    """An answer that asks for calls, and their results of so many characters each."""
    made = [ToolCall(f"call-{number}-{n}", "look", {"at": n}) for n in range(calls)]
    return [assistant("", *made), tool(*(ToolResult(call.id, "look", "x" * length) for call in made))]


def results(messages: Sequence[Message]) -> list[str]:
    return [result.content for message in messages for result in message.tool_results]


def is_short(content: str) -> bool:
    return "are left out here" in content


@st.composite
def transcripts(draw: st.DrawFn) -> list[Message]:
    """As rows tell them: words, and answers with the results of all their calls."""
    numbers, found = count(), [system("Be kind.")]
    for is_call, length, calls in draw(
        st.lists(st.tuples(st.booleans(), st.integers(0, 6_000), st.integers(1, 3)), max_size=25)
    ):
        number = next(numbers)
        if is_call:
            found += asked(number, length, calls)
        else:
            found += [user("?" * (length // 4)), assistant(f"Answer {number}")]
    return found


def problems(before: Sequence[Message], after: Sequence[Message]) -> list[str]:
    """What a provider would refuse in `after`, which was made from `before`."""
    found = []
    said = [message for message in before if message.role == "assistant"]
    if any(message not in said for message in after if message.role == "assistant"):
        found.append("an answer is not as it was said")
    for piece in pieces(after):
        calls = [call.id for message in piece for call in message.tool_calls]
        given = [result.call_id for message in piece for result in message.tool_results]
        if calls != given:
            found.append(f"{calls} were answered by {given}")
        if piece[0].role == "tool":
            found.append("results without their calls")
    return found


# --- how large it is -------------------------------------------------------------------------------------------------


def test_what_a_provider_reads_is_counted_in_bytes_and_what_the_model_thought_is_not() -> None:
    assert size([user("Grüße")]) == 7
    assert size([Message("assistant", (Reasoning("Hm, well."),))]) == 0
    assert size([tool(ToolResult("1", "look", "fine"))]) == 4
    assert size([user("", File("image/png", "data:image/png;base64,AAAA"))]) == PICTURE
    assert size([], [LOOK]) == len("Looks.") + len("{'type': 'object'}")


def test_a_call_is_as_large_in_the_rows_as_it_was_when_it_was_asked_for() -> None:
    said, kept = ToolCall("1", "look", {"at": 1}, '{ "at":   1 }'), ToolCall("1", "look", {"at": 1}, "")
    assert size([assistant("", said)]) == size([assistant("", kept)]) > 0


def test_what_was_measured_once_is_known_and_nothing_else_is_taken_for_it() -> None:
    scales = Scales()
    for length in range(300):  # Each is gone before the next is made.
        assert scales([user("x" * length)], [replace(LOOK)]) == length + size([], [LOOK])
    assert len(scales._known) == 301


def test_tokens_are_estimated_as_the_provider_counted_them_last_and_rather_too_high() -> None:
    assert learnt(0, 100_000) == TOKENS_PER_BYTE
    assert learnt(900, 1_000) == TOKENS_PER_BYTE, "What stands beside the words weighs too much in a short question."
    assert learnt(30_100, 100_000) == pytest.approx(0.325)
    assert learnt(30_900, 100_000) == learnt(32_000, 100_000), "A little more or less changes nothing that is told."
    assert (learnt(1, 100_000), learnt(900_000, 100_000)) == (0.1, 1.0)


def test_there_is_room_for_what_a_model_reads_without_its_answer_and_the_functions() -> None:
    alone = Budget.of(100_000, 10_000, ratio=0.25)
    assert alone.room == int(90_000 * 0.7 * 4)
    assert Budget.of(100_000, 10_000, [LOOK], 0.25).room == alone.room - size([], [LOOK])
    assert Budget.of(100_000, 90_000, ratio=0.25).room == int(50_000 * 0.7 * 4), "No answer takes all of it."
    assert Budget.of(1_000, 0, [LOOK] * 500).room == SMALLEST_ROOM


# --- what is left out ------------------------------------------------------------------------------------------------


def test_what_fits_is_told_as_it_is() -> None:
    said = [system("Be kind."), user("Go."), *asked(1, 5_000)]
    assert Budget(10_000).fit(said) == said


def test_long_results_go_first_and_the_newest_stay() -> None:
    said = [user("Go."), *asked(1, 4_000), *asked(2, 300), *asked(3, 4_000), *asked(4, 2_500), assistant("Fine.")]
    first, second, third, fourth = results(Budget(10_000).fit(said))
    assert first.startswith("x" * 200 + "\n[3,800 more characters are left out here.")
    assert is_short(third)
    assert (second, fourth) == ("x" * 300, "x" * 2_500)


def test_a_picture_of_earlier_is_told_by_its_name() -> None:
    picture = File("image/png", "data:image/png;base64,AAAA", "tide.png")
    said = [user("What is this?", picture), assistant("A tide."), user("y" * 6_000)]
    first = Budget(8_000).fit(said)[0]
    assert first.parts == (Text("What is this?"), Text("[attached file: tide.png (image/png), shown before]"))


def test_what_a_model_said_is_told_verbatim_with_its_providers_own_form() -> None:
    native = Native("api", "scope", "model", [{"type": "thinking", "signature": "abc"}], "digest")
    call, result = asked(1, 9_000)
    said = [user("Go."), Message("assistant", call.parts, native), result, *asked(2, 3_000), assistant("So.")]
    found = Budget(9_000).fit(said)
    assert found[1] is said[1]
    assert is_short(results(found)[0])


def test_of_results_that_are_too_long_by_themselves_the_longest_are_cut_alike() -> None:
    said = [user("Go."), *asked(1, 300)[:1], tool(ToolResult("call-1-0", "look", "x" * 300))]
    calls = [ToolCall(f"c{n}", "look", {}) for n in range(3)]
    lengths = zip(calls, (700, 20_000, 30_000), strict=True)
    long = tool(*(ToolResult(call.id, "look", "y" * length) for call, length in lengths))
    found = Budget(10_000).fit([*said, assistant("", *calls), long])
    assert size(found) <= 10_000
    short, *cut = results(found)[-3:]
    assert short == "y" * 700
    assert abs(len(cut[0]) - len(cut[1])) < 5
    assert all(map(is_short, cut))


def test_where_words_are_too_many_what_came_first_is_to_be_summarised() -> None:
    said = [message for n in range(30) for message in (user(f"{n} " + "?" * 500), assistant("!" * 500))]
    budget = Budget(10_000)
    with pytest.raises(ContextFull):
        budget.fit(said)
    kept = said[coverable(said, budget.room) :]
    assert 2_000 < size(kept) <= 3_000, "The newest are not touched."


def test_words_that_are_too_many_by_themselves_are_left_to_the_provider() -> None:
    said = [user("Hello."), assistant("Hi."), user("x" * 50_000)]
    assert Budget(10_000).fit(said) == said


def test_who_cannot_wait_for_a_summary_is_told_the_last_words_of_the_person_and_what_came_last() -> None:
    said = [system("Be kind."), user("Go."), *(message for n in range(20) for message in asked(n, 550))]
    found = Budget(5_000).squeeze(said)
    assert found[:3] == [system("Be kind."), LEFT_OUT, user("Go.")]
    assert found[3:] == said[-len(found[3:]) :]
    assert size(found) <= 5_000
    assert not problems(said, found)


@given(transcripts(), st.integers(1_000, 40_000))
def test_whatever_is_left_out_a_provider_takes_the_rest(said: list[Message], room: int) -> None:
    for found in (pruned(said, room), clipped(said, room), clipped(pruned(said, room), room)):
        assert not problems(said, found)
        assert size(found) <= size(said)
        assert len(found) == len(said)
    found = Budget(room).squeeze(said)
    assert not problems([*said, LEFT_OUT], found)


@given(transcripts(), st.integers(1_000, 40_000))
def test_what_is_covered_ends_between_pieces_and_leaves_the_newest(said: list[Message], room: int) -> None:
    cut = coverable(said, room)
    assert pieces(said[:cut]) + pieces(said[cut:]) == pieces(said)
    assert not cut or (size(said[1:cut]) >= room * 0.2 and said[cut:])


@given(transcripts(), st.integers(1_000, 40_000))
def test_what_was_left_out_once_stays_out(said: list[Message], room: int) -> None:
    told = pieces(said)
    before: dict[str, str] = {}
    for upto in range(1, len(told) + 1):
        now = {
            result.call_id: result.content
            for message in pruned([message for piece in told[:upto] for message in piece], room)
            for result in message.tool_results
        }
        assert all(now[call] == content for call, content in before.items() if is_short(content))
        before = now


@given(transcripts(), st.integers(1_000, 40_000))
def test_results_that_came_one_by_one_are_told_as_those_of_the_rows(said: list[Message], room: int) -> None:
    one_by_one = [
        part
        for message in said
        for part in ([tool(one) for one in message.tool_results] if message.role == "tool" else [message])
    ]
    assert results(pruned(one_by_one, room)) == results(pruned(said, room))


def test_a_short_result_is_not_made_longer_by_being_left_out() -> None:
    said = [user("Go."), *asked(1, LONG_RESULT), *asked(2, LONG_RESULT + 1), *asked(3, 3_000)]
    first, second, _ = results(pruned(said, 3_500))
    assert first == "x" * LONG_RESULT
    assert is_short(second)
    assert len(second) < LONG_RESULT
