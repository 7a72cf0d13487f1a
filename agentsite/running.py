"""The process that `manage.py up` becomes once everything is prepared: it supervises, and greets when all is ready.

It is started by exec with the number of a file descriptor from which it reads its `Plan`. It imports neither Django nor
Celery: what stays in memory for months should be small, and `up` with its imports would be a third of the whole.
"""

import asyncio
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass

from agentsite.supervisor import Child, GaveUpError, Supervisor, say

GAVE_UP = 6  # Exit code; the others are in prepare.py.
PATIENCE = 20.0  # Seconds without being ready after which a line says what is missing.
AGAIN = 0.1  # Seconds between two looks.


@dataclass
class Plan:
    """What to run, where it will answer, and what to say once it does."""

    children: list[Child]
    address: str
    port: int
    host_name: str  # For the Host header: a name that ALLOWED_HOSTS allows.
    greeting: list[str]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        fields = json.loads(text)
        return cls(**{**fields, "children": [Child(**child) for child in fields["children"]]})


def main() -> None:
    with os.fdopen(int(sys.argv[1])) as file:
        plan = Plan.from_json(file.read())
    try:
        asyncio.run(Supervisor(plan.children).run(_greet(plan)))
    except GaveUpError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(GAVE_UP)
    say("Stopped.")


async def _greet(plan: Plan) -> None:
    """Say that the site is ready, once a page is really served and a worker really works."""
    waiting = {
        "web": asyncio.create_task(_page_is_served(plan)),
        "worker": asyncio.create_task(_worker_works(plan)),
    }
    try:
        while pending := [task for task in waiting.values() if not task.done()]:
            await asyncio.wait(pending, timeout=PATIENCE)
            if late := [name for name, task in waiting.items() if not task.done()]:
                say(f"Still waiting for: {', '.join(late)}.")
        for line in plan.greeting:
            say(line)
    finally:
        for task in waiting.values():
            task.cancel()


async def _page_is_served(plan: Plan) -> None:
    complained = False
    while True:
        status, _ = await _get(plan, "/")
        if 200 <= status < 400:
            return
        if status and not complained:
            complained = True
            say(f"The start page answers with status {status}; trying again until it is served.")
        await asyncio.sleep(AGAIN)


async def _worker_works(plan: Plan) -> None:
    while b'"worker": "ok"' not in (await _get(plan, "/healthz"))[1]:  # noqa: ASYNC110  (it is in another process)
        await asyncio.sleep(AGAIN)


async def _get(plan: Plan, path: str) -> tuple[int, bytes]:
    """Status and raw body; (0, b"") without an answer. A request made early waits until the web process has started."""
    request = f"GET {path} HTTP/1.1\r\nHost: {plan.host_name}\r\nConnection: close\r\n\r\n"
    with suppress(OSError, ValueError, IndexError):
        reader, writer = await asyncio.open_connection(plan.address, plan.port)
        try:
            writer.write(request.encode())
            status = int((await reader.readline()).split()[1])
            return status, await reader.read()
        finally:
            writer.close()
    return 0, b""


if __name__ == "__main__":
    main()
