"""One answer of a Chat Completions server, put together from its chunks.

Pure: JSON values in, events out. What compatible servers do differently from OpenAI is dealt with here.
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
from executor.core.llms._answer import Answer, PartialCall, count, new_call_id
from executor.core.llms._json import clean
from executor.core.messages import Usage

_REASONING_FIELDS = ("reasoning_content", "reasoning")


class ChatAnswer(Answer):
    """See `Answer`; `feed` takes a chunk, or the whole body of a server that does not stream."""

    def __init__(self) -> None:
        super().__init__()
        self.native: dict[str, str] = {}
        self._started = False
        self._refused = False
        self._half = ""
        self._thinking = _ThinkTags()
        self._calls: list[PartialCall] = []
        self._call_at: dict[int, PartialCall] = {}

    def feed(self, data: Any) -> Iterator[ModelEvent]:
        chunk = data
        if not isinstance(chunk, dict):
            raise LLMError("protocol", "The model's server sent something that is not a part of an answer.")
        if not self._started:
            self._started = True
            self.response_id = clean(str(chunk.get("id") or ""))[:200]
            self.model = clean(str(chunk.get("model") or ""))[:200]
            yield Started(self.response_id, self.model)
        if usage := chunk.get("usage"):
            self.usage = _usage(usage)
        # The chunk with the usage has no choices, and some servers send chunks without the field.
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        # A server that does not stream answers with a whole `message` where others send deltas.
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            yield from self._take_delta(delta)
        if reason := choice.get("finish_reason"):
            self.native_reason = clean(str(reason))[:100]
            self.complete = True

    def close(self, *, failed: bool = False) -> Iterator[ModelEvent]:
        if self._half:
            yield from self._show(self._thinking.feed(clean(self._half)))
            self._half = ""
        yield from self._show(self._thinking.close())
        if failed:
            return
        if any(not call.name for call in self._calls):
            raise LLMError("protocol", "The model asked for a function without saying which.")
        # An answer that was cut short may end inside a call. Such a call is dropped: it must never be run, and
        # kept without a result it would make every later request invalid.
        cut = self.native_reason in ("length", "content_filter")
        complete = [call for call in self._calls if not cut or call.is_complete]
        self.calls = tuple(call.finish() for call in complete)
        for call, finished in zip(complete, self.calls, strict=True):
            yield ToolCallComplete(call.position, finished)
        self.reason = self._finish_reason()

    def _take_delta(self, delta: dict[str, Any]) -> Iterator[ModelEvent]:
        for name in _REASONING_FIELDS:
            if isinstance(thought := delta.get(name), str) and thought:
                self.native[name] = self.native.get(name, "") + thought
                yield from self._show([ReasoningDelta(clean(thought))])
                break
        if content := delta.get("content"):
            yield from self._take_content(content)
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            self._refused = True
            yield from self._show([TextDelta(clean(refusal))])
        calls = delta.get("tool_calls")
        for part in calls if isinstance(calls, list) else ():
            if isinstance(part, dict):
                yield from self._take_call(part)

    def _take_content(self, content: Any) -> Iterator[ModelEvent]:
        if isinstance(content, list):
            # Mistral sends typed parts here once its models think.
            for part in content:
                if isinstance(part, dict) and part.get("type") == "text":
                    yield from self._take_content(str(part.get("text") or ""))
                elif isinstance(part, dict) and part.get("type") == "thinking":
                    yield from self._show([ReasoningDelta(clean(text)) for text in _texts(part.get("thinking"))])
            return
        if not isinstance(content, str):
            return
        text = self._half + content
        # Half of a surrogate pair waits for its other half.
        self._half = text[-1] if text and "\ud800" <= text[-1] <= "\udbff" else ""
        yield from self._show(self._thinking.feed(clean(text.removesuffix(self._half) if self._half else text)))

    def _take_call(self, part: dict[str, Any]) -> Iterator[ModelEvent]:
        function = part.get("function")
        function = function if isinstance(function, dict) else {}
        provider_id = clean(str(part.get("id") or ""))
        name = clean(str(function.get("name") or ""))
        arguments = function.get("arguments")
        # Ollama sends the arguments as an object, others as null.
        fragment = arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments)
        index = part.get("index")
        # Old servers leave the index out: then it is the call that was last spoken of.
        call = self._call_at.get(index) if isinstance(index, int) else self._calls[-1] if self._calls else None
        if call is None or self._begins_another(call, provider_id, name, fragment):
            call = PartialCall(len(self._calls), new_call_id(), provider_id)
            self._calls.append(call)
        if isinstance(index, int):
            self._call_at[index] = call
        if name and not call.name:
            self.shown = True
            call.name = name
            yield ToolCallStarted(call.position, call.id, name)
        if fragment:
            call.fragments.append(fragment)
            yield ToolCallDelta(call.position, clean(fragment))

    @staticmethod
    def _begins_another(call: PartialCall, provider_id: str, name: str, fragment: str) -> bool:
        """Whether this part of a call is the first of a new one although its index is that of `call`.

        Ollama gives every parallel call the index 0; some servers also repeat the id, or give none. Only the first part
        of a call carries a name, except where a server repeats it in each: then the id or open arguments tell.
        """
        if not name or not call.name:
            return False
        if name != call.name or (provider_id and provider_id != call.provider_id):
            return True
        return bool(fragment) and call.is_complete

    def _finish_reason(self) -> FinishReason:
        # The word alone never decides whether functions run: Ollama says "stop" with calls, others the reverse.
        if self.calls:
            return "tool_calls"
        if self._refused:
            return "content_filter"
        match self.native_reason:
            case "stop" | "tool_calls" | "function_call" | "":
                return "stop"
            case "length":
                return "length"
            case "content_filter":
                return "content_filter"
            case _:
                return "other"


class _ThinkTags:
    """Tells `<think>…</think>` at the beginning of an answer from the rest, across chunk borders."""

    OPEN, CLOSE = "<think>", "</think>"

    def __init__(self) -> None:
        self._state = "start"
        self._held = ""

    def feed(self, text: str) -> list[TextDelta | ReasoningDelta]:
        if self._state == "text":
            return [TextDelta(text)]
        text = self._held + text
        self._held = ""
        if self._state == "start":
            begin = text.lstrip()
            if len(begin) < len(self.OPEN) and self.OPEN.startswith(begin):
                self._held = text
                return []
            if not begin.startswith(self.OPEN):
                self._state = "text"
                return [TextDelta(text)]
            self._state, text = "opened", begin.removeprefix(self.OPEN)
        # The empty lines around the thoughts belong neither to them nor to the answer.
        if self._state == "opened":
            text = text.lstrip()
            self._state = "thinking" if text else "opened"
        if self._state == "thinking":
            thought, closed, rest = text.partition(self.CLOSE)
            if not closed:
                thought = thought[: len(thought) - _overlap(thought, self.CLOSE)].rstrip()
                self._held = text[len(thought) :]
                return [ReasoningDelta(thought)]
            self._state = "closed"
            return [ReasoningDelta(thought.rstrip()), *self.feed(rest)]
        if self._state == "closed":
            text = text.lstrip()
            self._state = "text" if text else "closed"
        return [TextDelta(text)]

    def close(self) -> list[TextDelta | ReasoningDelta]:
        held, self._held = self._held, ""
        return [ReasoningDelta(held.rstrip()) if self._state == "thinking" else TextDelta(held)]


def _overlap(text: str, tag: str) -> int:
    """How many characters at the end of `text` may be the beginning of `tag`."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if tag.startswith(text[-n:])), 0)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = value if isinstance(value, list) else []
    return [str(item.get("text") or "") for item in items if isinstance(item, dict)]


def _usage(usage: Any) -> Usage:
    """OpenAI's counts: the prompt includes what came from the cache, the completion includes reasoning."""
    if not isinstance(usage, dict):
        return Usage()
    cached = count(usage.get("prompt_tokens_details"), "cached_tokens") or count(usage, "prompt_cache_hit_tokens")
    return Usage(
        input_tokens=count(usage, "prompt_tokens"),
        output_tokens=count(usage, "completion_tokens"),
        cache_read_tokens=cached,
        reasoning_tokens=count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )
