"""A browser without a page: posts a message as a form does and reads what comes through the socket."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from dataclasses import dataclass, field

import httpx2
import websockets
from websockets.typing import Origin

TASK = re.compile(r'id="task-([0-9a-f-]+)"')
FIRST_WORD = re.compile(r"<p>\w")  # People's own words and the page's are never a bare paragraph.


@dataclass(slots=True)
class Seen:
    """One answer as its viewer saw it. Times in seconds from the moment the message was sent."""

    status: str = ""
    first_token: float = 0.0
    seconds: float = 0.0
    bytes: int = 0
    messages: int = 0
    last: str = ""
    arrivals: list[float] = field(default_factory=list)


CSRF = "c" * 32
QUIET = 0.5  # Seconds without a message after which a page has all it gets at first.
PATIENCE = 120.0  # Seconds after which an answer counts as failed.


class Viewer:
    """A person with one conversation in one tab. It exists, with an answer in it, before anything is measured."""

    def __init__(self, client: httpx2.AsyncClient, address: str, session: str, agent: str) -> None:
        self._client = client
        self._address = address
        self._headers = {"Cookie": f"sessionid={session}; csrftoken={CSRF}", "X-CSRFToken": CSRF, "Origin": address}
        self._agent = agent
        self.path = ""
        self._socket: websockets.ClientConnection

    async def open(self) -> None:
        """A new conversation. The model is asked to answer with almost nothing."""
        response = await self._client.post(
            f"{self._address}/send/", data={"text": "Go.", "agent": "short"}, headers=self._headers
        )
        self.path = response.headers["location"]

    async def connect(self) -> None:
        """Open the page's socket and take what every page gets when it comes."""
        url = f"{self._address.replace('http', 'ws', 1)}/live/?conversation={self.path.strip('/').split('/')[-1]}"
        headers = {"Cookie": self._headers["Cookie"]}
        self._socket = await websockets.connect(
            url,
            additional_headers=headers,
            origin=Origin(self._address),
            compression=None,
            max_size=None,
            open_timeout=60,
        )
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(QUIET):
                    await self._socket.recv()

    async def close(self) -> None:
        await self._socket.close()

    async def ask(self, text: str) -> Seen:
        """Send `text` and watch until the answer is complete. Raises TimeoutError."""
        seen = Seen()
        began = time.perf_counter()
        sending = asyncio.create_task(self._send(text))
        early: list[tuple[float, str]] = []
        async with asyncio.timeout(PATIENCE):
            async for message in self._socket:
                now = time.perf_counter() - began
                seen.bytes += len(message)
                seen.messages += 1
                early.append((now, str(message)))
                if not sending.done():
                    continue  # Until the answer to the POST names the task, nobody knows what is about it.
                task = sending.result()
                for when, html in early:
                    self._look(seen, task, when, html)
                early.clear()
                if seen.status:
                    break
        return seen

    def _look(self, seen: Seen, task: str, now: float, html: str) -> None:
        """What a message tells of the task; answers of before may be repainted as well."""
        at = max(html.find(f"#open-{task}"), html.find(f"#answer-{task}"), html.find(f'id="task-{task}"'))
        if at < 0:
            return
        if not seen.first_token and FIRST_WORD.search(html, at):
            seen.first_token = now
        if over := re.compile(f'id="task-{task}" data-status="(done|failed|stopped|needs_attention)"').search(html):
            seen.status, seen.seconds, seen.last = over[1], now, html[over.start() :]

    async def _send(self, text: str) -> str:
        """Returns the id of the task that answers."""
        response = await self._client.post(
            f"{self._address}{self.path}send/",
            data={"text": text, "agent": self._agent},
            headers={**self._headers, "HX-Request": "true"},
        )
        response.raise_for_status()
        found = TASK.search(response.text)
        assert found, response.text
        return found[1]
