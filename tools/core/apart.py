"""Work on what strangers wrote, in a process of its own.

Parsers of real-world files take hours over some that were made for it, and a thread cannot be stopped. The process gets
seconds of the processor and so much memory, sees neither our environment, with its secrets, nor our output, and is
killed with whoever waits for it.
"""

import asyncio
import resource
import sys
from pathlib import Path

MEMORY = 1024 * 1024 * 1024
#: Of the clock, for each second of the processor: machines are busy.
PATIENCE = 10

_ROOT = Path(__file__).resolve().parents[2]


class Unreadable(ValueError):
    """The process did not come to an end, or to nothing good."""


async def run(module: str, *arguments: str, body: bytes, seconds: int) -> bytes:
    """What `module`, which calls `limit` with the same `seconds`, writes when it reads `body`. Raises Unreadable."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", module, *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, cwd=_ROOT, env={}
    )
    try:
        async with asyncio.timeout(seconds * PATIENCE):
            written, _ = await process.communicate(body)
    except TimeoutError:
        raise Unreadable("It took too long.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise Unreadable("It is too large or too tangled.")
    return written


def limit(seconds: int) -> None:
    """Called first by the module that works."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
