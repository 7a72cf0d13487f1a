"""The filter, run by a reader of its own for every processor that it is made for: what the kernel would answer."""

from __future__ import annotations

import struct

import pytest

from tools.sandbox import seccomp
from tools.sandbox.syscalls import DENIED, NEWEST, NUMBERS

ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
MACHINES = sorted(seccomp.ARCHITECTURES)


def answer(machine: str, number: int, *arguments: int, architecture: int = 0) -> int:
    """Runs the instructions that the filter uses."""
    program = list(struct.iter_unpack("=HBBI", seccomp.make_filter(machine)))
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("=IIQ6Q", number, architecture or seccomp.ARCHITECTURES[machine], 0, *padded)
    accumulator, place = 0, 0
    while True:
        code, then, otherwise, value = program[place]
        place += 1
        if code == seccomp.LOAD:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == seccomp.RETURN:
            return int(value)
        else:
            holds = {
                seccomp.JUMP_EQUAL: accumulator == value,
                seccomp.JUMP_GREATER: accumulator > value,
                seccomp.JUMP_SET: bool(accumulator & value),
            }[code]
            place += then if holds else otherwise


@pytest.mark.parametrize("machine", MACHINES)
def test_all_that_is_on_the_list_is_refused_and_nothing_else(machine: str) -> None:
    denied = {NUMBERS[machine][name] for name in DENIED if name in NUMBERS[machine]}
    special = {NUMBERS[machine][name] for name in ("clone", "clone3", "ioctl", "socket", "socketpair", "personality")}
    for number in set(range(NEWEST + 1)) - special:
        assert answer(machine, number) == (EPERM if number in denied else ALLOW), number
    assert len(denied) > 80


@pytest.mark.parametrize("machine", MACHINES)
def test_what_looks_at_arguments(machine: str) -> None:
    number = NUMBERS[machine]
    assert answer(machine, number["clone3"]) == ENOSYS
    assert answer(machine, number["clone"], 0x003D0F00) == ALLOW  # A thread, as glibc makes it.
    assert answer(machine, number["clone"], 17) == ALLOW
    assert answer(machine, number["clone"], 0x10000000 | 17) == EPERM
    for call in ("socket", "socketpair"):
        assert [answer(machine, number[call], family) for family in (1, 2, 10)] == [ALLOW] * 3
        assert [answer(machine, number[call], family) for family in (0, 16, 17, 38, 40, 44)] == [EPERM] * 6
    assert answer(machine, number["ioctl"], 0, 0x5401) == ALLOW
    assert answer(machine, number["ioctl"], 0, 0xFFFFFFFF_00005412) == EPERM
    assert answer(machine, number["personality"], 0xFFFFFFFF) == ALLOW
    assert answer(machine, number["personality"], 0x0040000) == EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_ends_the_process(machine: str) -> None:
    assert answer(machine, 1, architecture=0x40000003) == KILL
    assert answer(machine, NEWEST + 1) == ENOSYS


def test_numbers_of_x32_are_not_there() -> None:
    assert answer("x86_64", 0x40000000 | 1) == ENOSYS


def test_a_machine_without_a_list_has_no_filter() -> None:
    with pytest.raises(seccomp.Unsupported, match="riscv64"):
        seccomp.make_filter("riscv64")
