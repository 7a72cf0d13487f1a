"""One answer of Gemini's generateContent, put together from its chunks. Pure: JSON values in, events out.

The wire format is https://ai.google.dev/api/generate-content. A chunk is a whole response with a few more parts; calls
come whole in one part. All parts are kept as they came, because any of them may carry a thought signature, which is
only valid where it was (https://ai.google.dev/gemini-api/docs/thought-signatures).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from executor.core.errors import LLMError
from executor.core.events import (
    FinishReason,
    ModelEvent,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallComplete,
    ToolCallDelta,
    ToolCallStarted,
)
from executor.core.llms._answer import Answer, BrokenOff, PartialCall, count, new_call_id
from executor.core.llms._json import clean, clean_value
from executor.core.messages import Usage

SIGNATURE = "thoughtSignature"

_REASONS: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "pause",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
    "MALFORMED_FUNCTION_CALL": "malformed_tool_call",
    "UNEXPECTED_TOOL_CALL": "malformed_tool_call",
}


class GeminiAnswer(Answer):
    """See `Answer`; `feed` takes a chunk, `whole` also the list of them that is sent without `alt=sse`."""

    def __init__(self) -> None:
        super().__init__()
        self.native: list[Any] = []
        self._started = False
        self._blocked = False
        self._calls: list[PartialCall] = []

    def feed(self, data: Any) -> Iterator[ModelEvent]:
        if not isinstance(data, dict):
            raise LLMError("protocol", "The model's server sent something that is not a part of an answer.")
        if data.get("error"):
            raise BrokenOff(data)
        if not self._started:
            self._started = True
            self.response_id = clean(str(data.get("responseId") or ""))[:200]
            self.model = clean(str(data.get("modelVersion") or ""))[:200]
            yield Started(self.response_id, self.model)
        # It comes with nearly every chunk and counts from the beginning.
        if usage := data.get("usageMetadata"):
            self.usage = _usage(usage)
        feedback = data.get("promptFeedback")
        if isinstance(feedback, dict) and (reason := feedback.get("blockReason")):
            self._end(reason)
            self._blocked = True
        candidates = data.get("candidates")
        candidate = candidates[0] if isinstance(candidates, list) and candidates else None
        if not isinstance(candidate, dict):
            return
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict):
                yield from self._take(part)
        if reason := candidate.get("finishReason"):
            self._end(reason)

    def whole(self, body: Any) -> Iterator[ModelEvent]:
        for chunk in body if isinstance(body, list) else [body]:
            yield from self.feed(chunk)

    def close(self, *, failed: bool = False) -> Iterator[ModelEvent]:
        if failed:
            return
        if any(not call.name for call in self._calls):
            raise LLMError("protocol", "The model asked for a function without saying which.")
        self.reason = self._finish_reason()
        if not self._calls and not self._text:
            self._refuse_nothing()
        self.calls = tuple(call.finish() for call in self._calls)
        for call, finished in zip(self._calls, self.calls, strict=True):
            yield ToolCallComplete(call.position, finished)

    def _take(self, part: dict[str, Any]) -> Iterator[ModelEvent]:
        if says_something(part):
            self.native.append(clean_value(part))
        text, call = part.get("text"), part.get("functionCall")
        if isinstance(text, str):
            yield from self._show([(ReasoningDelta if part.get("thought") else TextDelta)(clean(text))])
        if isinstance(call, dict):
            yield from self._take_call(call)

    def _take_call(self, function: dict[str, Any]) -> Iterator[ModelEvent]:
        provider_id, name = clean(str(function.get("id") or "")), clean(str(function.get("name") or ""))
        call = PartialCall(len(self._calls), new_call_id(), provider_id, name)
        call.fragments.append(json.dumps(function.get("args") or {}, ensure_ascii=False))
        self._calls.append(call)
        self.shown = True
        yield ToolCallStarted(call.position, call.id, name)
        yield ToolCallDelta(call.position, clean(call.raw))

    def _end(self, reason: Any) -> None:
        self.native_reason = clean(str(reason))[:100]
        self.complete = True

    def _finish_reason(self) -> FinishReason:
        # Calls end with STOP like everything else.
        if self._calls:
            return "tool_calls"
        return "content_filter" if self._blocked else _REASONS.get(self.native_reason, "other")

    def _refuse_nothing(self) -> None:
        """An answer in which nothing is said, and that did not end of its own accord, is none."""
        if self.reason == "content_filter":
            what = "the question" if self._blocked else "all of the answer"
            raise LLMError("content_filter", f"The provider's filter held back {what} ({self.native_reason}).")
        if self.native_reason == "MISSING_THOUGHT_SIGNATURE":
            raise LLMError("bad_request", "The provider missed what belongs to earlier calls (thought signatures).")
        if self.reason in ("malformed_tool_call", "other"):
            raise LLMError("protocol", f"The model gave up without an answer ({self.native_reason}).")


def says_something(part: dict[str, Any]) -> bool:
    """Whether a part may be sent back: an empty text is refused, unless it carries a signature."""
    return any(value for name, value in part.items() if name != "thought")


def _usage(usage: Any) -> Usage:
    """Google's counts: the prompt includes what came from the cache, the candidates do not include the thoughts."""
    thoughts = count(usage, "thoughtsTokenCount")
    return Usage(
        input_tokens=count(usage, "promptTokenCount") + count(usage, "toolUsePromptTokenCount"),
        output_tokens=count(usage, "candidatesTokenCount") + thoughts,
        cache_read_tokens=count(usage, "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
    )
