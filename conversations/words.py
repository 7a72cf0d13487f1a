"""Values of steps and tasks in words: names, durations, arguments and results as people read them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from executor.durations import duration as duration
from executor.durations import length as length

RESULT_SHOWN = 8_000


def human_name(name: str) -> str:
    """`draw_chart` → “Draw chart”."""
    return name.replace("_", " ").strip().capitalize()


def listed(names: list[str]) -> str:
    """“GPT, Claude or Gemini”."""
    return " or ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def clock(time: datetime) -> str:
    """The time of day, with seconds where it is less than two minutes away."""
    is_near = time - timezone.now() < timedelta(minutes=2)
    return timezone.localtime(time).strftime("%H:%M:%S %Z" if is_near else "%H:%M %Z")


def intent(arguments: dict[str, Any] | None) -> str:
    """The arguments in a line: what tells this call from others."""
    shown = [_brief(value) for value in (arguments or {}).values() if value not in (None, "", [], {})]
    line = " · ".join(shown[:4])
    return line if len(line) <= 120 else f"{line[:119]}…"


def _brief(value: Any, depth: int = 0) -> str:
    if isinstance(value, list | dict) and depth == 3:
        return "…"
    if isinstance(value, list):
        return ", ".join(_brief(item, depth + 1) for item in value[:6]) + ("…" if len(value) > 6 else "")
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_brief(inner, depth + 1)}" for name, inner in list(value.items())[:4] if inner)
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:59]}…"


_FAILURES = {
    "auth": "its key was not accepted",
    "permission": "its key may not use it",
    "not_found": "not found",
    "rate_limit": "rate limited",
    "quota": "its quota is used up",
    "overloaded": "overloaded",
    "server": "a fault of its own",
    "timeout": "too slow",
    "connection": "not reached",
    "protocol": "not understood",
    "expired": "its answer was not kept",
    "no_key": "no key",
}


def failure(kind: str) -> str:
    """Why a provider did not answer, in two or three words."""
    return _FAILURES.get(kind, kind.replace("_", " "))


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def pretty_text(text: str) -> str:
    """JSON results are easier to read with line breaks."""
    if text[:1] not in "{[" or len(text) > RESULT_SHOWN:
        return text
    try:
        return pretty(json.loads(text))
    except ValueError:
        return text


def shorten(text: str) -> str:
    if len(text) <= RESULT_SHOWN:
        return text
    return f"{text[:RESULT_SHOWN]}\n… ({len(text) - RESULT_SHOWN:,} more characters)"
