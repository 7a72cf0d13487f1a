"""Functions as an administrator drops them into the folder. Each says in a file next to it that it began."""

import asyncio
import time
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group

from tools.core.context import Context
from tools.core.effects import Done, NotDone, Unclear, Verdict
from tools.core.function import function

_BEGUN = Path(__file__).with_suffix(".begun")


def _begin(name: str) -> None:
    with _BEGUN.open("a") as file:
        file.write(f"{name}\n")


@function(effect="read")
def look(topic: str) -> str:
    """Look something up.

    Args:
        topic: What to look up.
    """
    _begin("look")
    return f"All about {topic}."


@function(approval=False)
def send(text: str) -> str:
    """Send something: doing it twice does harm.

    Args:
        text: What to send.
    """
    _begin("send")
    return "sent"


@function(effect="read")
def draw(context: Context) -> str:
    """Make a file."""
    _begin("draw")
    context.save("drawing.txt", b"/\\", "text/plain")
    return "drawn"


@function(effect="read")
def talk(topic: str, context: Context) -> str:
    """Say something, wait until a file is there, and say more.

    Args:
        topic: The name of the file.
    """
    context.write("One.\n")
    until = Path(__file__).with_name(topic)
    while not until.exists():
        time.sleep(0.01)
    context.write("Two.\n")
    context.note("It took a while.")
    return "said"


@function(effect="read")
def fail() -> str:
    """Fail."""
    raise ValueError("It broke.")


@function(effect="read")
async def wait(seconds: float) -> str:
    """Wait.

    Args:
        seconds: How long.
    """
    _begin("wait")
    await asyncio.sleep(seconds)
    return "waited"


@function(approval=False)
def block(seconds: float) -> str:
    """Wait without letting anybody else work, and not to be cancelled.

    Args:
        seconds: How long.
    """
    _begin("block")
    time.sleep(seconds)
    return "waited"


@function
def order(text: str) -> str:
    """Order something: nobody may do that unasked.

    Args:
        text: What to order.
    """
    _begin("order")
    return f"ordered {text}"


@function(timeout=0.2, approval=False)
async def dawdle() -> str:
    """Do something that takes longer than it may."""
    _begin("dawdle")
    await asyncio.sleep(60)
    return "done"


@function(effect="transactional")
def keep(what: str, fails: bool = False) -> str:
    """Write something into the database.

    Args:
        what: What.
        fails: Whether it fails after that.
    """
    _begin("keep")
    Group.objects.create(name=what)
    if fails:
        raise ValueError("It broke.")
    return f"kept {what}"


def _was_posted(arguments: dict[str, Any], key: str) -> Verdict:
    match arguments["text"]:
        case "arrived":
            return Done("posted before")
        case "lost":
            return NotDone()
        case _:
            return Unclear("The post office is closed.")


@function(effect="verifiable", verify=_was_posted, approval=False)
def post(text: str) -> str:
    """Post something, of which one can find out whether it arrived.

    Args:
        text: What.
    """
    _begin("post")
    return "posted now"


@function(approval=False)
def endless() -> str:
    """Do something that never ends, and that nobody can break off."""
    _begin("endless")
    while True:
        time.sleep(0.1)


@function(effect="read")
def hang() -> str:
    """Look for something for ever."""
    _begin("hang")
    while True:
        time.sleep(0.1)


@function(effect="transactional")
def keep_slowly(what: str) -> str:
    """Write something into the database, which takes a while.

    Args:
        what: What.
    """
    _begin("keep_slowly")
    Group.objects.create(name=what)
    time.sleep(1)
    return f"kept {what}"


@function(effect="read", cache=600)
def forecast(place: str) -> str:
    """Tell the weather.

    Args:
        place: Where.
    """
    _begin("forecast")
    return f"Rain in {place}."
