"""The functions of the suite, dropped into the site's folder: one of each effect.

Each says in a ledger outside the site that it begins and that it ended (ledger.py).
"""

import asyncio
import json
import os
import time
from typing import Any
from uuid import uuid4

from django.contrib.auth.models import Group

from chaos.ledger import note
from tools.core.context import Context
from tools.core.effects import Done, NotDone, Unclear, Verdict
from tools.core.function import function

_LEDGER = os.environ["CHAOS_LEDGER"]


def _note(phase: str, name: str, n: int, context: Context, said: str = "") -> None:
    who = {"task": context.task_id, "call": context.call_id, "key": context.idempotency_key}
    note(phase, name=name, n=n, note=said, **who)


@function(effect="read")
async def peek(n: int, seconds: float, context: Context) -> str:
    """Look at something.

    Args:
        n: Which.
        seconds: How long it takes.
    """
    _note("start", "peek", n, context)
    await asyncio.sleep(seconds)
    _note("end", "peek", n, context)
    return f"saw {n}"


@function(effect="transactional")
def keep(n: int, seconds: float, context: Context) -> str:
    """Write something into the site's database.

    Args:
        n: Which.
        seconds: How long it takes.
    """
    _note("start", "keep", n, context)
    Group.objects.create(name=f"{context.call_id} {uuid4().hex}")
    time.sleep(seconds / 10)  # Everybody else who writes waits meanwhile.
    _note("end", "keep", n, context)
    return f"kept {n}"


@function(effect="idempotent")
def put(n: int, seconds: float, context: Context) -> str:
    """Put something somewhere, which may be said twice.

    Args:
        n: Which.
        seconds: How long it takes.
    """
    _note("start", "put", n, context)
    time.sleep(seconds)
    _note("end", "put", n, context)
    return f"put {n}"


def _was_posted(arguments: dict[str, Any], key: str) -> Verdict:
    try:
        with open(_LEDGER) as ledger:
            phases = {line["phase"] for line in map(json.loads, ledger) if line["key"] == key}
    except FileNotFoundError:
        return NotDone()
    if "end" in phases:
        return Done(f"posted {arguments['n']} before")
    return Unclear("It was begun.") if phases else NotDone()


@function(effect="verifiable", verify=_was_posted, approval=False)
def post(n: int, seconds: float, context: Context) -> str:
    """Post something, of which one can find out whether it arrived.

    Args:
        n: Which.
        seconds: How long it takes.
    """
    _note("start", "post", n, context)
    time.sleep(seconds)
    _note("end", "post", n, context)
    return f"posted {n}"


@function(approval=False)
def send(n: int, seconds: float, context: Context) -> str:
    """Send something: doing it twice does harm.

    Args:
        n: Which.
        seconds: How long it takes.
    """
    _note("start", "send", n, context)
    time.sleep(seconds)
    _note("end", "send", n, context)
    return f"sent {n}"


@function
def order(n: int, seconds: float, context: Context, note: str = "") -> str:
    """Order something: nobody may do that unasked.

    Args:
        n: Which.
        seconds: How long it takes.
        note: What else is to be said.
    """
    _note("start", "order", n, context, note)
    time.sleep(seconds)
    _note("end", "order", n, context, note)
    return f"ordered {n}"
