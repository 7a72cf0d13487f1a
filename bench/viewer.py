"""A browser without a page: posts a message as a form does and reads what comes through the socket."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field

import httpx2
import websockets

TASK = re.compile(r'id="task-([0-9a-f-]+)"')
OVER = re.compile(r'id="task-([0-9a-f-]+)" data-status="(?:done|failed|stopped|needs_attention)"')
STATUS = re.compile(r'data-status="(\w+)"')
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
PATIENCE = 120.0  # Seconds after which an answer counts as failed.


class Viewer:
    """A person with one conversation in one tab. It exists, with an answer in it, before anything is measured."""

    def __init__(self, client: httpx2.AsyncClient, address: str, session: str, agent: str) -> None:
        self._client = client
        self._address = address
        self._headers = {"Cookie": f"sessionid={session}; csrftoken={CSRF}", "X-CSRFToken": CSRF, "Origin": address}
        self._agent = agent
        self.path = ""

    async def open(self) -> None:
        """A new conversation. The model is asked to answer with almost nothing."""
        response = await self._client.post(
            f"{self._address}/send/", data={"text": "Go.", "agent": "short"}, headers=self._headers
        )
        self.path = response.headers["location"]

    async def watch(self, text: str) -> Seen:
        """Send `text` and watch until the answer is complete."""
        seen = Seen()
        url = f"{self._address.replace('http', 'ws', 1)}/live/?conversation={self.path.strip('/').split('/')[-1]}"
        headers = {"Cookie": self._headers["Cookie"]}
        async with websockets.connect(
            url, additional_headers=headers, origin=self._address, compression=None, max_size=None, open_timeout=60
        ) as socket:
            await socket.recv()  # The repaint that every page gets when it comes.
            began = time.perf_counter()
            sending = asyncio.create_task(self._send(text))
            over: dict[str, str] = {}
            async with asyncio.timeout(PATIENCE):
                async for message in socket:
                    now = time.perf_counter() - began
                    seen.bytes += len(message)
                    seen.messages += 1
                    if not seen.first_token and FIRST_WORD.search(str(message)):
                        seen.first_token = now
                    over |= {task: str(message) for task in OVER.findall(str(message))}
                    # The answer of before may be repainted as well; wait for that of this message.
                    if over and (task := await sending) in over:
                        seen.seconds, seen.last = now, over[task][over[task].index(f'id="task-{task}"') :]
                        seen.status = STATUS.search(seen.last)[1]
                        break
        return seen

    async def _send(self, text: str) -> str:
        """Returns the id of the task that answers."""
        response = await self._client.post(
            f"{self._address}{self.path}send/",
            data={"text": text, "agent": self._agent},
            headers={**self._headers, "HX-Request": "true"},
        )
        response.raise_for_status()
        return TASK.search(response.text)[1]
