"""One answer of the Messages API, put together from its events. Pure: JSON values in, events out.

https://platform.claude.com/docs/en/build-with-claude/streaming describes the events. The blocks of an answer are kept
as they came: thoughts are signed, and only an unchanged whole may be sent back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
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
from executor.core.llms._json import clean, parse_arguments
from executor.core.messages import JsonDict, ToolCall, Usage

_CUT = ("max_tokens", "model_context_window_exceeded", "refusal")
_THOUGHTS = ("thinking", "redacted_thinking")


@dataclass(slots=True)
class _Block:
    """A block as it began, the pieces that were added to its fields, and the call that it is, if it is one."""

    data: JsonDict
    added: dict[str, list[str]] = field(default_factory=dict)
    call: PartialCall | None = None

    def add(self, name: str, piece: str) -> None:
        self.added.setdefault(name, []).append(piece)

    def whole(self) -> JsonDict:
        texts: JsonDict = {name: "".join(pieces) for name, pieces in self.added.items()}
        if "input" in texts:
            texts["input"] = parse_arguments(texts["input"]) or {}
        return self.data | texts


class ClaudeAnswer(Answer):
    """See `Answer`; `feed` takes an event, `whole` the message of a server that does not stream."""

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._blocks: list[_Block] = []
        self._block_at: dict[int, _Block] = {}
        self._positions = 0
        self._counts: JsonDict = {}
        self._explanation = ""
        # Whether everything that came was understood well enough to be sent back as it was.
        self._verbatim = True

    def feed(self, data: Any) -> Iterator[ModelEvent]:
        if not isinstance(data, dict):
            raise LLMError("protocol", "The model's server sent something that is not a part of an answer.")
        match data.get("type"):
            case "content_block_delta":
                yield from self._add(data)
            case "message_start":
                yield from self._start(data.get("message"))
            case "content_block_start":
                yield from self._begin(data)
            case "message_delta":
                self._end(data.get("delta"), data.get("usage"))
            case "message_stop":
                # Only now: what has no beginning has no end either.
                self.complete = self.ended = self._started
            case "error":
                raise BrokenOff(data)
            case _:
                pass  # `ping`, `content_block_stop`, and what there may be in future.

    def whole(self, body: Any) -> Iterator[ModelEvent]:
        if not isinstance(body, dict) or body.get("type") != "message":
            return
        yield from self._start(body)
        blocks = body.get("content")
        for index, block in enumerate(blocks if isinstance(blocks, list) else ()):
            yield from self._begin({"index": index, "content_block": block})
        self._end(body, body.get("usage"))
        self.complete = self.ended = True

    def close(self, *, failed: bool = False) -> Iterator[ModelEvent]:
        if failed:
            return
        if self.native_reason == "refusal" and not self._text:
            raise LLMError("content_filter", f"The model refuses to answer{self._explanation or '.'}")
        for block in self._blocks:
            if block.call is not None and not block.call.fragments and (given := block.data.get("input")):
                # Not streamed, but there from the beginning.
                block.call.fragments.append(json.dumps(given, ensure_ascii=False))
        blocks = [block for block in self._blocks if self._is_kept(block)]
        items = [block.whole() for block in blocks]
        calls: list[tuple[int, ToolCall]] = []
        for block, item in zip(blocks, items, strict=True):
            if block.call is not None:
                call = block.call.finish()
                # What was no JSON object is refused when it comes back.
                item["input"] = call.arguments or {}
                calls.append((block.call.position, call))
        # Thoughts that lead to nothing are refused, too; where an answer was cut off in them they are not even signed.
        while items and items[-1]["type"] in _THOUGHTS:
            items.pop()
        is_plain = all(item["type"] == "text" and "citations" not in item for item in items)
        self.native = items if self._verbatim and not is_plain else None
        self.calls = tuple(call for _, call in calls)
        for position, call in calls:
            yield ToolCallComplete(position, call)
        self.reason = self._finish_reason()

    # --- the events -------------------------------------------------------------------------------------------------

    def _start(self, message: Any) -> Iterator[ModelEvent]:
        message = message if isinstance(message, dict) else {}
        self._count(message.get("usage"))
        if not self._started:
            self._started = True
            self.response_id = clean(str(message.get("id") or ""))[:200]
            self.model = clean(str(message.get("model") or ""))[:200]
            yield Started(self.response_id, self.model)

    def _begin(self, data: JsonDict) -> Iterator[ModelEvent]:
        index, given = data.get("index"), data.get("content_block")
        if not (self._started and isinstance(index, int) and isinstance(given, dict) and "type" in given):
            raise LLMError("protocol", "The model's server began something that is not a part of an answer.")
        # What is null is as good as absent, and not everything that comes as null may go back so.
        block = self._block_at[index] = _Block({name: value for name, value in given.items() if value is not None})
        self._blocks.append(block)
        match block.data:
            case {"type": "text", "text": str(text)}:
                yield from self._say(block, text)
            case {"type": "thinking", "thinking": str(thought)}:
                yield from self._think(block, thought)
            case {"type": "tool_use"}:
                yield from self._call(block)

    def _add(self, data: JsonDict) -> Iterator[ModelEvent]:
        index, delta = data.get("index"), data.get("delta")
        block = self._block_at.get(index) if isinstance(index, int) else None
        if block is None:
            raise LLMError("protocol", "The model's server went on with something that it had not begun.")
        match delta:
            case {"type": "text_delta", "text": str(text)}:
                yield from self._say(block, text)
            case {"type": "thinking_delta", "thinking": str(thought)}:
                yield from self._think(block, thought)
            case {"type": "signature_delta", "signature": str(signature)}:
                block.data["signature"] = signature
            case {"type": "input_json_delta", "partial_json": str(piece)}:
                if block.call is None:
                    block.add("input", piece)  # A function that the provider runs itself.
                elif piece:
                    block.call.fragments.append(piece)
                    yield ToolCallDelta(block.call.position, clean(piece))
            case {"type": "citations_delta", "citation": citation}:
                block.data["citations"] = [*block.data.get("citations", ()), citation]
            case _:
                self._verbatim = False

    def _end(self, delta: Any, usage: Any) -> None:
        self._count(usage)
        if not isinstance(delta, dict):
            return
        if reason := delta.get("stop_reason"):
            self.native_reason = clean(str(reason))[:100]
        match delta.get("stop_details"):
            case {"explanation": str(explanation)}:
                self._explanation = f": {' '.join(clean(explanation).split())[:300]}"
            case {"category": str(category)}:
                self._explanation = f" (category {clean(category)[:100]})."

    # --- the blocks -------------------------------------------------------------------------------------------------

    def _say(self, block: _Block, text: str) -> Iterator[ModelEvent]:
        block.add("text", text)
        yield from self._show([TextDelta(clean(text))])

    def _think(self, block: _Block, thought: str) -> Iterator[ModelEvent]:
        # A second train of thought is a paragraph of its own.
        apart = "\n\n" if thought and self._reasoning and not any(block.added.get("thinking", ())) else ""
        block.add("thinking", thought)
        yield from self._show([ReasoningDelta(apart + clean(thought))])

    def _call(self, block: _Block) -> Iterator[ModelEvent]:
        name = clean(str(block.data.get("name") or ""))
        if not name:
            raise LLMError("protocol", "The model asked for a function without saying which.")
        block.call = PartialCall(self._positions, new_call_id(), clean(str(block.data.get("id") or "")), name)
        self._positions += 1
        self.shown = True
        yield ToolCallStarted(block.call.position, block.call.id, name)

    def _is_kept(self, block: _Block) -> bool:
        """Whether the block is a part of what was said: nothing blank, no call that was cut short."""
        if block.data["type"] == "text":
            return bool("".join(block.added.get("text", ())).strip())
        if block.call is None:
            return True
        # What a refusal took back must not run, whole or not.
        return self.native_reason not in _CUT or (self.native_reason != "refusal" and block.call.is_complete)

    # --- what they add up to ----------------------------------------------------------------------------------------

    def _count(self, usage: Any) -> None:
        """Counts are totals so far; those that are not repeated still hold."""
        if isinstance(usage, dict):
            self._counts |= {name: value for name, value in usage.items() if value is not None}
            self.usage = _usage(self._counts)

    def _finish_reason(self) -> FinishReason:
        if self.calls:
            return "tool_calls"
        match self.native_reason:
            case "end_turn" | "stop_sequence" | "tool_use" | "":
                return "stop"
            case "max_tokens":
                return "length"
            case "model_context_window_exceeded":
                return "context_window"
            case "refusal":
                return "content_filter"
            case "pause_turn":
                return "pause"
            case _:
                return "other"


def _usage(counts: JsonDict) -> Usage:
    """Anthropic counts what came from the cache and what was written to it beside the input, not within it."""
    read, written = count(counts, "cache_read_input_tokens"), count(counts, "cache_creation_input_tokens")
    return Usage(
        input_tokens=count({"all": count(counts, "input_tokens") + read + written}, "all"),
        output_tokens=count(counts, "output_tokens"),
        cache_read_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=count(counts.get("output_tokens_details"), "thinking_tokens"),
    )
