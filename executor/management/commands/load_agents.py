"""`manage.py load_agents`: bring the agents of a file into the database."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from executor.agents_file import FileError, load, read, there_are, warnings


class Command(BaseCommand):
    help = "Create and update agents from a YAML file. Changes only what the file says, and deletes nothing."
    requires_system_checks: list[str] = []  # One of them is about this very file.

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, default=None, help="default: what AGENTS_FILE names")
        parser.add_argument("--check", action="store_true", help="say what is wrong with the file and change nothing")

    def handle(self, *args: Any, file: Path | None, check: bool, verbosity: int, **options: Any) -> None:
        path = file or settings.AGENTS_FILE
        try:
            agents = read(path, os.environ, others=_others())
            for sentence in warnings(agents, os.environ):
                self.stderr.write(self.style.WARNING(sentence))
            outcomes = [(agent.name, "in order") for agent in agents] if check else load(agents)
        except FileError as error:
            raise CommandError(f"{path.name} has mistakes; nothing was loaded.\n{error}") from error
        except DatabaseError as error:
            raise CommandError(
                f"The database cannot be used: {error}. Run `manage.py migrate` if that was not done yet."
            ) from error
        if verbosity:
            for name, outcome in outcomes:
                self.stdout.write(f"{name}: {outcome}")


def _others() -> dict[str, str | None] | None:
    """The agents there are, None if the database cannot say; only loading needs it, and then tells why."""
    try:
        return there_are()
    except DatabaseError:
        return None
