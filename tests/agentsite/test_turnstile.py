"""So many requests at a time, and one that never waits."""

from __future__ import annotations

import asyncio
from typing import Any

from agentsite.asgi import Turnstile


class Site:
    """An application whose requests end when `go` is set."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.most = 0
        self.go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.inside.append(scope["path"])
        self.most = max(self.most, len(self.inside))
        await self.go.wait()
        self.inside.remove(scope["path"])


async def test_the_others_wait_and_are_served_in_the_end_but_health_is_told_at_once() -> None:
    site = Site()
    turnstile = Turnstile(site, 2)
    async with asyncio.TaskGroup() as requests:
        for number in range(5):
            requests.create_task(turnstile({"path": f"/{number}"}, None, None))
        await asyncio.sleep(0)
        assert site.inside == ["/0", "/1"]
        requests.create_task(turnstile({"path": "/healthz"}, None, None))
        await asyncio.sleep(0)
        assert site.inside == ["/0", "/1", "/healthz"]
        site.go.set()
    assert site.most == 3
    assert site.inside == []
