"""People who use the site while it is killed: they send, decide, stop, try again, and answer truthfully."""

from __future__ import annotations

import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from random import Random
from typing import Any

from django.db import Error as DatabaseError
from django.db import connections

from chaos.plans import Plan, chain, make, word
from chaos.world import EVERYBODY, GIVERS, ledger_key, lines
from conversations.actions import send_now
from conversations.models import Turn
from executor import actions, decisions
from executor.actions import NotNow
from executor.decisions import TooLate
from executor.models import ACTIVE, Agent, Decision, DeclaredTask, Status, Task
from tests.chaos.site import Site, Visitor
from users.models import User

EDITED = "edited"
#: Failures after which people try again.
TRIED_AGAIN = ("stalled", "doubtful", "protocol", "server", "connection")


class People:
    """`plans` has what was sent, by key; `sent` those of which the site said that it has them."""

    def __init__(self, site: Site, ledger: Path, seed: int, at_once: int, senders: int = 3) -> None:
        self.plans: dict[str, Plan] = {}
        self.sent: set[str] = set()
        self.did: Counter[str] = Counter()
        self.taken_twice = 0
        self.conversations: list[str] = []
        self._site = site
        self._ledger = ledger
        self._at_once = at_once
        self._active = 0
        self._numbers = iter(range(1, 10**6))
        self._lock = threading.Lock()
        self._busy = True  # New messages are sent.
        self._over = threading.Event()
        self._alice: Any = User.objects.get(username="alice")
        self._again: dict[Any, float] = {}
        self._threads = [threading.Thread(target=self._decide_forever, args=(Random(f"{seed} decides"),))]
        for number in range(senders):
            visitor = site.log_in("alice")
            arguments = (visitor, Random(f"{seed} sends {number}"))
            self._threads.append(threading.Thread(target=self._send_forever, args=arguments))
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def calm_down(self) -> None:
        """Send nothing new; go on answering."""
        self._busy = False

    def go(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    # --- messages ----------------------------------------------------------------------------------------------------

    def _send_forever(self, visitor: Visitor, random: Random) -> None:
        mine: list[str] = []
        while self._busy:
            if self._active >= self._at_once:
                time.sleep(0.1)
                continue
            if random.random() < 0.25:
                self._start(self.plan(random, declared=True))
                continue
            where = random.choice(mine[-4:]) if mine and random.random() < 0.3 else "/"
            mine.append(self.send(visitor, self.plan(random), where))
            if where != "/" and random.random() < 0.4:
                self._say_in_between(visitor, self.plan(random, in_between=True), where)
        connections.close_all()

    def plan(self, random: Random, *, in_between: bool = False, declared: bool = False) -> Plan:
        with self._lock:
            number = next(self._numbers)
        agent = random.choice(EVERYBODY)
        plan = make(random, number, agent, EVERYBODY if agent in GIVERS else ())
        if in_between:
            # Its task may go on with the plan before it, which a small window may not have room for.
            plan = word(number, random.choice(GIVERS), plan.key)
        if declared:
            plan = chain(plan, number)
        self.plans[plan.key] = plan
        return plan

    def _start(self, plan: Plan) -> None:
        """A declared task, until the database has it."""
        self._active += 1
        while True:
            try:
                agent = Agent.objects.get(name=plan.agent)
                chain = DeclaredTask.objects.get(name="chain")
                actions.start_declared(self._alice, chain, plan.data or {}, agent, idempotency_key=plan.key)
            except DatabaseError:
                connections.close_all()
                time.sleep(0.3)
                continue
            self.did["started"] += 1
            self.sent.add(plan.key)
            return

    def _say_in_between(self, visitor: Visitor, plan: Plan, where: str) -> None:
        self.send(visitor, plan, where)
        with suppress(DatabaseError, Turn.DoesNotExist):
            turn = Turn.objects.select_related("task", "conversation").get(task__idempotency_key=plan.key)
            self.did["sent now"] += send_now(turn)

    def send(self, visitor: Visitor, plan: Plan, where: str = "/") -> str:
        """Until the site has it: a key makes the message that is sent again the same one. Returns the conversation."""
        self._active += 1
        while True:
            try:
                conversation = visitor.post(f"{where}send/", text=plan.text, agent=plan.agent, key=plan.key)
            except (OSError, HTTPException, urllib.error.URLError):
                self.did["sent again"] += 1
                time.sleep(0.3)
                continue
            assert conversation.startswith("/c/"), f"A message was not taken: {conversation}"
            self.did["sent"] += 1
            self.sent.add(plan.key)
            self.conversations.append(conversation)
            return conversation

    # --- decisions ---------------------------------------------------------------------------------------------------

    def _decide_forever(self, random: Random) -> None:
        while not self._over.wait(0.1):
            try:
                self._look_around(random)
            except DatabaseError:
                connections.close_all()
                time.sleep(0.2)
        connections.close_all()

    def _look_around(self, random: Random) -> None:
        active = list(Task.objects.filter(status__in=ACTIVE).only("pk", "status"))
        self._active = len(active)
        pending = Decision.objects.filter(status=Decision.Status.PENDING).select_related("step", "task")
        for decision in list(pending):
            if random.random() < 0.4 or not self._busy:
                self._decide(decision, random)
        if self._busy and active and random.random() < 0.02:
            self.did["stopped"] += actions.stop(Task.objects.get(pk=random.choice(active).pk))
        # What became of a task that was given is told to the one that gave it, once.
        failed = Task.objects.filter(status__in=(Status.NEEDS_ATTENTION, Status.FAILED), parent=None)
        for task in failed.filter(error_kind__in=TRIED_AGAIN):
            why = task.error_kind
            with suppress(NotNow):
                self.did[f"tried again: {why}"] += actions.retry(task)

    def _decide(self, decision: Decision, random: Random) -> None:
        verb = self._verb(decision, random)
        if random.random() < 0.1:  # In two windows at once.
            results: list[bool] = []
            both = [threading.Thread(target=self._say, args=(decision.pk, verb, results)) for _ in range(2)]
            for one in both:
                one.start()
            for one in both:
                one.join()
            if results.count(True) > 1:
                self.taken_twice += 1
        else:
            self._say(decision.pk, verb, [])

    def _say(self, pk: int, verb: Callable[[Decision], None], results: list[bool]) -> None:
        try:
            verb(Decision.objects.select_related("step", "task").get(pk=pk))
            results.append(True)
            self.did["decided"] += 1
        except TooLate:
            self.did["decided too late"] += 1
        except DatabaseError:
            connections.close_all()
        finally:
            if threading.current_thread() not in self._threads:
                with suppress(DatabaseError):
                    connections.close_all()

    def _verb(self, decision: Decision, random: Random) -> Callable[[Decision], None]:
        alice, chance = self._alice, random.random()
        match decision.kind:
            case Decision.Kind.QUESTION:
                return lambda it: decisions.answer(it, alice, "This one.")
            case Decision.Kind.PLAN:
                return lambda it: (decisions.allow if chance < 0.7 else decisions.deny)(it, alice)
            case Decision.Kind.UNKNOWN:
                return self._truth(decision, chance)
        if chance < 0.15:
            return lambda it: decisions.deny(it, alice, "No.")
        if chance < 0.3:
            assert decision.step is not None
            edited = {**(decision.step.arguments or {}), "note": EDITED}
            return lambda it: decisions.allow(it, alice, edited)
        return lambda it: decisions.allow(it, alice, always=chance > 0.97)

    def _truth(self, decision: Decision, chance: float) -> Callable[[Decision], None]:
        """They look whether it happened, and say so."""
        assert decision.step is not None
        call = ledger_key(decision.step)
        begun = any(line["call"] == call and line["phase"] == "start" for line in lines(self._ledger))
        if chance < 0.2:
            return lambda it: decisions.skip(it, self._alice)
        if begun:
            self.did["it did"] += 1
            return lambda it: decisions.it_did(it, self._alice)
        self.did["run again"] += 1
        return lambda it: decisions.run_again(it, self._alice)
