"""A site that is asked to stop in the middle of its work stops soon, and leaves nobody behind."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.agentsite.conftest import eventually, is_alive
from tests.chaos.site import Site, Visitor
from tests.fakes.model_server import ModelServer

pytestmark = pytest.mark.chaos

SOCKETS = 20
#: Seconds from the wish to the end.
SOON = 5.0


def listening(site: Site, visitor: Visitor) -> ClientConnection:
    """What an open page of the visitor's conversation listens with."""
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies().items())
    address = f"ws{site.address.removeprefix('http')}/live/?conversation={visitor.conversation.split('/')[2]}"
    return connect(address, origin=Origin(site.address), additional_headers={"Cookie": cookies})


def is_closed(page: ClientConnection) -> bool:
    try:
        while True:
            page.recv(1)
    except ConnectionClosed:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_open_pages_and_a_running_answer_do_not_keep_a_site_from_stopping_soon(
    tmp_path: Path, model_server: ModelServer, number: signal.Signals
) -> None:
    with Site(tmp_path / "data") as site, ExitStack() as opened:
        assert site.address
        # 2,000 words, 20 a second.
        fields = {"provider": "openai_compatible", "base_url": model_server.base_url, "model": "stream-2000-20"}
        site.add_agent("talkative", parameters={}, **fields)
        site.add_user("alice")
        alice = site.log_in("alice")
        task = alice.ask("Talk!", agent="talkative")
        pages = [opened.enter_context(listening(site, alice)) for _ in range(SOCKETS)]
        for page in pages:  # All of them hear the words.
            while "token token" not in str(page.recv(10)):
                pass
        children = site.children()
        assert set(children) == {"web", "worker", "redis"}
        began = time.monotonic()
        site.process.send_signal(number)
        assert site.ends() == 0
        took = time.monotonic() - began
        assert [name for name, pid in children.items() if is_alive(pid)] == []
        print(f"stopped with {SOCKETS} open pages and an answer in {took:.1f} s")  # noqa: T201  (`pytest -rP`)
        assert took < SOON
        assert [line for line in site.lines if "Traceback" in line or "did not stop" in line] == []
        assert site.lines[-1] == "Stopped."
        assert all(is_closed(page) for page in pages)  # None of them waits for ever for what will not come.
        eventually(model_server.asked[-1].disconnected.is_set, "nobody listens to the model any more")
        # The answer is not lost: its task waits for the next start.
        assert site.task(task)["status"] == "queued"
