"""`manage.py export_conversation`: a conversation as a whole, as the page gives it to its person."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from conversations.export import as_json, as_markdown
from conversations.models import Conversation

FORMS = {"json": as_json, "markdown": as_markdown}


class Command(BaseCommand):
    help = "Write a conversation with everything that was said and done in it, also one in the bin."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("conversation", metavar="ID", help="the part of its address after /c/")
        parser.add_argument("--as", dest="form", choices=FORMS, default="json", help="default: %(default)s")
        parser.add_argument("--output", metavar="FILE", help="where to write it; default: standard output")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            conversation = _find(options["conversation"])
            if not options["output"]:
                _write(conversation, options["form"], partial(self.stdout.write, ending=""))
                return
            with Path(options["output"]).open("w", encoding="utf-8") as file:
                _write(conversation, options["form"], file.write)
        except DatabaseError as error:
            raise CommandError(f"The database cannot be used: {error}.") from error
        except BrokenPipeError:
            sys.stderr.close()  # Nobody reads any more, so nobody needs to be told.
        except OSError as error:
            raise CommandError(f"{options['output']} cannot be written: {error.strerror}.") from error


def _write(conversation: Conversation, form: str, write: Callable[[str], object]) -> None:
    for piece in FORMS[form](conversation):
        write(piece)


def _find(text: str) -> Conversation:
    try:
        return Conversation.objects.select_related("agent", "user").get(pk=UUID(text))
    except ValueError as error:
        raise CommandError(f"“{text}” is no id of a conversation. It is the part of its address after /c/.") from error
    except Conversation.DoesNotExist as error:
        raise CommandError(f"There is no conversation {text}.") from error
