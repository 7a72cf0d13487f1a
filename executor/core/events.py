"""What happens, in the order it happens: the model's stream, and the loop's steps around it.

A model's stream is `Started`, any number of the deltas, and exactly one of `Finished` or `Failed`. The loop passes
these on and adds `ModelAsked`, `ModelRetried`, `ToolsStarted`, `ToolFinished` and `PersonAsked`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from executor.core.errors import LLMError
from executor.core.messages import Message, ToolCall, ToolResult, Usage

if TYPE_CHECKING:
    from tools.core.context import NewFile

FinishReason = Literal[
    "stop", "tool_calls", "length", "context_window", "content_filter", "pause", "malformed_tool_call", "other"
]

# --- what a model streams --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """`is_kept`: the provider goes on with the answer also if nobody listens, and `BaseLlm.resume` fetches it again."""

    response_id: str = ""
    model: str = ""
    is_kept: bool = False


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStarted:
    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    index: int
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallComplete:
    index: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class Finished:
    """The whole answer. `native_reason` is the provider's own word for `reason`."""

    message: Message
    reason: FinishReason
    usage: Usage = field(default_factory=Usage)
    native_reason: str = ""
    response_id: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer, or only part of one: `partial` is what had arrived. `kept` is the id of a response that the provider
    goes on with all the same: it can be fetched, and need not be paid for twice."""

    error: LLMError
    partial: Message | None = None
    usage: Usage = field(default_factory=Usage)
    kept: str = ""


ModelEvent = (
    Started | TextDelta | ReasoningDelta | ToolCallStarted | ToolCallDelta | ToolCallComplete | Finished | Failed
)

# --- what the loop adds ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelAsked:
    """A model is about to be asked `question`; what streams from here on belongs to a new step."""

    question: Sequence[Message] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ModelRetried:
    """The last attempt failed; the next one begins in `delay` seconds.

    If the attempt had `begun`, something of it was shown or has to be paid for: it stays on record as it is, and what
    streams from here on belongs to a new step, which replaces it. Otherwise what streams from here on goes on from it.
    """

    error: LLMError
    attempt: int
    delay: float
    begun: bool = False
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class ToolsStarted:
    """These calls are about to run. Nothing of them has happened until the caller asks for the next event."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """`is_open`: it may have run, and a person is to say what became of it; until then it has no result. With `made_at`
    the result is that of an earlier call, kept since then."""

    call: ToolCall
    result: ToolResult
    files: tuple[NewFile, ...] = ()
    error_kind: str = ""
    is_open: bool = False
    made_at: datetime | None = None
    #: For the person alone: what it said while it ran, and sentences beside the result.
    output: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PersonAsked:
    """These calls wait for somebody's decision. The others are run meanwhile; then the loop ends, without an answer."""

    calls: tuple[ToolCall, ...]


LoopEvent = ModelEvent | ModelAsked | ModelRetried | ToolsStarted | ToolFinished | PersonAsked
