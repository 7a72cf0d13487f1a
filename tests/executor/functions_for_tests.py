"""Functions as an administrator drops them into the folder. Each says in a file next to it that it began."""

import asyncio
import time
from pathlib import Path

from tools.core.context import Context
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
