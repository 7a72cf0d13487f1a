"""Who is dead, and of whom nothing is certain."""

from __future__ import annotations

import os
import subprocess
import sys

from executor.owner import is_dead, owner_name

NAME = [sys.executable, "-c", "from executor.owner import owner_name; print(owner_name())"]


def name_of_another_process() -> str:
    return subprocess.run(NAME, capture_output=True, text=True, check=True).stdout.strip()


def test_a_living_process_is_not_dead() -> None:
    assert not is_dead(owner_name())


def test_a_process_that_ended_is_dead() -> None:
    assert is_dead(name_of_another_process())


def test_a_process_that_nobody_has_buried_yet_is_dead() -> None:
    with subprocess.Popen(NAME, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        name = process.stdout.read().strip()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # It ended; its exit code is not taken yet.
        assert is_dead(name)


def test_a_process_is_dead_when_another_one_has_its_id() -> None:
    host, pid, began, place, random = owner_name().rsplit(":", 4)
    assert is_dead(f"{host}:{pid}:{int(began) - 1}:{place}:{random}")


def test_of_a_process_on_another_machine_nothing_is_certain() -> None:
    host, _, began, _, random = owner_name().rsplit(":", 4)
    assert not is_dead(f"{host}:999999999:{began}:elsewhere:{random}")


def test_a_name_of_another_form_is_nobody_s() -> None:
    assert not any(is_dead(name) for name in ("", "somebody", "a:b:c"))
