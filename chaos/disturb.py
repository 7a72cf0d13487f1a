"""Kills at random: workers, the web process, Redis, connections of the database; frees what was frozen too late."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import suppress
from random import Random
from typing import Any

import psycopg
import redis
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections
from kombu.exceptions import OperationalError

from agentsite.celery import app
from chaos import faults
from chaos.world import Nursery, lines
from executor.hints import BELL
from executor.lease import LEASE
from executor.models import ACTIVE, HELD, Decision, Step, Task
from tests.chaos.postgres import Postgres
from tests.chaos.site import Site

#: Workers of the suite beside that of the site itself.
WORKERS = 2
#: `up` gives up a process that dies within ten seconds again and again, so its own live longer than that.
UP_PATIENCE = 11.0
#: Seconds between two restarts of the database server.
DATABASE_PATIENCE = 40.0
WEIGHTS = {
    "worker": 10,
    "drain": 6,
    "freeze": 2,
    "site's worker": 3,
    "web": 3,
    "redis": 3,
    "flushall": 2,
    "deaf": 2,
    "bells": 3,
    "connections": 3,
    "database": 1,
}
#: The boundary at which a worker that was told to end let go of a task.
GIVEN_BACK = "it was given back on SIGTERM"
#: What counts as a kill: a process that is gone, or gone for longer than its lease.
KILLS = ("worker", "drain", "freeze", "site's worker", "web", "redis", "database")


class Disturber:
    """`kills` and `others` say how often what was done."""

    def __init__(
        self, site: Site, server: Postgres | None, nursery: Nursery, random: Random, wanted: int, seconds: float
    ) -> None:
        self.kills: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self._site = site
        self._server = server
        self._nursery = nursery
        self._random = random
        self._wanted = wanted
        self._seconds = seconds
        self._points = [(point, when) for point in faults.POINTS for when in ("before", "after")]
        self._points += [("call", "during")] * (len(self._points) // 3)
        random.shuffle(self._points)
        self._todo = random.sample(list(WEIGHTS), len(WEIGHTS))  # Each once, before chance decides.
        self._armed: set[int] = set()
        self._frozen: dict[int, float] = {}
        self._draining: set[int] = set()
        self._next: dict[str, float] = {}
        self._lost: list[tuple[str, float, dict[str, int]]] = []  # How, when, and the fences of the tasks held.
        self._angry = True
        self._stopped = 0  # Frozen at a commit.

    # --- the play ----------------------------------------------------------------------------------------------------

    def rage(self) -> None:
        began = time.monotonic()
        pause = self._seconds / self._wanted
        next_kill = began + 2
        while self._count() < self._wanted or self._frozen:
            time.sleep(0.02)
            self._keep_workers()
            self._thaw()
            now = time.monotonic()
            if now - began > self._seconds * 1.5 + LEASE.seconds:
                return  # It is not to take for ever on a slow machine; the report says how many there were.
            if now < next_kill or self._count() >= self._wanted:
                continue
            next_kill = now + self._random.expovariate(1 / pause)
            with suppress(DatabaseError, redis.RedisError, psycopg.Error, OSError, OperationalError):
                self._do(self._todo.pop() if self._todo else self._any())

    def calm_down(self) -> None:
        """Nobody is killed any more: what is frozen goes on, armed workers are replaced."""
        self._count()
        self.kills["freeze at a commit"] = self._stopped
        self._angry = False
        self._thaw(everyone=True)
        for pid in list(self._nursery.alive):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self._keep_workers()
        for _ in range(WORKERS):
            self._nursery.fork()

    def _any(self) -> str:
        (what,) = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        return what

    def _count(self) -> int:
        for line in lines(self._nursery.folder / "faults")[self.kills["worker at a commit"] + self._stopped :]:
            if line["how"] == "SIGSTOP":
                self._frozen[line["pid"]] = time.monotonic() + LEASE.seconds + self._random.uniform(1, 5)
                self._stopped += 1
            else:
                self.kills["worker at a commit"] += 1
        return sum(self.kills.values()) + self._stopped

    def _keep_workers(self) -> None:
        """Two that are at work, most of them with a wish to die."""
        if not self._angry:
            return
        able = self._nursery.alive - set(self._frozen) - self._draining
        self._draining &= self._nursery.alive
        for _ in range(WORKERS - len(able)):
            self._nursery.fork(self._fault() if self._random.random() < 0.92 else None)

    def _fault(self) -> tuple[str, str, int, str]:
        point, when = self._points[0]
        self._points.append(self._points.pop(0))
        count = self._random.randint(1, 1 if point in faults.RARE else 4)
        # A transaction that is frozen before its end holds SQLite's only lock, so nobody could take anything over.
        may_freeze = when == "after" and not self._frozen and self._is_time("freeze at a commit", LEASE.seconds + 4)
        return point, when, count, "SIGSTOP" if may_freeze else "SIGKILL"

    def _do(self, what: str) -> None:
        able = sorted(self._nursery.alive - set(self._frozen) - self._draining)
        match what:
            case "worker" if able:
                self._kill(self._random.choice(able), "kill -9")
            case "drain" if able:
                pid = max(able, key=lambda pid: len(self._held(pid)))  # Who holds nothing has nothing to hand over.
                self._draining.add(pid)
                self._remember("SIGTERM", pid)
                os.kill(pid, signal.SIGTERM)
            case "freeze" if able and not self._frozen and self._is_time(what, LEASE.seconds + 10):
                pid = self._random.choice(able)
                self._frozen[pid] = time.monotonic() + LEASE.seconds + self._random.uniform(1, 5)
                self._remember("SIGSTOP", pid)
                os.kill(pid, signal.SIGSTOP)
            case "site's worker" if self._is_time(what, UP_PATIENCE):
                self._kill(self._site.children()["worker"], "kill -9")
            case "web" | "redis" if self._is_time(what, UP_PATIENCE):
                self._site.kill(what)
            case "flushall":
                self._redis(lambda client: client.flushall())
            case "deaf":
                self._redis(lambda client: client.client_kill_filter(_type="pubsub"))
            case "bells":
                ids = [str(pk) for pk in Task.objects.filter(status__in=ACTIVE).values_list("pk", flat=True)]
                self._redis(lambda client: [client.publish(BELL, pk) for pk in ids * 2])
                for pk in ids[:5]:
                    app.send_task("executor.execute", [pk])
            case "connections" if self._server:
                self._cut_connections()
            case "database" if self._server and self._is_time(what, DATABASE_PATIENCE):
                self._server.stop(self._random.choice(("fast", "immediate")))
                time.sleep(self._random.uniform(0, 2))
                self._server.start()
            case _:
                return
        (self.kills if what in KILLS else self.others)[what] += 1

    def _kill(self, pid: int, how: str) -> None:
        self._remember(how, pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def _is_time(self, what: str, patience: float) -> bool:
        """Not again within `patience` seconds."""
        now = time.monotonic()
        if now < self._next.get(what, 0):
            return False
        self._next[what] = now + patience
        return True

    def _thaw(self, *, everyone: bool = False) -> None:
        for pid, until in list(self._frozen.items()):
            if everyone or time.monotonic() > until:
                del self._frozen[pid]
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _redis(self, do: Any) -> None:
        with redis.from_url(settings.REDIS_URL, socket_timeout=2) as client:
            do(client)

    def _cut_connections(self) -> None:
        assert self._server
        place: Any = {"host": str(self._server.folder), "user": "agentsite", "dbname": "agentsite"}
        with psycopg.connect(**place) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = 'agentsite' AND pid <> pg_backend_pid() AND random() < 0.7"
            )

    # --- what came of it ---------------------------------------------------------------------------------------------

    def _remember(self, how: str, pid: int) -> None:
        self._lost.append((how, time.time(), self._held(pid)))

    def _held(self, pid: int) -> dict[str, int]:
        """The tasks that a process has, with their fences; none where the database does not say."""
        try:
            found = Task.objects.filter(status__in=HELD, owner__contains=f":{pid}:").values_list("pk", "fence")
            return {str(pk): fence for pk, fence in found}
        except DatabaseError:
            connections.close_all()
            return {}

    def boundaries(self) -> Counter[str]:
        return Counter(
            f"{line['how']} {line['when']} {line['point']}".removeprefix("SIGKILL ")
            for line in lines(self._nursery.folder / "faults")
        )

    def resumed(self) -> dict[str, list[float]]:
        """Seconds from a death until each task that was held then did something again, elsewhere, or was over.

        A task whose next worker died before it did anything is counted from that death on. One that a worker gave back
        on SIGTERM is counted from there as well: before that, a function may have run.
        """
        hows = {"SIGKILL": "kill -9", "SIGSTOP": "SIGSTOP"}
        died = [(hows[line["how"]], line["at"], line["held"]) for line in lines(self._nursery.folder / "faults")]
        lost = sorted([*self._lost, *died], key=lambda death: death[1])
        released = {(line["task"], line["fence"]): line["at"] for line in lines(self._nursery.folder / "releases")}
        times: dict[str, list[float]] = {"kill -9": [], "SIGTERM": [], GIVEN_BACK: [], "SIGSTOP": []}
        for number, (how, at, held) in enumerate(lost):
            for task in Task.objects.filter(pk__in=held):
                when = [
                    *Step.objects.filter(task=task, fence__gt=held[str(task.pk)]).values_list("started_at", flat=True),
                    *Decision.objects.filter(task=task).values_list("created_at", flat=True),
                    task.ended_at,
                ]
                again = min((moment.timestamp() for moment in when if moment and moment.timestamp() > at), default=at)
                died_again = any(str(task.pk) in later[2] and later[1] < again for later in lost[number + 1 :])
                if again > at and not died_again:
                    times[how].append(again - at)
                    if how == "SIGTERM" and at <= (boundary := released.get((str(task.pk), held[str(task.pk)]), 0)):
                        times[GIVEN_BACK].append(max(0.0, again - boundary))
        return times
