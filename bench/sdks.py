"""What the vendors' SDKs weigh: in a worker before and after it has asked each provider, and in a web process, which
shows everything and never asks.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.processes import memory_mb
from bench.rows import Row
from tests.agentsite.conftest import eventually
from tests.chaos.site import PASSWORD, Site, Visitor

#: Agent type → what comes behind the fake server's address.
PROVIDERS = {"openai_compatible": "/v1", "gpt": "/v1", "claude": "", "gemini": ""}
#: Of the agents whose pages are opened in admin.
PAGES = ("/admin/", "/admin/executor/agent/", "/admin/executor/agent/add/")
BARE = """
import time
began = time.perf_counter()
import openai, anthropic, google.genai, genai_prices
print(time.perf_counter() - began)
from pathlib import Path
lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024)
"""


def measure(address: str) -> list[Row]:
    """`address` is that of the fake model server."""
    bare = [float(line) for line in subprocess.check_output([sys.executable, "-c", BARE], text=True).split()]
    with tempfile.TemporaryDirectory() as folder, Site(Path(folder) / "data", BENCH_KEY="bench") as site:
        site.address  # noqa: B018  (waits until it is ready)
        for provider, path in PROVIDERS.items():
            fields = {"provider": provider, "model": "stream-10-50", "base_url": address + path}
            site.add_agent(f"by-{provider}", parameters={}, functions=[], api_key_variable="BENCH_KEY", **fields)
        dora = site.log_in(site.add_user("dora", password=PASSWORD, is_staff=True, is_superuser=True))
        asked = dora.ask("Hello", agent="demo")
        assert site.wait_until_over(asked)["status"] == "done"
        worker = memory_mb([site.children()["worker"]])
        start = seconds_to_start(site)
        loading = 0.0
        for provider in PROVIDERS:
            first, second = (seconds_to_answer(site, dora, f"by-{provider}") for _ in range(2))
            loading += max(0.0, first - second)
        loaded = memory_mb([site.children()["worker"]])
        for page in PAGES:
            dora.get(page)
        web = memory_mb([site.children()["web"]])
    return [
        Row("Worker: from its start until it takes tasks; its memory after one of the demonstration",
            "–", f"{start:.1f} s, {worker:.0f} MB"),
        Row("… once it has asked every provider: longer first answers together; its memory",
            f"{bare[0]:.1f} s, {bare[1]:.0f} MB", f"{loading:.1f} s, {loaded:.0f} MB"),
        Row("Web process that has shown people's pages and the agents in admin: its memory", "–", f"{web:.0f} MB"),
    ]  # fmt: skip


def seconds_to_start(site: Site) -> float:
    """Of one more worker process."""
    began = time.perf_counter()
    with site.second_worker() as process:
        try:
            eventually(lambda: bool(site.rows("SELECT 1 FROM executor_worker WHERE pid = ?", process.pid)), "it starts")
            return time.perf_counter() - began
        finally:
            process.terminate()


def seconds_to_answer(site: Site, person: Visitor, agent: str) -> float:
    began = time.perf_counter()
    task = site.wait_until_over(person.ask("Hello", agent=agent))
    assert task["status"] == "done", task
    return time.perf_counter() - began
