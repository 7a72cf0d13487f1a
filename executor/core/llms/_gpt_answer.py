"""One answer of the Responses API, put together from its events. Pure: JSON values in, events out."""

from __future__ import annotations

import json
import re
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
from executor.core.llms._json import clean, dumps
from executor.core.messages import JsonDict, Usage

_BETWEEN = "\n\n"
_ID = re.compile(r"[A-Za-z0-9_-]{1,120}")


class GptAnswer(Answer):
    """See `Answer`; `feed` takes an event, `whole` a response object.

    An answer is a list of items: reasoning, messages, calls. The deltas are shown as they come; what is kept is what
    `response.output_item.done` says, since only that has the whole arguments and the reasoning as it must go back.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._refused = False
        self._cut = False
        self._items: list[tuple[JsonDict, PartialCall | None]] = []
        self._calls: list[PartialCall] = []
        self._call_at: dict[int | str, PartialCall] = {}
        self._done_calls: set[int] = set()
        # Whether the item that is being written has shown anything; whether what comes next is a paragraph of its own.
        self._item_shown = False
        self._begins = True
        self._half = ""

    def feed(self, data: Any) -> Iterator[ModelEvent]:
        if not isinstance(data, dict):
            raise LLMError("protocol", "The model's server sent something that is not a part of an answer.")
        if not self._started:
            self._started = True
            response = data.get("response")
            if isinstance(response, dict):
                self.response_id = clean(str(response.get("id") or ""))[:200]
                self.model = clean(str(response.get("model") or ""))[:200]
                # An id becomes a part of an address when it is fetched.
                self.is_kept = response.get("background") is True and bool(_ID.fullmatch(self.response_id))
            yield Started(self.response_id, self.model, self.is_kept)
        match data.get("type"):
            case "response.output_text.delta":
                yield from self._take_text(data.get("delta"))
            case "response.function_call_arguments.delta":
                yield from self._take_arguments(data)
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                yield from self._take_thought(data.get("delta"))
            case "response.reasoning_summary_part.added":
                self._begins = True
            case "response.refusal.delta":
                self._refused = True
                yield from self._take_text(data.get("delta"))
            case "response.output_item.added":
                self._begins, self._item_shown = True, False
                if isinstance(item := data.get("item"), dict) and item.get("type") == "function_call":
                    yield from self._begin_call(data, item)
            case "response.output_item.done":
                yield from self._take_item(data, self._item_shown)
                self._begins, self._item_shown = True, False
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                yield from self._take_end(data)
            case "error":
                raise BrokenOff(data)

    def whole(self, body: Any) -> Iterator[ModelEvent]:
        status = body.get("status") if isinstance(body, dict) else None
        yield from self.feed({"type": f"response.{status}", "response": body})

    def close(self, *, failed: bool = False) -> Iterator[ModelEvent]:
        yield from self._flush()
        if failed:
            return
        if any(not call.name for call in self._calls):
            raise LLMError("protocol", "The model asked for a function without saying which.")
        # An answer that was cut short may end inside a call; see `ChatAnswer.close`.
        complete = [
            call for call in self._calls if call.is_complete or (call.position in self._done_calls and not self._cut)
        ]
        if len(complete) < len(self._calls) and not self._cut:
            raise LLMError("protocol", "The model's server ended the answer inside a function call.")
        self.calls = tuple(call.finish() for call in complete)
        for call, finished in zip(complete, self.calls, strict=True):
            yield ToolCallComplete(call.position, finished)
        self.native = self._replayable(complete)
        self.reason = self._finish_reason()

    # --- what is shown ----------------------------------------------------------------------------------------------

    def _take_text(self, delta: Any) -> Iterator[ModelEvent]:
        if not isinstance(delta, str) or not delta:
            return
        if self._begins and self._text:
            yield from self._show([TextDelta(_BETWEEN)])
        self._begins, self._item_shown = False, True
        delta = self._half + delta
        # Half of a surrogate pair waits for its other half.
        self._half = delta[-1] if "\ud800" <= delta[-1] <= "\udbff" else ""
        yield from self._show([TextDelta(clean(delta.removesuffix(self._half) if self._half else delta))])

    def _take_thought(self, delta: Any) -> Iterator[ModelEvent]:
        if not isinstance(delta, str) or not delta:
            return
        if self._begins and self._reasoning:
            yield from self._show([ReasoningDelta(_BETWEEN)])
        self._begins, self._item_shown = False, True
        yield from self._show([ReasoningDelta(clean(delta))])

    def _flush(self) -> Iterator[ModelEvent]:
        half, self._half = self._half, ""
        yield from self._show([TextDelta(clean(half))])

    # --- items ------------------------------------------------------------------------------------------------------

    def _take_item(self, event: JsonDict, shown: bool) -> Iterator[ModelEvent]:
        """An item that is whole. What it says was shown already, unless the server sends no deltas."""
        item = event.get("item")
        if not isinstance(item, dict):
            return
        yield from self._flush()
        call = None
        match item.get("type"):
            case "message":
                refusals = _texts(item.get("content"), "refusal")
                self._refused = self._refused or bool(refusals)
                if not shown:
                    yield from self._take_text("".join(_texts(item.get("content"), "text") + refusals))
            case "reasoning" if not shown:
                thoughts = _texts(item.get("summary"), "text") or _texts(item.get("content"), "text")
                yield from self._take_thought(_BETWEEN.join(thoughts))
            case "function_call":
                call = self._call_of(event, item.get("id"))
                if call is None or call.position in self._done_calls:
                    yield from self._begin_call(event, item)
                    call = self._calls[-1]
                yield from self._end_call(call, item)
        self._items.append((item, call))

    def _begin_call(self, event: JsonDict, item: JsonDict) -> Iterator[ModelEvent]:
        call = PartialCall(len(self._calls), new_call_id(), clean(str(item.get("call_id") or "")))
        self._calls.append(call)
        self._call_at |= dict.fromkeys(_keys(event, item.get("id")), call)
        yield from self._name(call, item)

    def _name(self, call: PartialCall, item: JsonDict) -> Iterator[ModelEvent]:
        name = clean(str(item.get("name") or ""))
        if name and not call.name:
            self.shown = True
            call.name = name
            yield ToolCallStarted(call.position, call.id, name)

    def _call_of(self, event: JsonDict, item_id: Any) -> PartialCall | None:
        return next((self._call_at[key] for key in _keys(event, item_id) if key in self._call_at), None)

    def _take_arguments(self, event: JsonDict) -> Iterator[ModelEvent]:
        call = self._call_of(event, event.get("item_id")) or (self._calls[-1] if self._calls else None)
        if call is None or call.position in self._done_calls:
            return  # Of a call that was not announced, `response.output_item.done` will tell.
        if isinstance(fragment := event.get("delta"), str) and fragment:
            call.fragments.append(fragment)
            yield ToolCallDelta(call.position, clean(fragment))

    def _end_call(self, call: PartialCall, item: JsonDict) -> Iterator[ModelEvent]:
        self._done_calls.add(call.position)
        yield from self._name(call, item)
        arguments = item.get("arguments")
        raw = arguments if isinstance(arguments, str) else "" if arguments is None else json.dumps(arguments)
        if raw and not call.fragments:
            yield ToolCallDelta(call.position, clean(raw))
        call.fragments = [raw]

    # --- the end ----------------------------------------------------------------------------------------------------

    def _take_end(self, event: JsonDict) -> Iterator[ModelEvent]:
        response = event.get("response")
        response = response if isinstance(response, dict) else {}
        status = event["type"].removeprefix("response.")
        self.usage = _usage(response.get("usage"))
        if status in ("failed", "cancelled"):
            raise BrokenOff({"error": response.get("error") or {"message": f"The answer was {status}."}})
        if not self._items and isinstance(output := response.get("output"), list):
            shown = bool(self._text or self._reasoning)
            for item in output:
                yield from self._take_item({"item": item}, shown)
                self._begins = True
        details = response.get("incomplete_details")
        self._cut = status == "incomplete"
        self.native_reason = clean(str((isinstance(details, dict) and details.get("reason")) or status))[:100]
        self.complete = self.ended = True

    def _finish_reason(self) -> FinishReason:
        if self.calls:
            return "tool_calls"
        if self._refused or self.native_reason == "content_filter":
            return "content_filter"
        if self.native_reason == "max_output_tokens":
            return "length"
        return "other" if self._cut else "stop"

    def _replayable(self, complete: list[PartialCall]) -> list[JsonDict] | None:
        """The items as they may be sent back, in their order; None if they do not tell all that was said."""
        kept = [(item, call) for item, call in self._items if (call in complete if call else _may_go_back(item))]
        items = [_sendable(item, call) for item, call in kept]
        # OpenAI refuses reasoning that nothing follows.
        while items and items[-1].get("type") == "reasoning":
            items.pop()
        if sum(item.get("type") == "function_call" for item in items) < len(complete):
            return None
        # Ids tie what was said to the reasoning before it, so where something is missing they must not be sent.
        return items if len(items) == len(self._items) and not self._cut else without_ids(items)


def without_ids(items: list[JsonDict]) -> list[JsonDict]:
    """The items as if we had written them: OpenAI then looks nothing up and misses nothing that belongs to them."""
    return [
        {name: value for name, value in item.items() if name not in ("id", "status")}
        if item.get("type") in ("message", "reasoning", "function_call")
        else item
        for item in items
    ]


def _may_go_back(item: JsonDict) -> bool:
    """Reasoning that is not in the item itself would be looked up at OpenAI, where nothing is stored."""
    return item.get("type") != "reasoning" or bool(item.get("encrypted_content") or item.get("content"))


def _sendable(item: JsonDict, call: PartialCall | None) -> JsonDict:
    """The item as it is taken back: some fields that are sent to us empty or with a status are refused from us."""
    item = {name: value for name, value in item.items() if value is not None}
    if item.get("type") == "reasoning":
        item.pop("status", None)
        item.setdefault("summary", [])
    if call and not _is_object(item.get("arguments")):
        # Servers parse the arguments of past calls and fail on what is no JSON, so that is not repeated to them.
        item["arguments"] = dumps(call.finish().arguments or {}).decode()
    return item


def _is_object(raw: Any) -> bool:
    try:
        return isinstance(raw, str) and isinstance(json.loads(raw), dict)
    except (ValueError, RecursionError):
        return False


def _keys(event: JsonDict, item_id: Any) -> list[int | str]:
    """By what an item is known: some servers repeat the index, others give each event another id."""
    return [key for key in (item_id, event.get("output_index")) if isinstance(key, int | str) and key != ""]


def _texts(parts: Any, name: str) -> list[str]:
    found = [part.get(name) for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return [text for text in found if isinstance(text, str) and text]


def _usage(usage: Any) -> Usage:
    """OpenAI's counts: the input includes what came from the cache, the output includes reasoning."""
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("input_tokens_details")
    return Usage(
        input_tokens=count(usage, "input_tokens"),
        output_tokens=count(usage, "output_tokens"),
        cache_read_tokens=count(details, "cached_tokens"),
        cache_write_tokens=count(details, "cache_write_tokens"),
        reasoning_tokens=count(usage.get("output_tokens_details"), "reasoning_tokens"),
    )
