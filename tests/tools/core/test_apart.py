"""What works on strangers' files has seconds, memory and nothing else."""

from __future__ import annotations

import time

import pytest

from tools.core import apart


async def run(what: str) -> str:
    return (await apart.run("tests.tools.core.greedy", what, body=b"olleh", seconds=1)).decode()


async def test_what_it_writes_comes_back() -> None:
    assert await run("work") == "hello"


@pytest.mark.parametrize("what", ["memory", "processor", "disk"])
async def test_what_is_greedy_ends(what: str) -> None:
    with pytest.raises(apart.Unreadable, match=r"It is too large or too tangled\."):
        await run(what)


async def test_what_only_waits_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "PATIENCE", 2)
    began = time.monotonic()
    with pytest.raises(apart.Unreadable, match=r"It took too long\."):
        await run("patience")
    assert time.monotonic() - began < 60


async def test_it_sees_none_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "canary")
    assert set((await run("environment")).split()) <= {"LC_CTYPE"}
