"""`manage.py doctor`: is everything well, and what to do where it is not."""

import argparse
import json
import sys
from dataclasses import asdict

from django.core.management.base import BaseCommand

from agentsite import doctor

MARKS = {"ok": "✓", "failed": "✗", "off": "–", "unknown": "?"}


class Command(BaseCommand):
    help = "Check database, schema, Redis, worker, keys, clock, disk, functions and agents. Exit code 1 if any failed."
    requires_system_checks: list[str] = []  # What they would complain about is to be reported, not to end this.

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
        parser.add_argument("--data", help="data folder (default: $AGENTSITE_DATA, else ./data); read by manage.py")

    def handle(self, *, json: bool, **options: object) -> None:
        results = []
        for result in doctor.examine():
            results.append(result)
            if not json:
                self._print(result)
        healthy = all(result.status not in ("failed", "unknown") for result in results)
        if json:
            self.stdout.write(_as_json(healthy, results))
        if not healthy:
            sys.exit(1)

    def _print(self, result: doctor.Result) -> None:
        style = {"ok": self.style.SUCCESS, "failed": self.style.ERROR}.get(result.status, self.style.WARNING)
        self.stdout.write(f"{style(MARKS[result.status])} {result.name:<10} {result.detail}")
        if result.advice:
            self.stdout.write(f"  {'':<10} → {result.advice}")


def _as_json(healthy: bool, results: list[doctor.Result]) -> str:
    return json.dumps({"healthy": healthy, "checks": [asdict(result) for result in results]}, indent=2)
