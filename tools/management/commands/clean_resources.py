"""`manage.py clean_resources`: remove files that nothing refers to any more."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.template.defaultfilters import filesizeformat

from tools.resources import clean


class Command(BaseCommand):
    help = "Delete files that no task or message needs any more (see docs/files.md), and stored ones without a row."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would be deleted, and delete nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        cleaned = clean(dry_run=options["dry_run"])
        verb = "Would delete" if options["dry_run"] else "Deleted"
        size = filesizeformat(cleaned.bytes).replace("\xa0", " ")
        self.stdout.write(f"{verb} {cleaned.resources} resources and {cleaned.orphans} files without one, {size}.")
