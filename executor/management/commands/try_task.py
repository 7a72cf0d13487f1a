"""`manage.py try_task`: run the task in a file here and now, without a site."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from executor import trial
from executor.core.errors import StepValidationError
from executor.core.llms.base import Endpoint
from executor.core.llms.factory import LLMS, create_llm
from executor.yaml_file import FileError


class Command(BaseCommand):
    help = "Run the task that a YAML or Python file declares, step by step, without a site. Nothing is kept."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "given", nargs="*", metavar="NAME=VALUE", help="what the task asks for; NAME=@FILE reads it"
        )
        parser.add_argument(
            "--provider", default="demo", choices=sorted(LLMS), help="default: demo, which needs nothing"
        )
        parser.add_argument("--model", default="", help="as the provider spells it")
        parser.add_argument("--base-url", default="", help="of a server of your own, with its /v1")
        parser.add_argument("--key-variable", default="", help="the environment variable that holds the key")

    def handle(
        self,
        *args: Any,
        file: Path,
        given: list[str],
        provider: str,
        model: str,
        base_url: str,
        key_variable: str,
        **options: Any,
    ) -> None:
        if wrong := [pair for pair in given if "=" not in pair]:
            raise CommandError(f"Write what the task asks for as NAME=VALUE, not {wrong[0]!r}.")
        data = {name: _value(value) for name, value in (pair.split("=", 1) for pair in given)}
        try:
            cls = trial.read(file)
            llm = create_llm(provider, Endpoint(model, base_url, os.environ.get(key_variable, "")))
            result, answer = asyncio.run(trial.run(cls, data, llm, self.stderr.write))
        except FileError as error:
            raise CommandError(str(error)) from error
        except (StepValidationError, ValueError) as error:
            raise CommandError(f"{error}") from error
        if result.error:
            raise CommandError(" ".join(filter(None, (result.error.message, result.error.hint))))
        self.stdout.write(answer)


def _value(given: str) -> str:
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{given[1:]} cannot be read: {error}") from error
