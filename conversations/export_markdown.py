"""A conversation for people to read: Markdown, made of nothing but what the JSON document says (export.py).

What people said is quoted, so that their headings are none of the document's; what functions were given and gave stands
in fences that nothing in it can close.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.utils import timezone

from conversations import words
from executor import money
from executor.models import Decision, Status, Step

Doc = Mapping[str, Any]

_FENCES = re.compile(r"`{3,}")


def opening(head: Doc) -> str:
    agent = f" It is with {head['agent']['title']}." if head["agent"] else ""
    facts = (
        f"A conversation of {head['person']}, begun {_when(head['created_at'])}, "
        f"exported {_when(head['exported_at'])}.{agent}"
    )
    return f"# {_line(head['title']) or 'New chat'}\n\n{facts}\n"


def turn(told: Doc) -> str:
    """The person's words, the answer with all that came before it, and what other agents did for it."""
    answer = told["answer"]
    pieces = [f"---\n\n## {told['position']}. You · {_when(told['created_at'])}"]
    if not told["shown"]:
        pieces.append("*Another variant, which the page does not show.*")
    pieces += [
        _quoted(told["text"]),
        _attached(answer["task"]),
        *_task(answer, f"### {_line(answer['task']['agent']['title'])}"),
    ]
    for given in told["below"]:
        task = given["task"]
        name = f" “{_line(task['parent']['name'])}”" if task["parent"] else ""
        pieces.append(f"### Given to another agent{name}: {_line(task['agent']['title'])}")
        pieces += [_quoted(_input(task)), *_task(given, "#### What it did")]
    return "\n" + "\n\n".join(filter(None, pieces)) + "\n"


def _attached(task: Doc) -> str:
    """What came with the words."""
    names = [_line(part["name"]) for part in task["input"]["parts"] if part["type"] == "file"]
    return f"Attached: {', '.join(names)}" if names else ""


def _task(told: Doc, heading: str) -> Iterator[str]:
    task, used = told["task"], told["usage"]
    tokens = used["input_tokens"] + used["output_tokens"]
    facts = [
        str(Status(task["status"]).label).lower(),
        words.duration(_time(task["started_at"]), _time(task["ended_at"])),
        money.line(tokens, _amount(used["cost"]), used["unpriced_calls"]),
    ]
    yield f"{heading} · {' · '.join(filter(None, facts))}"
    if task["base"]:
        yield f"*It shares the steps up to {task['base']['seq']} with an earlier variant.*"
    if task["declared"]:
        yield f"**{_line(task['declared']['title'])}** was started with:"
        yield _fenced(words.pretty(task["data"]), "json")
    for step in told["steps"]:
        yield from _step(step)
    for decision in told["decisions"]:
        yield _decision(decision)
    if task["error"]:
        yield f"*{' '.join(filter(None, (task['error']['message'], task['error'].get('hint'))))}*"
    elif task["stop_reason"]:
        yield f"*It was stopped: {task['stop_reason'].replace('_', ' ')}.*"


def _step(step: Doc) -> Iterator[str]:
    match step["kind"]:
        case Step.Kind.TOOL:
            yield from _call(step)
        case Step.Kind.MODEL:
            yield from _said(step)
        case Step.Kind.COMPACTION:
            yield "*What was said before is summarised for the model from here on; nothing of it is lost here.*"
            yield _quoted(step["text"])
        case Step.Kind.MESSAGE:
            yield f"**You, meanwhile**\n\n{_quoted(step['text'])}"
        case Step.Kind.STEP:
            yield f"**{_line(step['title'] or step['name'])}** · {_state(step)}"
            if step["output"] is not None:
                yield _fenced(words.pretty(step["output"]), "json")
        case Step.Kind.QUESTION:
            yield f"**Asked**\n\n{_quoted(step['text'])}"
        case _:
            yield step["text"]
    if step["error"] and step["kind"] != Step.Kind.TOOL:
        yield f"*{step['error']['message'] or words.failure(step['error']['kind'])}*"
    for decision in step["decisions"]:
        yield _decision(decision)


def _said(step: Doc) -> Iterator[str]:
    if step["reasoning"]:
        yield f"*Thought:*\n\n{_quoted(step['reasoning'])}"
    yield step["text"]


def _call(step: Doc) -> Iterator[str]:
    kept = " · from cache" if step["made_at"] else ""
    yield f"**{words.human_name(step['name'])}** (`{step['name']}`) · {_state(step)}{kept}"
    if step["arguments"] is None:
        yield _fenced(step["raw_arguments"])
    elif step["arguments"]:
        yield _fenced(words.pretty(step["arguments"]), "json")
    if step["output"]:
        yield _fenced(step["output"])
    yield from (f"> {note}" for note in step["notes"])
    if step["result"]:
        yield _fenced(step["result"])
    for file in step["files"]:
        yield f"File: {_line(file['name'])} ({file['media_type']}, {file['size']:,} bytes, `{file['url']}`)"


def _decision(decision: Doc) -> str:
    kind = Decision.Kind(decision["kind"]).label
    if decision["status"] != Decision.Status.DECIDED:
        return f"*{kind}: {Decision.Status(decision['status']).label}.*"
    who = f" by {decision['decided_by']}" if decision["decided_by"] else ""
    said = f"*{kind}: {Decision.Choice(decision['choice']).label}{who}, {_when(decision['decided_at'])}.*"
    changed = "" if decision["arguments"] is None else f"\n\n{_fenced(words.pretty(decision['arguments']), 'json')}"
    return said + (f"\n\n{_quoted(decision['note'])}" if decision["note"] else "") + changed


def _state(step: Doc) -> str:
    took = words.duration(_time(step["started_at"]), _time(step["ended_at"]))
    return " · ".join(filter(None, (str(Step.Status(step["status"]).label).lower(), took)))


def _input(task: Doc) -> str:
    return "".join(part["text"] for part in task["input"]["parts"] if part["type"] == "text")


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def _fenced(text: str, language: str = "") -> str:
    longest = max((len(found) for found in _FENCES.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _when(text: str) -> str:
    return timezone.localtime(datetime.fromisoformat(text)).strftime("%-d %B %Y, %H:%M %Z")


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
