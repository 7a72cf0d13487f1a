"""What was said first, told in short: when that is done, how a model is asked for it, what stands for it from then on.

The older part of a transcript goes to the model as words, the summary before it included. What it answers takes its
place. Where it gives nothing that could, what was said is left out, and the model is told so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from executor.core.budget import Budget, ContextFull, coverable, size
from executor.core.errors import LLMError, LLMErrorKind
from executor.core.events import Failed, Finished, LoopEvent, ModelAsked, ModelRetried, Started
from executor.core.llms.base import BaseLlm
from executor.core.messages import File, Message, Text, Usage, user
from executor.core.retry import FALLS_BACK
from executor.core.summary import summarise

#: The beginnings of what a model is asked, and of what it is told instead of all that was said.
ASKED = "(This is not from the person.) There is no room for all of this conversation any more. Sum it up for yourself"
TOLD = "(This is not from the person.) What was said before this is left out here."

_TASK = (
    f"{ASKED}, to go on from your summary and from what is said after it: what the person wants and likes, what was "
    "decided, facts and numbers that may be needed again, names of files, what the functions did, what is left to do. "
    "In the language of the conversation, in at most {words} words. Answer with the summary alone; do not go on with "
    "the work."
)
#: A summary takes this share of the room at most; it is asked for with less.
LONGEST = 0.25
#: The request of the person that is being worked on stays, so much of it.
REQUEST = 4_000
#: … and of each file that came with it.
FILE = 4_000

#: Failures that have nothing to do with the summary: any question would fail alike, so they are dealt with as always.
NOT_HERE: frozenset[LLMErrorKind | str] = FALLS_BACK - {"server", "timeout", "protocol"}
#: A provider that says that a question is too long is asked one that has so much of it, at the most.
SMALLER = 0.6


class Shortening:
    """What is done for a loop whose question is too long. `compact` has what was said first summarised, so that so many
    bytes are enough, and says whether it could."""

    def __init__(self, compact: Callable[[int], Awaitable[bool]]) -> None:
        self.is_hopeless = False  # Only leaving out is left.
        self._compact = compact
        self._too_long_at = -1

    def fit(self, budget: Budget) -> Callable[[Sequence[Message]], Sequence[Message]]:
        """For the loop: see `solve`."""
        return budget.squeeze if self.is_hopeless else budget.fit

    async def helps(self, error: ContextFull | LLMError, room: int, asked: int, rounds: int) -> bool:
        """Whether the loop, which ended with `error` after so many `rounds`, may begin anew. There was `room` for so
        many bytes, and so many were `asked`.

        A model that reads less than anybody knew is told less, once for each question.
        """
        if isinstance(error, ContextFull):
            self.is_hopeless = not await self._compact(room)
            return True
        is_new, self._too_long_at = self._too_long_at < rounds, rounds
        return error.kind == "context_too_long" and is_new and await self._compact(int(asked * SMALLER))


class Minutes(Protocol):
    """Who writes down how a summary comes to be."""

    async def asked(self, size: int) -> None:
        """A model is asked, with so many bytes; or once more."""

    async def accepted(self, response_id: str) -> None:
        """The provider keeps the response."""

    async def broke_off(self, error: LLMError, usage: Usage, *, begun: bool) -> None:
        """What was asked last came to nothing, and has to be paid for if it had `begun`."""

    async def left_out(self, error: LLMError, usage: Usage) -> None:
        """There is no summary, for this reason: what it was about is left out."""

    async def finished(self, event: Finished) -> None:
        """This stands for what it was about."""


async def compact(events: AsyncGenerator[LoopEvent, None], room: int, minutes: Minutes) -> None:
    """Have what `ask` gives written down. Raises LLMError where another question would fail as well."""
    size_asked = 0
    async with aclosing(events):
        async for event in events:
            match event:
                case ModelAsked(question):
                    size_asked = size(question)
                    await minutes.asked(size_asked)
                case Started(response_id, is_kept=True):
                    await minutes.accepted(response_id)
                case ModelRetried(error, begun=True, usage=usage):
                    await minutes.broke_off(error, usage, begun=True)
                    await minutes.asked(size_asked)
                case Failed(error, usage=usage) if error.kind in NOT_HERE:
                    await minutes.broke_off(error, usage, begun=error.partial)
                    raise error
                case Failed(error, usage=usage):
                    await minutes.left_out(error, usage)
                    return
                case Finished(message, usage=usage) if why := problem(message.text, room):
                    await minutes.left_out(LLMError("protocol", why, partial=True), usage)
                case Finished():
                    await minutes.finished(event)


def ask(
    llm: BaseLlm,
    older: Sequence[Message],
    room: int,
    before: Sequence[Message] = (),
    kept: str = "",
    longest: Callable[[], int | None] = lambda: None,
) -> AsyncGenerator[LoopEvent, None]:
    """Ask for a summary of `older`, whose system message and earlier summary come first. What is said `before` it stays
    beside the summary, so there is `room` without it. `kept` and `longest`: see `summarise`."""
    asked = _TASK.format(words=min(max(room // 80, 60), 600))
    return summarise(llm, [*before, *question(older, room)], kept, asked, longest)


def question(older: Sequence[Message], room: int) -> list[Message]:
    """`older` as it is told, with as much left out of its beginning as the model may not be able to read."""
    kept = next((at for at, message in enumerate(older) if not _stays(message)), len(older))
    rest = Budget(max(room - size(older[:kept]), room // 4)).squeeze([_named(message) for message in older[kept:]])
    return [*older[:kept], *rest]


def worth_it(said: Sequence[Message], room: int) -> int:
    """How many of the first messages are to be summarised, the summary before among them; 0 if that would not help."""
    before = sum(map(_stays, said[:1]))
    older = coverable(said[before:], room)
    return older and before + older


def _stays(message: Message) -> bool:
    return message.role == "system" or message.text.startswith(TOLD)


def _named(message: Message) -> Message:
    """With the names of files in place of the files."""
    parts = (
        Text(f"[file: {part.name or part.media_type}]\n{part.text[:FILE]}".strip()) if isinstance(part, File) else part
        for part in message.parts
    )
    return replace(message, parts=tuple(parts), native=None)


def problem(summary: str, room: int) -> str:
    """Why this cannot stand for what was said, as a sentence; "" if it can."""
    if not summary.strip():
        return "The model answered with nothing."
    if size([user(summary)]) > room * LONGEST:
        return "The summary is too long."
    return ""


def told(summary: str, request: str = "", *, is_partial: bool = False) -> Message:
    """What stands for all that was said. `request` is what the person wants at the moment, if that was said before;
    `is_partial`: more was left out than the summary tells."""
    lines = [TOLD]
    if summary:
        lines.append(f"In short:\n\n{summary}")
    if is_partial:
        lines.append("There was no summary of what was said last before this. Ask the person if you need it.")
    if request:
        lines.append(f"What you work on is this request of the person, word for word:\n\n{_cut(request)}")
    return user("\n\n".join(lines))


def _cut(request: str) -> str:
    return request if len(request) <= REQUEST else f"{request[:REQUEST]} […]"
