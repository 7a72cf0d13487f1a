"""So many requests at a time, and one that never waits."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from asgiref.sync import sync_to_async

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


async def test_those_who_come_one_after_the_other_meet_the_same_thread_and_with_it_an_open_connection() -> None:
    met: list[int] = []

    async def site(scope: Any, receive: Any, send: Any) -> None:
        met.append(await sync_to_async(threading.get_ident)())

    turnstile = Turnstile(site, 2)
    for _ in range(3):
        await turnstile({"path": "/"}, None, None)
    assert len(set(met)) == 1
    assert met[0] != threading.get_ident()


async def test_two_at_a_time_do_not_wait_for_each_other() -> None:
    together = threading.Barrier(2, timeout=5)

    async def site(scope: Any, receive: Any, send: Any) -> None:
        await sync_to_async(together.wait)()

    turnstile = Turnstile(site, 2)
    await asyncio.gather(*(turnstile({"path": "/"}, None, None) for _ in range(2)))


async def test_a_request_whose_browser_left_gives_its_place_back() -> None:
    site = Site()
    turnstile = Turnstile(site, 1)
    leaving = asyncio.create_task(turnstile({"path": "/left"}, None, None))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    site.go.set()
    async with asyncio.timeout(5):
        await turnstile({"path": "/next"}, None, None)
