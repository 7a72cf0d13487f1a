"""`manage.py load_tasks`: bring the tasks that files declare into the database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from executor.declared import synchronise
from executor.tasks_file import reload_declared


class Command(BaseCommand):
    help = "Read the tasks that come with AgentSite and those in TASKS_DIR. What has mistakes is left as it was."
    requires_system_checks: list[str] = []  # One of them is about these very files.

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="say what is wrong with the files and change nothing")

    def handle(self, *args: Any, check: bool, verbosity: int, **options: Any) -> None:
        declared = reload_declared()
        for problem in declared.problems:
            self.stderr.write(self.style.WARNING(str(problem)))
        if check:
            if declared.problems:
                raise CommandError("Nothing was changed.")
            self.stdout.write(f"In order: {', '.join(declared.tasks) or 'there is none'}.")
            return
        try:
            outcomes = synchronise()
        except DatabaseError as error:
            raise CommandError(
                f"The database cannot be used: {error}. Run `manage.py migrate` if that was not done yet."
            ) from error
        if verbosity:
            for name, outcome in outcomes:
                self.stdout.write(f"{name}: {outcome}")
