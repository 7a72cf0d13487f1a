"""One answer of a provider, put together from what it streams. Pure: JSON values in, events out."""

from __future__ import annotations

import abc
import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from executor.core.events import FinishReason, ModelEvent, ReasoningDelta, TextDelta
from executor.core.llms._json import clean, parse_arguments
from executor.core.messages import Message, Part, Reasoning, Text, ToolCall, Usage

_ALPHANUMERIC = string.ascii_letters + string.digits
_LARGEST_COUNT = 2**31 - 1  # What the database's integers hold.


def new_call_id() -> str:
    """Nine letters and digits: the one form of id that every server takes (Mistral's refuse all others)."""
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(9))


def count(values: Any, name: str) -> int:
    """A number of tokens in a provider's JSON, 0 where there is none."""
    value = values.get(name) if isinstance(values, dict) else None
    return min(max(value, 0), _LARGEST_COUNT) if isinstance(value, int) else 0


@dataclass(slots=True)
class PartialCall:
    """A call whose arguments are still being written."""

    position: int
    id: str
    provider_id: str
    name: str = ""
    fragments: list[str] = field(default_factory=list)

    @property
    def raw(self) -> str:
        return "".join(self.fragments)

    @property
    def is_complete(self) -> bool:
        """Whether the arguments so far are a whole JSON object."""
        return self.raw.rstrip().endswith("}") and parse_arguments(self.raw) is not None

    def finish(self) -> ToolCall:
        raw = clean(self.raw)
        return ToolCall(self.id, self.name, parse_arguments(raw), raw, self.provider_id)


class BrokenOff(Exception):
    """The provider says within the answer that it failed; `body` is what it says (see `_http.status_error`)."""

    def __init__(self, body: Any) -> None:
        super().__init__("the provider broke off the answer")
        self.body = body


class Answer(abc.ABC):
    """`feed` it everything that comes, then call `close`; the attributes tell what came."""

    def __init__(self) -> None:
        self.response_id = ""
        #: Whether the provider goes on with it when nobody listens, so that it can be fetched.
        self.is_kept = False
        self.model = ""
        self.usage = Usage()
        self.native_reason = ""
        self.reason: FinishReason = "other"
        self.calls: tuple[ToolCall, ...] = ()
        #: What is to be replayed to this provider (`Native.items`); empty if nothing is.
        self.native: Any = None
        #: Whether anything was streamed that a person may have seen.
        self.shown = False
        #: Whether the provider has said that the answer is complete. Without that, the end of the stream is a failure.
        self.complete = False
        #: Whether nothing at all follows, not even the usage.
        self.ended = False
        self._text: list[str] = []
        self._reasoning: list[str] = []

    @abc.abstractmethod
    def feed(self, data: Any) -> Iterator[ModelEvent]:
        """The events of one piece of the stream (parsed JSON).

        Raises LLMError for what cannot be read, and BrokenOff when the provider says that it failed.
        """

    @abc.abstractmethod
    def close(self, *, failed: bool = False) -> Iterator[ModelEvent]:
        """The events that were held back until it was certain that nothing follows; sets `reason` and `calls`.

        Of an answer that `failed`, no calls are kept. Raises LLMError when the calls cannot be told apart.
        """

    def whole(self, body: Any) -> Iterator[ModelEvent]:
        """The events of an answer that came in one piece, from a server that does not stream."""
        yield from self.feed(body)

    def message_parts(self) -> tuple[Part, ...]:
        """What has arrived so far."""
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        return (*((Reasoning(reasoning),) if reasoning else ()), *((Text(text),) if text else ()), *self.calls)

    def message(self) -> Message:
        return Message("assistant", self.message_parts())

    def _show(self, deltas: list[TextDelta | ReasoningDelta]) -> Iterator[ModelEvent]:
        for delta in deltas:
            if delta.text:
                self.shown = True
                (self._text if isinstance(delta, TextDelta) else self._reasoning).append(delta.text)
                yield delta
