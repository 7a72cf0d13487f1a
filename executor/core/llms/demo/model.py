"""Stream the next step of the plan, in the form every model's stream has."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from typing import Any, ClassVar

from executor.core import compaction
from executor.core.errors import LLMError
from executor.core.events import (
    Failed,
    Finished,
    ModelEvent,
    Started,
    TextDelta,
    ToolCallComplete,
    ToolCallDelta,
    ToolCallStarted,
)
from executor.core.llms._answer import new_call_id
from executor.core.llms.base import BaseLlm
from executor.core.llms.demo.planning import Goal, Past, Step, Want, next_step, rounds
from executor.core.llms.demo.reading import LIMIT, Request
from executor.core.llms.demo.shortly import DONE, in_short
from executor.core.llms.demo.skills import understand
from executor.core.llms.demo.skills.help import Help
from executor.core.llms.demo.skills.tables import Table
from executor.core.llms.demo.steps import filled_in, step_question
from executor.core.llms.demo.writing import clean
from executor.core.llms.parameters import CONTEXT_WINDOW, RESPONSE_SCHEMA, Parameter
from executor.core.messages import File, Message, ToolCall, ToolSpec, assistant
from executor.core.summary import ASKED

logger = logging.getLogger(__name__)

#: Earlier messages that a follow-up may refer to.
REMEMBERED = 20
_LABEL = (
    "---\n\n*Demonstration: fixed rules in place of a language model. The function calls and their results are real.*"
)


class Demo(BaseLlm):
    """A model of fixed rules. `pause` is the seconds between two pieces of text, so that it reads as it is written."""

    type: ClassVar[str] = "demo"
    label: ClassVar[str] = "Demonstration"
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = (
        Parameter("pause", "number", "Seconds between two pieces of text, so that it reads as it is written.", 0, 10),
        CONTEXT_WINDOW,
    )

    async def stream(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), **parameters: Any
    ) -> AsyncGenerator[ModelEvent, None]:
        pause = _seconds((self.parameters | parameters).get("pause", 0.02))
        yield Started(model="demo")
        try:
            message = answer(messages, tools, parameters.get(RESPONSE_SCHEMA))
        except Exception as error:  # The contract of a stream: a fault of a skill is an answer too.
            logger.exception("The demonstration could not plan the next step")
            problem = f"The demonstration stumbled over this request ({type(error).__name__}). Put it differently."
            yield Failed(LLMError("bad_request", problem))
            return
        for piece in _pieces(message.text):
            await asyncio.sleep(pause)
            yield TextDelta(piece)
        for index, call in enumerate(message.tool_calls):
            await asyncio.sleep(pause)
            yield ToolCallStarted(index, call.id, call.name)
            yield ToolCallDelta(index, call.raw_arguments)
            yield ToolCallComplete(index, call)
        # Usage stays zero: no tokens are counted because none exist.
        yield Finished(message, "tool_calls" if message.tool_calls else "stop", model="demo")


def answer(messages: Sequence[Message], tools: Sequence[ToolSpec], schema: dict[str, Any] | None = None) -> Message:
    """The next assistant message: a function of the transcript and the functions at hand, and of nothing else but for
    ids of calls. With a `schema` it is JSON of that form."""
    if messages and messages[-1].text.startswith(compaction.ASKED):
        return assistant(in_short(messages[:-1]))
    messages = [message for message in messages if not message.text.startswith(compaction.TOLD)]
    asked = [index for index, message in enumerate(messages) if message.role == "user"]
    if not asked:
        return assistant("Ask me something, and I will see which functions help.")
    if messages[-1].text == ASKED:
        return assistant(_summary(messages[:-1]))
    names = {spec.name for spec in tools}
    step = step_question(messages[asked[-1]].text)
    if schema:
        said = (step_question(messages[index].text) for index in reversed(asked))  # The last may correct an answer.
        known = next((question.known for question in said if question), {})
        return assistant(json.dumps(filled_in(schema, known), ensure_ascii=False))
    all_rounds = rounds(messages)
    goals: tuple[Goal, ...] = ()
    # Each message is understood in the light of those before it: "and in miles?" goes on from what came before.
    for index in asked[-REMEMBERED:]:
        past = Past(tuple(one for one in all_rounds if one.at < index))
        files = tuple(part.name for part in messages[index].parts if isinstance(part, File))
        goals += (understand(Request.of(messages[index].text, goals, past, files)),)
    goal = goals[-1]
    if step and (step.wants(names) or isinstance(goal, Help) or not names):
        if not step.wants(names):
            return assistant(clean(step.written()))
        goal = step
    elif isinstance(goal, Help):
        goal = goal.given(names)
    wanted = next_step(goal, past, [one for one in all_rounds if one.at > asked[-1]], names)
    text = clean(wanted.say)
    if not wanted.wants:
        text += _footer(
            messages[asked[-1]], first=len(asked) == 1, introduced=isinstance(goal, Help), reads=isinstance(goal, Table)
        )
    return assistant(text, *(_new_calls(wanted) if step else _calls(wanted, messages)))


def _summary(messages: Sequence[Message]) -> str:
    """What was done since the last request, as far as results tell."""
    since = max((at for at, one in enumerate(messages) if one.role == "user" and not DONE.match(one.text)), default=0)
    done = [name for message in messages[since:] for name in DONE.findall(message.text)]
    calls = ", ".join(f"`{name}` ({count})" if count > 1 else f"`{name}`" for name, count in Counter(done).items())
    return f"I reached a limit before I was done. What I called so far: {calls or 'nothing'}. The rest is left to do."


def _calls(step: Step, messages: Sequence[Message]) -> list[ToolCall]:
    """Ids count on from the calls in the transcript, and from the highest of ours, should its beginning be cut off."""
    earlier = [call.id for message in messages for call in message.tool_calls]
    ours = [int(match[1]) for id_ in earlier if (match := re.fullmatch(r"call-(\d{1,9})", id_))]
    first = max([len(earlier), *(number + 1 for number in ours)])
    return [_call(f"call-{first + offset}", want) for offset, want in enumerate(step.wants)]


def _new_calls(step: Step) -> list[ToolCall]:
    """A step of a declared task asks many questions, each with a transcript of its own, and may ask them once more."""
    return [_call(new_call_id(), want) for want in step.wants]


def _call(id_: str, want: Want) -> ToolCall:
    return ToolCall(id_, want.name, want.arguments, json.dumps(want.arguments, ensure_ascii=False))


def _footer(request: Message, *, first: bool, introduced: bool, reads: bool) -> str:
    notes = []
    if len(request.text) > LIMIT:
        notes.append(f"*Your message is long. I read its first {LIMIT:,} characters.*")
    if not reads and any(isinstance(part, File) for part in request.parts):
        notes.append("*I cannot read attached files, other than to analyse a CSV file.*")
    if first and not introduced:
        notes.append(_LABEL)
    return "".join(f"\n\n{note}" for note in notes)


def _pieces(text: str) -> list[str]:
    """A word or two at a time; together they are exactly `text`."""
    return re.findall(r"\s*\S{1,60}(?:[^\S\n]+\S{1,12}(?!\S))?\s*|\s+", text)


def _seconds(value: Any) -> float:
    return min(max(float(value), 0.0), 1.0) if isinstance(value, int | float) else 0.02
