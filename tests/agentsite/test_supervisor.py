"""The supervisor, with small shell scripts as its children."""

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentsite.supervisor import Child, GaveUpError, Supervisor


def script(name: str, text: str, grace: float = 5, hide: str = r"^$") -> Child:
    return Child(name, ["sh", "-c", text], grace=grace, hide=hide)


async def until(true: Callable[[], bool]) -> None:
    """Return once `true()` is."""
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110  (it is about other processes)
            await asyncio.sleep(0.02)


async def stop_after(supervisor: Supervisor, *files: Path) -> None:
    """Ask to stop once every child is known to have started and all `files` exist."""
    names = {child.name for child in supervisor.children}
    await until(lambda: names <= set(supervisor.processes) and all(file.exists() for file in files))
    supervisor.stop()


def is_gone(pid: str) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().split()[2] == "Z"


async def test_it_shows_lines_behind_the_name_and_hides_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talker = script("web", f"echo to out; echo to err >&2; echo noise; touch {tmp_path}/done; sleep 60", hide="noi.e")
    supervisor = Supervisor([talker])
    await supervisor.run(stop_after(supervisor, tmp_path / "done"))
    said = capsys.readouterr().out
    assert "web    │ to out\n" in said
    assert "web    │ to err\n" in said
    assert "noise" not in said


async def test_it_stops_the_last_started_first_and_waits_for_each(tmp_path: Path) -> None:
    log = tmp_path / "log"
    children = [
        script(
            name,
            f"trap 'sleep 0.1; echo {name} >> {log}; exit' TERM; touch {tmp_path}/{name}; while :; do sleep 0.02; done",
        )
        for name in ("redis", "worker", "web")
    ]
    supervisor = Supervisor(children)
    await supervisor.run(stop_after(supervisor, *(tmp_path / child.name for child in children)))
    assert log.read_text().split() == ["web", "worker", "redis"]


async def test_it_kills_what_does_not_stop_within_its_grace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stubborn = script("worker", f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 0.05; done", grace=0.3)
    supervisor = Supervisor([stubborn])
    await supervisor.run(stop_after(supervisor, tmp_path / "up"))
    assert "did not stop within 0 seconds; killing it" in capsys.readouterr().out
    assert supervisor.processes["worker"].returncode == -9


async def test_asked_twice_it_does_not_wait(tmp_path: Path) -> None:
    stubborn = script("worker", f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 0.05; done", grace=60)
    supervisor = Supervisor([stubborn])

    async def insist() -> None:
        await stop_after(supervisor, tmp_path / "up")
        supervisor.stop()

    began = time.monotonic()
    await supervisor.run(insist())
    assert time.monotonic() - began < 30


async def test_what_a_child_left_behind_goes_with_it(tmp_path: Path) -> None:
    leaver = script("web", f"sleep 300 & echo $! > {tmp_path}/pid; mv {tmp_path}/pid {tmp_path}/left; wait")
    supervisor = Supervisor([leaver])
    await supervisor.run(stop_after(supervisor, tmp_path / "left"))
    left = (tmp_path / "left").read_text().strip()
    await until(lambda: is_gone(left))


async def test_a_child_that_ends_is_started_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once = script(
        "web", f"[ -e {tmp_path}/first ] && touch {tmp_path}/second && sleep 60; touch {tmp_path}/first; exit 7"
    )
    supervisor = Supervisor([once])
    await supervisor.run(stop_after(supervisor, tmp_path / "second"))
    assert "The web process ended with exit code 7; starting it again." in capsys.readouterr().out


@pytest.mark.chaos
async def test_after_five_quick_deaths_it_gives_up_and_stops_the_others(tmp_path: Path) -> None:
    hopeless = script("web", f"echo died >> {tmp_path}/deaths; exit 3")
    healthy = script("redis", "sleep 600")
    supervisor = Supervisor([healthy, hopeless])
    with pytest.raises(GaveUpError, match=re.escape("The web process ended 5 times in a row within 10 seconds")):
        await supervisor.run(asyncio.sleep(600))
    assert len((tmp_path / "deaths").read_text().split()) == 5
    assert supervisor.processes["redis"].returncode is not None
