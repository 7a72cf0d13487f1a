"""What a step tells its model: the question as it is, of what came after it as much as there is room for."""

from __future__ import annotations

from typing import Any

import pytest

from executor.core.compaction import ASKED, TOLD
from executor.core.errors import LimitReached, LLMError, QuestionTooLong
from executor.core.events import ToolFinished
from executor.core.executor import ExecutionStatus, TaskExecutor
from executor.core.limits import Limits
from executor.core.llms.base import Endpoint
from executor.core.messages import Message, ToolCall, ToolResult, Usage, user
from executor.core.record import MemoryRecord
from executor.core.steps import TaskStep
from tests.executor import scripted as script_of
from tests.executor.conftest import MakeScript
from tests.executor.core.test_budget import problems
from tests.executor.core.test_loop import FakeTools
from tests.executor.scripted import Answer, Piece, Script, Scripted, call

QUESTION = user("Find out about the tides.")
LONG = "." * 1_000


class Look(TaskExecutor):
    """One step, with functions."""

    task_steps = (TaskStep("facts", "Facts", "Find out about the tides.", functions=("look",), retries=0),)


class Talkative(FakeTools):
    """Each result has 1,000 characters."""

    async def run(self, call: ToolCall) -> ToolFinished:
        self.ran.append(call.name)
        return ToolFinished(call, ToolResult(call.id, call.name, f"{len(self.ran)}. {LONG}"))


def say(*pieces: Piece, usage: Usage | None = None) -> Answer:
    return script_of.say(*pieces, usage=usage or Usage(output_tokens=2))


def small(script: Script, window: int = 3_000) -> Scripted:
    """About 5,500 bytes are room, and 7,900 are the most that it reads."""
    return Scripted(Endpoint(script.name), context_window=window)


def rounds(number: int, words: str = LONG) -> list[Answer]:
    return [say(f"Round {n} {words}", call("look", topic=f"tide {n}")) for n in range(number)]


def texts(messages: tuple[Message, ...]) -> list[str]:
    return [message.text for message in messages]


async def test_old_results_lose_all_but_their_beginning_before_anything_is_summarised(scripted: MakeScript) -> None:
    script = scripted(*rounds(9, "."), say("Twice a day."))
    result = await Look(small(script), Talkative(), limits=Limits(iterations=20)).execute({})
    assert result.output == {"facts": "Twice a day."}
    told = [found.content for message in script.asked[-1] for found in message.tool_results]
    assert len(told) == 9
    assert "characters are left out here" in told[0]
    assert told[-1] == f"9. {LONG}"
    assert script.asked[-1][0] == QUESTION


async def test_a_loop_in_a_step_is_summarised_and_what_was_asked_stays(scripted: MakeScript) -> None:
    before, after = rounds(6), rounds(6)
    script = scripted(*before, say("Six looks."), *after[:5], say("Eleven looks."), after[5], say("Twice a day."))
    tools = FakeTools()
    result = await Look(small(script, 3_200), tools, limits=Limits(iterations=20)).execute({})
    assert result.output == {"facts": "Twice a day."}
    assert len(tools.ran) == 12
    summaries = [question for question in script.asked if question[-1].text.startswith(ASKED)]
    assert len(summaries) == 2
    for question in script.asked:
        assert question[0] == QUESTION
        if question not in summaries:
            assert not problems(question, question)
    assert any("Six looks." in text for text in texts(summaries[1]))
    last = texts(script.asked[-1])
    assert last[1].startswith(TOLD)
    assert "Eleven looks." in last[1]
    assert "Six looks." not in last[1]


async def test_a_summary_is_no_round_and_what_it_takes_is_counted(scripted: MakeScript) -> None:
    script = scripted(*rounds(6), say("Six looks.", usage=Usage(700, 30)), say("More.", call("look", topic="moon")))
    task = Look(small(script, 3_200), FakeTools(), limits=Limits(iterations=7))
    result = await task.execute({})
    assert isinstance(result.error, LimitReached)
    assert (result.error.limit, task.spent.iterations, task.spent.tokens) == ("iterations", 7, 6 * 2 + 730 + 2)


async def test_another_executor_goes_on_from_the_summary(scripted: MakeScript) -> None:
    record = MemoryRecord()
    one = scripted(*rounds(6), say("Six looks."), say(LLMError("quota", "Used up.")))
    more: Any = {"limits": Limits(iterations=20), "record": record}
    assert (await Look(small(one, 3_200), FakeTools(), **more).execute({})).status == ExecutionStatus.FAILED
    two = scripted(say("Twice a day."))
    result = await Look(small(two, 3_200), FakeTools(), **more).execute({})
    assert result.output == {"facts": "Twice a day."}
    assert two.asked[0] == one.asked[-1]


@pytest.mark.parametrize("answer", [say(""), say("x" * 3_000), say(LLMError("content_filter", "Not that."))])
async def test_where_no_summary_comes_of_it_the_oldest_is_left_out_and_the_model_is_told_so(
    scripted: MakeScript, answer: Answer
) -> None:
    script = scripted(*rounds(6), answer, say("Twice a day."))
    result = await Look(small(script, 3_200), FakeTools(), limits=Limits(iterations=20)).execute({})
    assert result.output == {"facts": "Twice a day."}
    assert script.asked[-1][0] == QUESTION
    assert "no summary" in script.asked[-1][1].text


async def test_a_model_that_nobody_could_ask_for_a_summary_fails_as_always(scripted: MakeScript) -> None:
    script = scripted(*rounds(6), say(LLMError("quota", "Used up.")))
    result = await Look(small(script, 3_200), FakeTools(), limits=Limits(iterations=20)).execute({})
    assert isinstance(result.error, LLMError)
    assert result.error.kind == "quota"


async def test_a_model_that_reads_less_than_anybody_knew_is_told_less_once(scripted: MakeScript) -> None:
    too_long = LLMError("context_too_long", "2,048 tokens at most.")
    script = scripted(*rounds(4), say(too_long), say("Four looks."), say("Twice a day."))
    result = await Look(small(script, 30_000), FakeTools(), limits=Limits(iterations=20)).execute({})
    assert result.output == {"facts": "Twice a day."}
    script = scripted(*rounds(4), say(too_long), say("Four looks."), say(too_long))
    result = await Look(small(script, 30_000), FakeTools(), limits=Limits(iterations=20)).execute({})
    assert isinstance(result.error, LLMError)
    assert result.error.kind == "context_too_long"


# --- a question that is too long by itself ---------------------------------------------------------------------------


class Digest(TaskExecutor):
    """Asks about everything at once, or, where that is too much, about one half after the other."""

    task_steps = (TaskStep("digest", "Digest", required_info=("text",), retries=2),)
    halves = False

    async def handle_digest(self, step_input: dict[str, Any]) -> dict[str, Any]:
        text = step_input["text"]
        try:
            return {"digest": [await self.llm_call("Sum it up.", {"text": text})]}
        except QuestionTooLong:
            if not self.halves:
                raise
            middle = len(text) // 2
            return {"digest": [await self.llm_call("Sum it up.", {"text": t}) for t in (text[:middle], text[middle:])]}


async def test_a_question_that_fits_is_told_whole_although_it_leaves_little_room(scripted: MakeScript) -> None:
    script = scripted(say("Tides."))
    result = await Digest(small(script)).execute({"text": "x" * 5_700})
    assert result.output == {"digest": ["Tides."]}
    assert "x" * 5_700 in script.asked[0][0].text


async def test_a_question_that_is_more_than_its_model_reads_is_an_error_of_its_own(scripted: MakeScript) -> None:
    result = await Digest(small(scripted())).execute({"text": "x" * 9_000})
    assert isinstance(result.error, QuestionTooLong)
    assert result.error.message == "What the step “Digest” asks is more than its model can read."
    assert (result.error.step_id, result.error.step_attempts) == ("digest", 1), "It is not tried again."


async def test_so_is_one_that_only_its_provider_knows_to_be_too_long(scripted: MakeScript) -> None:
    script = scripted(say(LLMError("context_too_long", "1,024 tokens at most.")))
    result = await Digest(small(script)).execute({"text": "x" * 5_000})
    assert isinstance(result.error, QuestionTooLong)
    assert result.error.message == "What the step “Digest” asks is more than its model can read."


async def test_a_handler_may_ask_in_pieces_then(scripted: MakeScript) -> None:
    class Halves(Digest):
        halves = True

    script = scripted(say("One."), say("Two."))
    result = await Halves(small(script)).execute({"text": "x" * 9_000})
    assert result.output == {"digest": ["One.", "Two."]}


async def test_a_model_of_which_nothing_is_known_reads_as_much_as_most_do(scripted: MakeScript) -> None:
    script = scripted(say("Tides."))
    assert (await Digest(script.llm()).execute({"text": "x" * 60_000})).error is None
    result = await Digest(scripted().llm()).execute({"text": "x" * 120_000})
    assert isinstance(result.error, QuestionTooLong)
