"""`manage.py first_admin_link`: print a new link that makes the first administrator."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from users import firstrun


class Command(BaseCommand):
    help = "Print a new one-time link that makes the first administrator. The link printed before stops working."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--site", default="http://127.0.0.1:8000", help="address of the site (default: %(default)s)"
        )

    def handle(self, *args: Any, site: str, **options: Any) -> None:
        if not firstrun.first_admin_needed():
            raise CommandError(
                "There is an administrator already. To set a new password: manage.py changepassword NAME. "
                "To make another administrator: manage.py createsuperuser."
            )
        self.stdout.write(f"{site.rstrip('/')}{firstrun.link_path(firstrun.make_link_token())}")
