"""The commands that may be started as MCP servers: whoever runs the site names them in MCP_COMMANDS."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from django.conf import settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


def commands() -> dict[str, list[str]]:
    """By name, the words of each command. What cannot be understood is left out; see `problems`."""
    return {name: words for name, words, problem in _entries() if not problem}


def problems() -> list[str]:
    """A sentence for each entry that cannot be understood."""
    return [problem for *_, problem in _entries() if problem]


def _entries() -> Iterator[tuple[str, list[str], str]]:
    for entry in filter(None, map(str.strip, settings.MCP_COMMANDS.split(";"))):
        name, _, command = (part.strip() for part in entry.partition("="))
        try:
            words = shlex.split(command)
        except ValueError:
            words = []
        is_good = bool(words and _NAME.fullmatch(name))
        yield name, words, "" if is_good else f"“{entry}” is no command. Write name=/path/to/program and its arguments."
