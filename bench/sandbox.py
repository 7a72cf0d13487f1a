"""What running code costs: sessions of the real sandbox, beside what the prototype of its design took."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from bench.processes import memory_mb
from bench.rows import Row
from tools.sandbox.base import Limits, SandboxUnavailable
from tools.sandbox.bwrap import Backend
from tools.sandbox.session import BwrapSession
from tools.sandbox.watch import tree

LIBRARIES = "import numpy, pandas, matplotlib.pyplot as plt"
PLOT = "fig, axes = plt.subplots(2, 2)\nfor ax in axes.flat:\n    ax.plot(range(100))\nplt.show()"
FRAME = (
    "df = pandas.DataFrame(numpy.random.rand(1_000_000, 7), columns=list('abcdefg'))\n"
    "df['key'] = numpy.arange(1_000_000) % 100\ndf.groupby('key').mean().shape"
)
STATE = "kept = numpy.random.rand(57 * 1024 * 1024 // 8)"
TOGETHER = 12
STARTS, CALLS = 10, 200


def measure() -> list[Row]:
    backend = Backend()
    if not (found := backend.check()).ok:
        raise SandboxUnavailable(found.reason, found.hint)
    starts = [seconds_to_start(backend) * 1000 for _ in range(STARTS)]
    session = open_(backend)
    try:
        session.execute("1")
        calls = [ms(lambda: session.execute("x = 1")) for _ in range(CALLS)]
        idle = memory_of(session)
        libraries = ms(lambda: session.execute(LIBRARIES))
        first, plot = (ms(lambda: session.execute(PLOT)) for _ in range(2))
        loaded = memory_of(session)
        frame = ms(lambda: session.execute(FRAME))
        session.execute(f"del df\n{STATE}")
        saving = ms(session.save)
        blob = session.state_out() or b""
        interrupting = ms(lambda: session.execute("while True: pass", wall=0.1)) - 100
    finally:
        ending = ms(session.close)
    other = open_(backend)
    loading = ms(lambda: other.load(blob))
    other.close()
    opened, worked, most = together(backend)
    return [
        Row("Start of a session, until it takes code (median)", "88 ms", f"{statistics.median(starts):.0f} ms"),
        Row("A call of code that does nothing, p50 / p95", "0.35 / 0.5 ms",
            f"{statistics.median(calls):.2f} / {statistics.quantiles(calls, n=20)[-1]:.2f} ms"),
        Row("Import of numpy, pandas and matplotlib", "355 ms", f"{libraries:.0f} ms"),
        Row("2×2 plot, shown as PNG: the first, and those after it", "–, 116 ms", f"{first:.0f}, {plot:.0f} ms"),
        Row("A table of a million rows and seven columns, grouped", "269 ms", f"{frame:.0f} ms"),
        Row("Memory of a session, idle / with these libraries and plots (PSS)", "15 / 74 MB",
            f"{idle:.0f} / {loaded:.0f} MB"),
        Row(f"Variables of {len(blob) / 1e6:.0f} MB: to save, to load into a new session", "84, 600 ms",
            f"{saving:.0f}, {loading:.0f} ms"),
        Row("From an interrupt to the end of the call; to end a session", "–, 16 ms",
            f"{interrupting:.0f}, {ending:.0f} ms"),
        Row(f"{TOGETHER} sessions at once: all started; each has imported, grouped and plotted; memory of all",
            "2.8 s (one after another)", f"{opened:.1f} s; {worked:.1f} s; {most:.0f} MB"),
    ]  # fmt: skip


def together(backend: Backend) -> tuple[float, float, float]:
    """Seconds until all have started, until all have done their work, and their memory then."""
    with ThreadPoolExecutor(TOGETHER) as pool:
        began = time.perf_counter()
        sessions = list(pool.map(lambda _: open_(backend), range(TOGETHER)))
        opened = time.perf_counter() - began
        try:
            results = list(pool.map(lambda session: session.execute(f"{LIBRARIES}\n{FRAME}\n{PLOT}"), sessions))
            worked = time.perf_counter() - began - opened
            assert all(result.ended == "done" for result in results), [result.notes for result in results]
            return opened, worked, sum(map(memory_of, sessions))
        finally:
            for session in sessions:
                session.close()


def seconds_to_start(backend: Backend) -> float:
    began = time.perf_counter()
    session = open_(backend)
    took = time.perf_counter() - began
    session.close()
    return took


def open_(backend: Backend) -> BwrapSession:
    return backend.open("bench", Limits())


def memory_of(session: BwrapSession) -> float:
    return memory_mb(tree(session._process.init))


def ms(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000
