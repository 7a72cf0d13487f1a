"""`manage.py functions`: what agents can call, and what could not be registered."""

import json
from textwrap import indent
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tools.core.function import Function
from tools.registry import fresh_registry


class Command(BaseCommand):
    help = "List the functions that agents may call, with their schemas, and the problems met while looking for them."
    requires_system_checks: list[str] = []  # They would tell the same problems a second time.

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        registry = fresh_registry()
        if options["json"]:
            listed = {
                "functions": [_as_dict(function) for function in registry.functions.values()],
                "problems": [vars(problem) for problem in registry.problems],
            }
            self.stdout.write(json.dumps(listed, indent=2, ensure_ascii=False, default=str))
            return
        for function in registry.functions.values():
            self.stdout.write(self.style.MIGRATE_HEADING(function.name))
            self.stdout.write(indent(function.description, "    "))
            self.stdout.write(f"    effect: {function.effect}, {function.agreement}, at most {function.timeout:g} s")
            self.stdout.write(f"    source: {function.module}")
            self.stdout.write(f"    schema: {json.dumps(function.parameters, ensure_ascii=False, default=str)}\n\n")
        if registry.problems:
            self.stdout.write(self.style.WARNING("Problems"))
            for problem in registry.problems:
                self.stdout.write(f"    {problem}")


def _as_dict(function: Function) -> dict[str, Any]:
    names = (
        "name",
        "title",
        "description",
        "parameters",
        "effect",
        "agreement",
        "timeout",
        "cache",
        "cache_shared",
        "module",
    )
    return {name: getattr(function, name) for name in names}
