"""Whether code can be run on this site, as its workers found out when they started."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models.functions import Now

from executor.models import Worker
from executor.states import WORKER_GONE


@dataclass(frozen=True, slots=True)
class CodeOff:
    """Why no worker can run code: a sentence for everybody, and what an administrator can do."""

    reason: str
    hint: str


def code_off() -> CodeOff | None:
    """None if some worker can run code, or if nobody knows: none is there, or one is still trying."""
    alive = Worker.objects.filter(beat_at__gt=Now() - WORKER_GONE).order_by("-started_at")
    found = list(alive.values_list("sandbox", flat=True))
    known = [sandbox for sandbox in found if sandbox is not None]
    if not known or len(known) < len(found) or any(sandbox["ok"] for sandbox in known):
        return None
    return CodeOff(known[0]["reason"], known[0]["hint"])
