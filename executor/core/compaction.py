"""What was said first, told in short: how a model is asked for that, and what stands for it from then on.

The older part of a transcript goes to the model as words, the summary before it included. What it answers takes its
place. Where it gives nothing that could, what was said is left out, and the model is told so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from executor.core.budget import Budget, size
from executor.core.errors import LLMErrorKind
from executor.core.events import LoopEvent
from executor.core.llms.base import BaseLlm
from executor.core.messages import File, Message, Text, user
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

#: Failures that have nothing to do with the summary: any question would fail alike, so they are dealt with as always.
NOT_HERE: frozenset[LLMErrorKind | str] = FALLS_BACK - {"server", "timeout", "protocol"}


def ask(llm: BaseLlm, older: Sequence[Message], room: int) -> AsyncGenerator[LoopEvent, None]:
    """Ask for a summary of `older`, whose system message and earlier summary come first."""
    return summarise(llm, question(older, room), asked=_TASK.format(words=min(max(room // 80, 60), 600)))


def question(older: Sequence[Message], room: int) -> list[Message]:
    """`older` as it is told, with as much left out of its beginning as the model may not be able to read."""
    kept = next((at for at, message in enumerate(older) if not _stays(message)), len(older))
    rest = Budget(max(room - size(older[:kept]), room // 4)).squeeze([_named(message) for message in older[kept:]])
    return [*older[:kept], *rest]


def _stays(message: Message) -> bool:
    return message.role == "system" or message.text.startswith(TOLD)


def _named(message: Message) -> Message:
    """With the names of files in place of the files."""
    parts = (
        Text(f"[file: {part.name or part.media_type}]") if isinstance(part, File) else part for part in message.parts
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
