"""A provider's key is with the provider, in the environment, and nowhere else: looked for in everything there is."""

from __future__ import annotations

import base64
import json
import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from agentsite.data import redis_socket
from tests.agentsite.conftest import manage
from tests.chaos.site import Site
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Call, Turn

pytestmark = pytest.mark.chaos

CANARY = "sk-canary-7f3a91c2d8e64b05"
#: What a careless server answers. In the long form the key lies where what a provider says is cut short.
ECHO = f"Internal error while handling Authorization: Bearer {CANARY}"
LONG_ECHO = f"{ECHO[: -len(CANARY)]:x<280}{CANARY} and so on"


def tells(text: str) -> bool:
    """Whether the canary, or enough of it to be worth something, stands in `text`, plainly or in base64."""
    piece = CANARY[:16]
    encoded = (base64.b64encode(b"_" * shift + piece.encode()).decode()[4 if shift else 0 : -4] for shift in range(3))
    return any(form in text for form in (piece, piece[::-1], *encoded))


@contextmanager
def overheard(client: redis.Redis) -> Iterator[list[str]]:
    """Every command that anybody sends to the Redis: messages of the broker are gone before one could look."""
    heard: list[str] = []
    with client.monitor() as monitor:  # type: ignore[no-untyped-call]  # redis-py gives it no type.
        goodbye = f"goodbye-{os.getpid()}"

        def listen() -> None:
            for command in monitor.listen():
                heard.append(command["command"])
                if goodbye in command["command"]:
                    return

        thread = threading.Thread(target=listen)
        thread.start()
        yield heard
        client.get(goodbye)
        thread.join(10)


def values(client: redis.Redis) -> dict[str, Any]:
    """All that a Redis holds."""
    readers: dict[str, Any] = {
        "string": client.get,
        "list": lambda key: client.lrange(key, 0, -1),
        "set": client.smembers,
        "hash": client.hgetall,
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": client.xrange,
    }
    return {key: readers[str(client.type(key))](key) for key in map(str, client.scan_iter())}


def dump(database: Path) -> str:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return "\n".join(connection.iterdump())


def test_the_search_finds_a_key_in_each_form_that_it_is_made_for() -> None:
    for shift in range(3):
        assert tells(base64.b64encode(f"{'x' * shift}{{key: {CANARY}}}".encode()).decode())
    assert tells(f"Incorrect API key: {CANARY[:20]}…")
    assert not tells(base64.b64encode(b"nothing of the kind").decode())


def test_a_key_appears_nowhere_whether_tasks_succeed_or_fail(tmp_path: Path, model_server: ModelServer) -> None:
    model_server.api_key = CANARY
    data, environment = tmp_path / "data", {"CANARY_API_KEY": CANARY, "LOG_LEVEL": "DEBUG", "OPENAI_LOG": "debug"}
    scripts: dict[str, list[Turn]] = {
        "succeeds": [
            Turn(text="I count.", calls=(Call("calculate", {"expression": "6 * 7"}),)),
            Turn(text="It is 42."),
        ],
        "refused": [Turn(fault="401")],  # The fake repeats the key, as some providers do.
        "breaks": [Turn(fault="500", message=ECHO)] * 3,
        "breaks_late": [Turn(text="Some words", fault="error_event", message=ECHO)],
        "rambles": [Turn(fault="500", message=LONG_ECHO)] * 3,
    }
    # The same with a key that alice has entered, which is encrypted in the database.
    scripts |= {f"{name}_with_hers": scripts[name] for name in ("succeeds", "refused", "rambles")}
    with Site(data, **environment) as site:
        assert site.address
        site.add_user("alice")
        site.add_user("dora", is_staff=True, is_superuser=True)
        for name in (*scripts, "unreachable"):
            address = "http://127.0.0.1:9/v1" if name == "unreachable" else model_server.base_url
            fields = {"provider": "openai_compatible", "base_url": address, "model": name, "parameters": {}}
            variable = "" if name.endswith("_with_hers") else "CANARY_API_KEY"
            site.add_agent(name, api_key_variable=variable, **fields)
            model_server.script(scripts.get(name, []), model=name)
        site.python(
            "from users import api_keys; from users.models import User; alice = User.objects.get(username='alice'); "
            f"api_keys.add(alice, 'openai_compatible', {CANARY!r}, {model_server.base_url!r})"
        )
        alice, dora = site.log_in("alice"), site.log_in("dora")
        said: dict[str, str] = {}
        with redis.Redis(unix_socket_path=str(redis_socket(data)), decode_responses=True) as client:
            with overheard(client) as heard:
                for name in (*scripts, "unreachable"):
                    task = alice.ask("How much is 6 * 7?", agent=name)
                    over = site.wait_until_over(task)
                    assert (name, over["status"]) == (name, "done" if name.startswith("succeeds") else "failed")
                    said[f"conversation of {name}"] = alice.get(alice.conversation)
                    said[f"task of {name}"] = alice.get(f"/t/{task}/") + alice.get(f"/t/{task}/steps/")
                    for step in site.steps(task):
                        said[f"step of {name}"] = dora.get(f"/admin/executor/step/{step['id']}/change/")
                    said[f"review of {name}"] = dora.get(f"/admin/executor/task/{task}/change/")
                for name, status in (("succeeds", "done"), ("refused", "failed")):
                    model_server.script(scripts[name], model=name)
                    asked = manage(
                        data, "ask", "How much?", "--agent", name, "--user", "alice", "--json", **environment
                    )
                    assert json.loads(asked.stdout)["status"] == status
                    said[f"ask of {name}"] = asked.stdout + asked.stderr
            said["Redis, as it went by"] = "\n".join(heard)
            said["Redis, as it is"] = repr(values(client))
        for path in ("agent", "agentversion", "task", "step"):
            pages = [f"/admin/executor/{path}/"]
            pages += [f"{pages[0]}{row['id']}/change/" for row in site.rows(f"SELECT id FROM executor_{path}")][:9]
            said |= {page: dora.get(page) for page in pages}
        key = site.rows("SELECT id FROM users_apikey")[0]["id"]
        pages = ["/admin/users/apikey/", f"/admin/users/apikey/{key}/change/", f"/admin/users/apikey/{key}/history/"]
        said |= {page: dora.get(page) for page in pages}
        said["health"] = site.get("/healthz")[1]
        said["doctor"] = manage(data, "doctor", "--json", **environment).stdout
        said["database"] = dump(data / "db.sqlite3")
    said["log"] = "\n".join(site.lines)
    said |= {str(file): file.read_bytes().decode("latin-1") for file in data.rglob("*") if file.is_file()}
    assert {request.headers["authorization"] for request in model_server.asked} == {f"Bearer {CANARY}"}
    # It was looked at where such things would be: a broker's message, a stream of words, what the provider said.
    assert "XADD" in said["Redis, as it went by"]
    assert re.search(r"PUBLISH|LPUSH", said["Redis, as it went by"])
    assert "Internal error while handling Authorization: Bearer •••" in said["database"]
    assert [where for where, text in said.items() if tells(text)] == []
