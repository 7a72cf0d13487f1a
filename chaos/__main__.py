"""`make chaos`: kills a real site at random and at every commit, then counts what that did. See docs/durability.md.

    make chaos                                                   a short one, on SQLite
    make chaos ARGS="--kills 1000 --minutes 15 --database postgres --seed 7"

Exit code 1 if anything was lost, doubled or left behind: then the folder with the database, the ledger and the
workers' log stays, and its name is printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from contextlib import ExitStack
from random import Random
from typing import Any

from chaos.world import Flaky, Nursery, add_people_and_agents, data_folder, lines, set_up_django
from tests.chaos.postgres import Postgres, PostgresSite
from tests.chaos.site import Site

#: Seconds in which everything has to come to rest when nobody is killed any more.
REST_WITHIN = 240.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25, help="processes killed or frozen (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=1.0, help="in so many minutes (default: %(default)s)")
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--seed", type=int, default=None, help="of plans and kills (default: a new one)")
    parser.add_argument("--tasks", type=int, default=14, help="at work at once (default: %(default)s)")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else int.from_bytes(os.urandom(3))
    say(f"Seed {seed}, {arguments.database}, {arguments.kills} kills in {arguments.minutes:g} minutes.")
    keep: list[str] = []
    with data_folder(keep) as folder, ExitStack() as stack:
        more = {
            "CHAOS_LEDGER": str(folder / "ledger"),
            "CHAOS_KEY": "sk-of-the-suite",
            "FUNCTIONS_DIR": str(folder / "functions"),
            "TASKS_DIR": str(folder / "tasks"),
        }
        server = None
        if arguments.database == "postgres":
            server = Postgres()
            stack.callback(server.close)
            more["DATABASE_POOL"] = "24"
        models = stack.enter_context(Flaky(Random(f"{seed} models")))
        site: Site = PostgresSite(folder / "data", server, **more) if server else Site(folder / "data", **more)
        with site:
            site.address  # noqa: B018  (waits until it is ready)
            set_up_django(site.data, **site.more)
            add_people_and_agents(models)
            nursery = Nursery(site, folder, **site.more)
            try:
                verdict, facts = play(site, server, nursery, seed, arguments)
                facts["kept"] = models.kept.told()
            finally:
                nursery.close()
        facts |= measure()
        report(seed, verdict, facts)
        if not verdict.is_fine:
            keep.append("It failed.")
            (folder / "site.log").write_text("\n".join(site.lines))
            say(f"\nSeed {seed}. Look at {folder}: data/ (database), ledger, workers.log, site.log, faults.")
    return 0 if verdict.is_fine else 1


def play(
    site: Site, server: Postgres | None, nursery: Nursery, seed: int, arguments: Any
) -> tuple[Any, dict[str, Any]]:
    from chaos.check import check, check_refusals, check_transcripts
    from chaos.disturb import Disturber
    from chaos.people import People
    from executor.models import ACTIVE, Task

    folder = nursery.folder
    people = People(site, folder / "ledger", seed, arguments.tasks)
    began = time.monotonic()
    disturber = Disturber(site, server, nursery, Random(f"{seed} kills"), arguments.kills, arguments.minutes * 60)
    disturber.rage()
    raged = time.monotonic() - began
    people.calm_down()
    disturber.calm_down()
    calm = time.monotonic()
    at_rest = wait_for_rest(REST_WITHIN)
    rested = time.monotonic() - calm
    if at_rest:  # Every history must be one that somebody can go on from, with whichever provider.
        visitor, random = site.log_in("alice"), Random(f"{seed} last words")
        everywhere = sorted(set(people.conversations))
        for conversation in random.sample(everywhere, min(len(everywhere), 60)):
            people.send(visitor, people.plan(random), conversation)
        wait_for_rest(REST_WITHIN)
    people.go()
    active = Task.objects.filter(status__in=ACTIVE).count()
    verdict = check(people.plans, people.sent, lines(folder / "ledger"))
    check_refusals(verdict)
    check_transcripts(verdict, Task.objects.filter(next_tasks=None).select_related("agent_version"))
    for _ in range(people.taken_twice):
        verdict.say("decisions consumed twice", "two answers to one question were both taken")
    facts = {
        "seconds": raged,
        "rest": rested,
        "active": active,
        "kills": disturber.kills,
        "disturbances": disturber.others,
        "boundaries": disturber.boundaries(),
        "people": people.did,
        "resumed": disturber.resumed(),
        "complaints": complaints(folder, site),
    }
    return verdict, facts


def measure() -> dict[str, Any]:
    """What tests hold as well, on the database as it is now. Nobody else is at work any more."""
    from executor.models import Status, Task
    from tests.executor.measures import bytes_per_step, contest, refused

    first = Task.objects.earliest("created_at")

    def make_task() -> Task:
        return Task.objects.create(user=first.user, agent_version=first.agent_version, input=first.input)

    wanted = [make_task().pk for _ in range(200)]
    won = contest(wanted)
    single = sum(sum(pk in each for each in won) == 1 for pk in wanted)
    late = refused(wanted)
    Task.objects.filter(pk__in=wanted).update(status=Status.STOPPED)
    return {
        "claims": f"{single} of {len(wanted)} tasks had one winner",
        "late": f"{late} of {len(wanted)} were refused",
        "bytes": bytes_per_step(make_task),
    }


def wait_for_rest(within: float) -> bool:
    from django.db import Error as DatabaseError
    from django.db import connections

    from executor.models import ACTIVE, Task

    end, quiet = time.monotonic() + within, 0
    while time.monotonic() < end:
        try:
            quiet = 0 if Task.objects.filter(status__in=ACTIVE).exists() else quiet + 1
            if quiet > 3:  # Whoever tries something again has done it by now.
                return True
        except DatabaseError:  # Of a connection that was cut while the site was killed.
            connections.close_all()
        time.sleep(0.2)
    return False


def complaints(folder: Any, site: Site) -> Counter[str]:
    """What the workers said that nobody expects."""
    log = folder / "workers.log"
    said = [*(log.read_text(errors="replace").splitlines() if log.exists() else []), *site.lines]
    words = ("failed unexpectedly", "stumbled", "could not be run", "lost the database", "somebody else's now")
    return Counter(word for line in said for word in words if word in line)


def percentile(times: list[float], percent: int) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))] if ordered else float("nan")


def report(seed: int, verdict: Any, facts: dict[str, Any]) -> None:
    counts, kills = verdict.counts, facts["kills"]
    tasks = sum(kind(counts, "tasks").values())
    rows = [
        ("tasks", f"{tasks} ({words(kind(counts, 'tasks'))})"),
        (
            "tasks that were given to other agents",
            f"{sum(kind(counts, 'given').values())} ({words(kind(counts, 'given'))}), told {counts['told']}",
        ),
        ("summaries", words(kind(counts, "summaries"))),
        ("steps", f"{counts['steps']}, {counts['executions']} executions of functions"),
        ("messages that went into a task at work", str(counts["let in"])),
        ("declared tasks, of four steps with parts", str(counts["declared"])),
        ("acquisitions of tasks", str(counts["attempts"])),
        ("kills", f"{sum(kills.values())} in {facts['seconds']:.0f} s ({words(kills)})"),
        ("other disturbances", f"{sum(facts['disturbances'].values())} ({words(facts['disturbances'])})"),
        ("people", words(facts["people"])),
        ("answers that OpenAI kept", words(facts["kept"])),
        ("deaths at commits", words(facts["boundaries"])),
        ("at rest after", f"{facts['rest']:.1f} s"),
    ]
    for how, times in facts["resumed"].items():
        said = f"p50 {percentile(times, 50):.2f} s, p95 {percentile(times, 95):.2f} s, of {len(times)} tasks"
        rows.append((f"time to resume after {how}", said))
    rows.append(("said by workers", words(facts["complaints"]) or "nothing odd"))
    rows.append(("16 who want 200 tasks", facts["claims"]))
    rows.append(("writes of those who lost them", facts["late"]))
    sizes = ", ".join(f"{size:.0f} at {steps:,} steps" for steps, size in facts["bytes"].items())
    rows.append(("bytes per step in the database", sizes))
    say(f"\n| seed {seed} | |\n|---|---|")
    for what, value in rows:
        say(f"| {what} | {value} |")
    for column, wrong in verdict.wrong.items():
        say(f"| **{column}** | {len(wrong)} |")
    for column, wrong in verdict.wrong.items():
        for what in wrong[:10]:
            say(f"\n{column}: {what}")


def kind(counts: Counter[str], name: str) -> dict[str, int]:
    """Those of `counts` that begin with a word, by the rest."""
    return {each.removeprefix(f"{name} "): count for each, count in counts.items() if each.startswith(f"{name} ")}


def words(counts: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
