"""Where workers come from, fast: a process that has imported everything forks a Celery worker for each line it reads.

    {"log": "…", "releases": "…", "name": "a", "fault": ["start_tools", "after", 3, "SIGKILL", "…"]}

It answers each with {"born": pid}, and says {"died": pid, "signal": 9} of those that end. A worker that is started the
usual way takes one to two seconds of a core, which a thousand of them would only spend on imports.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import select
import signal
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

PRELOADED = (
    *("openai", "anthropic", "google.genai", "executor.worker", "executor.tasks", "celery.apps.worker"),
    *("celery.bin.worker", "kombu.transport.redis", "channels_redis.pubsub", "psycopg", "psycopg_pool"),
    *(f"executor.core.llms.{name}" for name in ("gpt", "claude", "gemini", "openai_compatible")),
)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentsite.settings")
    import django

    django.setup()
    for name in PRELOADED:
        import_module(name)
    from executor.core import prices
    from tools.registry import get_registry

    prices.load()
    get_registry()
    assert threading.active_count() == 1, "A fork would lose the other threads."
    gc.collect()
    gc.freeze()
    say({"ready": os.getpid()})
    while True:
        readable, _, _ = select.select([0], [], [], 0.02)
        if readable:
            line = read_line()
            if not line:
                return
            say({"born": fork(json.loads(line))})
        bury()


def read_line() -> str:
    """Byte by byte: what is read ahead would not be seen by `select`."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode()


def bury() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        say({"died": pid, "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0})


def say(what: dict[str, Any]) -> None:
    os.write(1, f"{json.dumps(what)}\n".encode())


def fork(order: dict[str, Any]) -> int:
    parent = os.getpid()
    if pid := os.fork():
        return pid
    try:
        be_a_worker(parent, order)
    finally:
        os._exit(0)


def be_a_worker(parent: int, order: dict[str, Any]) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        return
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for new, old in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(new, old)
    from chaos import faults

    faults.tell_releases(Path(order["releases"]))
    if order.get("fault"):
        point, when, count, how, report = order["fault"]
        faults.arm(point, when, count, how, Path(report))
    from agentsite.celery import app

    arguments = ["--quiet", "--skip-checks", "worker", "--without-gossip", "--without-mingle"]
    app.start([*arguments, "--hostname", f"{order['name']}@%h"])


if __name__ == "__main__":
    main()
