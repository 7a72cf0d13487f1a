"""What the fake model server is told to answer: plain values, the same for every wire format.

A `Turn` is one answer. Which turn a request gets is decided by the first of these that applies:

1. a line `@turns [{"text": "…"}, …]` in the last user message (JSON, the fields of `Turn`): the turn whose number is
   how many answers were given since that message, so it works however often and by whomever a request is repeated;
2. the queue filled by `ModelServer.script([...])`;
3. the model's name: `echo`, `scripted` (a text is analysed, its statistics are drawn) or `stream-TOKENS-RATE`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

Fault = Literal[
    "",
    # instead of an answer
    "400", "401", "403", "404", "408", "409", "413", "422", "429", "500", "503", "529",
    "quota", "context", "context_llama_cpp", "api_key_invalid", "html_502", "html_200", "empty_200", "hang", "redirect",
    "endless_500", "endless_blank",
    # in the middle of it, behind `after` chunks
    "drop", "clean_end", "half_frame", "malformed", "error_event", "stall",
]  # fmt: skip

Quirk = Literal[
    # how the bytes are written
    "crlf", "cr", "bom", "comments", "extra_fields", "multi_line", "no_last_newline", "no_done", "open_end",
    # how calls are written
    "index_zero", "no_index", "no_ids", "same_ids", "dict_arguments", "null_arguments", "finish_stop", "name_repeated",
    # and the rest
    "no_usage", "no_choices", "reasoning_field", "think_tags", "content_parts", "json_body",
    "rejects_stream_options", "no_finish_reason", "surrogate_halves",
    # of Responses: what is left out, what is too much, how a failure is told, and what is refused
    "no_deltas", "no_added", "no_item_done", "no_encrypted", "null_fields", "commentary",
    "flat_error", "failed_event", "rejects_include", "rejects_background", "stale_reasoning",
    # of Messages: more and other blocks than words, thoughts and calls
    "redacted_thinking", "trailing_thought", "interleaved", "server_tool", "blank_text", "caller",
    "unknown_events", "unknown_delta",
    # of generateContent: line ends that are not Google's, how the parts lie, what is signed, how it is refused
    "lf", "no_parts", "calls_apart", "unknown_parts", "signed_text", "no_signatures", "prompt_block", "raw_error",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """A function call. A string is sent as it is; `"$result.a.b"` in a dict stands for a value of the last result."""

    name: str
    arguments: dict[str, Any] | str | None = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer. Times in seconds, `rate` in chunks per second (0: all at once), `chunk` in characters (0: a word)."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[Call, ...] = ()
    finish: str = ""
    usage: dict[str, Any] | None = None
    rate: float = 0
    first_token: float = 0
    chunk: int = 0
    #: Bytes per write; 0 writes each event whole.
    write: int = 0
    fault: Fault = ""
    after: int = 2
    retry_after: str = ""
    message: str = ""
    quirks: frozenset[Quirk] = frozenset()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Turn:
        """Raises ValueError for fields that there are not."""
        if unknown := data.keys() - {f.name for f in fields(cls)}:
            raise ValueError(f"a turn has no field {', '.join(sorted(unknown))}")
        values = dict(data)
        values["calls"] = tuple(Call(**call) for call in data.get("calls", ()))
        values["quirks"] = frozenset(data.get("quirks", ()))
        return cls(**values)


def directive(messages: Sequence[Mapping[str, Any]]) -> Turn | None:
    """The turn that the last user message asks for, if it does."""
    last = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=None)
    if last is None:
        return None
    found = re.findall(r"^@turns (\[.*\])\s*$", messages[last]["content"], re.M)
    if not found:
        return None
    turns = json.loads(found[-1])  # Messages that nobody answered are sent as one, with the last one's at its end.
    given = sum(message["role"] == "assistant" for message in messages[last:])
    return Turn.from_json(turns[min(given, len(turns) - 1)])


def for_model(model: str, messages: Sequence[Mapping[str, Any]]) -> Turn | None:
    """The turn of one of the models that answer by themselves."""
    if found := re.fullmatch(r"stream-(\d+)-(\d+)", model):
        return Turn(text="token " * int(found[1]), rate=float(found[2]))
    words: str = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    if model == "scripted":
        turns = analyse_and_draw(words)
        last = max(i for i, message in enumerate(messages) if message["role"] == "user")
        given = sum(1 for message in messages[last:] if message["role"] == "assistant")
        return turns[min(given, len(turns) - 1)]
    if model == "echo":
        return Turn(text=f"You said: {words}")
    return None


def analyse_and_draw(text: str = "the quick brown fox jumps over the lazy dog", *, rate: float = 0) -> list[Turn]:
    """The scenario of the project's card: analyse a text, draw what came out, say so."""
    return [
        Turn(
            text="I count first. ",
            calls=(Call("text_statistics", {"text": text}),),
            rate=rate,
        ),
        Turn(
            calls=(
                Call(
                    "draw_chart",
                    {
                        "kind": "bar",
                        "title": "Most common words",
                        "labels": "$result.most_common_words.*.word",
                        "values": "$result.most_common_words.*.count",
                    },
                ),
            ),
            rate=rate,
        ),
        Turn(text="The chart shows the most common words of your text.", rate=rate),
    ]


def many_steps(function: str, arguments: Mapping[str, Any], steps: int, *, rate: float = 0) -> list[Turn]:
    """`steps` calls one after the other, each with its number as `{n}` in the string arguments, then an answer."""
    turns = [
        Turn(
            calls=(
                Call(
                    function,
                    {k: v.replace("{n}", str(n)) if isinstance(v, str) else v for k, v in arguments.items()},
                ),
            ),
            rate=rate,
        )
        for n in range(1, steps + 1)
    ]
    return [*turns, Turn(text=f"All {steps} steps are done.", rate=rate)]


def resolve(turn: Turn, messages: Sequence[Mapping[str, Any]]) -> Turn:
    """The turn with every `$result…` replaced by what the last function call gave."""
    last = next((m["content"] for m in reversed(messages) if m["role"] == "tool"), "null")
    try:
        result = json.loads(last)
    except ValueError:
        result = last
    calls = tuple(
        replace(call, arguments={k: _lookup(v, result) for k, v in call.arguments.items()})
        if isinstance(call.arguments, dict)
        else call
        for call in turn.calls
    )
    return replace(turn, calls=calls)


def _lookup(value: Any, result: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"\$result(\.[\w*]+)*", value):
        return value
    return _walk(result, value.split(".")[1:])


def _walk(value: Any, path: Sequence[str]) -> Any:
    """`a.0.*.b`: by key, by position, or (`*`) of every item."""
    if not path:
        return value
    step, rest = path[0], path[1:]
    if step == "*":
        return [_walk(item, rest) for item in value]
    return _walk(value[int(step)] if isinstance(value, list) else value[step], rest)
