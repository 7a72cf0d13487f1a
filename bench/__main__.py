"""`make bench`: a real site under load, and the floor beside it. Prints tables and writes docs/performance.md.

`make bench ARGS=sdks` measures only what the SDKs weigh, `ARGS=turns` only what a message costs in a long conversation,
`ARGS=sandbox` only what running code costs; they leave the other tables there as they are.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2

from bench import sandbox, sdks, turns
from bench.floor import task
from bench.processes import cpu_seconds, memory_mb
from bench.rows import Row, table
from bench.viewer import Seen, Viewer
from tests.chaos.site import Site

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = (ROOT / "bench" / "performance.template.md").read_text()
MODEL_PORT = 20_481
TOKENS, RATE = 200, 50
MODEL = f"stream-{TOKENS}-{RATE}"
IDEAL = TOKENS / RATE
ROUNDS = 40
STEPS = (10, 100, 300)
STREAMS = (50, 100, 200)
#: People do not press Enter in the same instant: so many streams, posted one after the other within so many seconds.
ARRIVING, WITHIN = 100, 2.0


def main(arguments: Sequence[str]) -> None:
    if arguments not in ([], ["sdks"], ["turns"], ["sandbox"]):
        sys.exit("Measure everything, or only one of: sdks, turns, sandbox.")
    if arguments == ["sandbox"]:
        report(code())
        return
    long = {} if arguments == ["sdks"] else {"TURNS": table(turns.measure(), "Everything that was said")}
    if arguments == ["turns"]:
        report(long)
        return
    address = f"http://127.0.0.1:{MODEL_PORT}"
    base_url = f"{address}/v1"
    model_server = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.model_server", "--port", str(MODEL_PORT)], cwd=ROOT
    )
    try:
        weights = {"SDKS": table(sdks.measure(address), "Bare imports")}
        if arguments:
            report(weights)
            return
        with tempfile.TemporaryDirectory() as folder, Site(Path(folder) / "data", SIGNUP_OPEN="true") as site:
            site.address  # noqa: B018  (waits until it is ready)
            idle_memory = memory_mb(all_of(site).values())
            for name, model in (("bench", MODEL), ("short", "stream-10-50"), ("loop", "echo")):
                site.add_agent(
                    name,
                    provider="openai_compatible",
                    model=model,
                    base_url=base_url,
                    parameters={},
                    functions=["calculate"] if name == "loop" else [],
                    max_iterations=2000,
                    max_tool_calls=2000,
                )
            rows = asyncio.run(measure(site, sessions(site, max(STREAMS)), base_url, idle_memory))
    finally:
        model_server.terminate()
        model_server.wait()
    report({"TABLE": table(rows, "Floor: bare SDK"), **weights, **long, **code()})


def sessions(site: Site, count: int) -> list[str]:
    """So many people, logged in."""
    code = f"""
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from users.models import User
engine = import_module(settings.SESSION_ENGINE)
for n in range({count}):
    user = User(username=f"person-{{n}}", password="!")
    user.save()
    session = engine.SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    print(session.session_key)
"""
    return site.python(code).split()


async def measure(site: Site, people: list[str], base_url: str, idle_memory: float) -> list[Row]:
    limits = httpx2.Limits(max_connections=None)
    rows = [Row("Memory of all processes, idle", "–", f"{idle_memory:.0f} MB", "≤ 300 MB")]
    async with httpx2.AsyncClient(limits=limits, timeout=120, trust_env=False) as client:

        def viewer(agent: str, person: int = 0) -> Viewer:
            return Viewer(client, site.address, people[person], agent)

        await warm_up(viewer("bench"))
        floor = await floor_of(base_url)
        rows += await first_token(viewer("short"), floor["first_token"])
        rows += await cpu_of_one(site, viewer("bench"), floor["cpu_one"])
        for streams in STREAMS:
            rows += await many(site, [viewer("bench", person) for person in range(streams)], floor)
        rows += await many(site, [viewer("bench", person) for person in range(ARRIVING)], floor, WITHIN)
        await loop(viewer("loop"), 1)  # What the first call of a function builds.
        for steps in STEPS:
            rows.append(await loop(viewer("loop"), steps, floor["loops"][str(steps)]))
    return rows


def all_of(site: Site) -> dict[str, int]:
    return {"up": site.process.pid, **site.children()}


async def floor_of(base_url: str) -> dict[str, Any]:
    command = ["-m", "bench.floor", base_url, MODEL, str(ROUNDS), "100", json.dumps(STEPS)]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    floor: dict[str, Any] = json.loads(output)
    return floor


async def warm_up(viewer: Viewer) -> None:
    """What is built once in a process is not what a message costs."""
    await viewer.open()
    await viewer.connect()
    for _ in range(3):
        await viewer.ask("Go.")
    await viewer.close()


async def first_token(viewer: Viewer, floor: list[float]) -> list[Row]:
    await viewer.open()
    await viewer.connect()
    times = [(await viewer.ask("Go.")).first_token for _ in range(ROUNDS)]
    return [
        Row(
            f"Time to first token, idle, p50 / p95 of {ROUNDS}",
            f"{ms(floor, 50)} / {ms(floor, 95)} ms",
            f"{ms(times, 50)} / {ms(times, 95)} ms",
            "",
        ),
        Row(
            "… added to the floor",
            "–",
            f"{ms(times, 50) - ms(floor, 50):.1f} / {ms(times, 95) - ms(floor, 95):.1f} ms",
            "≤ 15 / 25 ms",
        ),
    ]


async def cpu_of_one(site: Site, viewer: Viewer, floor: float) -> list[Row]:
    await viewer.open()
    await viewer.connect()
    before = {name: cpu_seconds([pid]) for name, pid in all_of(site).items()}
    rounds = 5
    for _ in range(rounds):
        await viewer.ask("Go.")
    used = {name: cpu_seconds([pid]) - before[name] for name, pid in all_of(site).items()}
    return [cpu_row("CPU per 1,000 tokens, one stream", used, rounds * TOKENS, floor)]


async def many(site: Site, viewers: list[Viewer], floor: dict[str, Any], within: float = 0) -> list[Row]:
    """All of them ask in the same instant, or one after the other `within` so many seconds."""

    async def ask(position: int, viewer: Viewer) -> Seen:
        await asyncio.sleep(within * position / len(viewers))
        return await viewer.ask("Go.")

    for viewer in viewers:
        await viewer.open()
    await asyncio.gather(*(viewer.connect() for viewer in viewers))
    before = {name: cpu_seconds([pid]) for name, pid in all_of(site).items()}
    watching = asyncio.gather(*(ask(*numbered) for numbered in enumerate(viewers)), return_exceptions=True)
    await asyncio.sleep(within + (IDEAL - within) / 2)
    memory = memory_mb(all_of(site).values())
    results = await watching
    for viewer in viewers:
        await viewer.close()
    used = {name: cpu_seconds([pid]) - before[name] for name, pid in all_of(site).items()}
    seen = [result for result in results if isinstance(result, Seen)]
    lost = sum(TOKENS - tokens_in(result.last) for result in seen)
    failed = len(results) - sum(result.status == "done" for result in seen)
    count = len(viewers)
    ratio = statistics.median(result.seconds for result in seen) / IDEAL if seen else float("inf")
    bar = {50: "≤ 1.02, 0", 100: "≤ 1.05, 0", 200: "≤ 1.10, 0"}[count]
    rows = [
        Row(
            f"{count} streams{f' arriving over {within:g} s' if within else ''}: time / ideal p50, failed, tokens lost",
            f"{floor['wall_many'] / IDEAL:.2f} (100)",
            f"{ratio:.2f}, {failed}, {lost}",
            bar,
        ),
        Row(
            "… first token p50 / p95",
            "–",
            f"{ms([r.first_token for r in seen], 50)} / {ms([r.first_token for r in seen], 95)} ms",
            "≤ 60 ms" if count == 100 else "",
        ),
        Row("… memory of all processes", "–", f"{memory:.0f} MB", "≤ 400 MB" if count == 100 else ""),
    ]
    if count == 100 and not within:
        rows.append(cpu_row("… CPU per 1,000 tokens", used, count * TOKENS, floor["cpu_many"]))
    return rows


async def loop(viewer: Viewer, steps: int, floor: dict[str, float] | None = None) -> Row:
    """A task of `steps` function calls by a model that answers at once."""
    await viewer.open()
    await viewer.connect()
    seen = await viewer.ask(task(steps))
    sdk, http = (floor["sdk"], floor["http"]) if floor else (0.0, 0.0)
    added = seen.seconds / steps - http
    return Row(
        f"Function-call loop of {steps} steps, added per step (with the model server's time), {seen.status}",
        f"{(sdk - http) * 1000:.1f} ms ({sdk * 1000:.1f} ms)",
        f"{added * 1000:.1f} ms ({seen.seconds / steps * 1000:.1f} ms)",
        "≤ 6 ms, flat",
    )


def tokens_in(html: str) -> int:
    """Words of the finished answer, as the viewer has it in the end."""
    answer = html.rpartition('class="answer markdown"')[2].partition("</div>")[0]
    return answer.partition("<p>")[2].partition("</p>")[0].count(" ") + 1


def cpu_row(what: str, used: dict[str, float], tokens: int, floor: float) -> Row:
    per_thousand = {name: seconds / tokens * 1000 for name, seconds in used.items()}
    total = sum(per_thousand.values())
    parts = ", ".join(f"{name} {seconds:.3f}" for name, seconds in per_thousand.items() if seconds >= 0.001)
    return Row(what, f"{floor:.3f} s", f"{total:.3f} s ({total / floor:.2f} ×: {parts})", "≤ 1.3 ×")


def ms(times: list[float], percent: int) -> float:
    ordered = sorted(times)
    if not ordered:
        return float("nan")
    return round(ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))] * 1000, 1)


def report(tables: Mapping[str, str]) -> None:
    """Sections of docs/performance.md without one of `tables` stay as they are."""
    sys.stdout.write("\n\n".join(tables.values()) + "\n")
    page = ROOT / "docs" / "performance.md"
    before = sections(page.read_text())
    packages = ", ".join(f"{name} {version(name)}" for name in ("django", "channels", "daphne", "celery", "openai"))
    facts = {
        "DATE": date.today().isoformat(),
        "MACHINE": f"{platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "VERSIONS": f"Python {platform.python_version()}, {packages}",
        **tables,
    }
    found = []
    for heading, text in sections(TEMPLATE).items():
        if not any(f"%{name}%" in text for name in tables):
            found.append(before.get(heading, ""))
            continue
        for name, value in facts.items():
            text = text.replace(f"%{name}%", value)
        found.append(text)
    page.write_text("\n\n".join(filter(None, found)) + "\n")


def code() -> dict[str, str]:
    return {"SANDBOX": table(sandbox.measure(), "Prototype of the design")}


def sections(text: str) -> dict[str, str]:
    """By their first lines."""
    return {part.partition("\n")[0]: part.strip() for part in re.split(r"\n(?=## )", text)}


if __name__ == "__main__":
    main(sys.argv[1:])
