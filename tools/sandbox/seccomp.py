"""The system calls that code in a sandbox may not make, as a filter for the kernel: classic BPF, made here.

It is a list of what is refused, because what numpy and its like need is wide and changes; what is newer than the list
is refused by its number. See seccomp(2), and linux/{seccomp,filter,audit}.h.
"""

from __future__ import annotations

import errno
import platform
import struct
from dataclasses import dataclass

from tools.sandbox.syscalls import DENIED, NEWEST, NUMBERS

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

LOAD, JUMP_EQUAL, JUMP_GREATER, JUMP_SET, AND, RETURN = 0x20, 0x15, 0x25, 0x45, 0x54, 0x06
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # Offsets in struct seccomp_data.
X32_BIT = 0x40000000

#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. (NEWTIME is a signal's bit in clone.)
NEW_NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
#: Typing into the terminal of somebody else.
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6: the network namespace has nothing behind the last two.
PERSONALITIES = (0, 0xFFFFFFFF)


@dataclass
class _Jump:
    """An instruction that goes to a label if its test holds, else to the next one."""

    code: int
    value: int
    label: str
    otherwise: str = ""


class Unsupported(Exception):
    """There is no filter for this machine."""


def make_filter(machine: str = "") -> bytes:
    """An array of struct sock_filter, as `bwrap --seccomp` reads it. Raises Unsupported."""
    machine = machine or platform.machine()
    if machine not in ARCHITECTURES:
        raise Unsupported(f"There is no list of system calls for {machine}.")
    numbers = NUMBERS[machine]
    program: list[object] = [(LOAD, ARCHITECTURE), _Jump(JUMP_EQUAL, ARCHITECTURES[machine], "", "kill")]
    program += [(LOAD, NUMBER)]
    if machine == "x86_64":
        program += [_Jump(JUMP_SET, X32_BIT, "unknown")]
    program += [_Jump(JUMP_GREATER, NEWEST, "unknown"), _Jump(JUMP_EQUAL, numbers["clone3"], "unknown")]
    for name in ("clone", "ioctl", "socket", "socketpair", "personality"):
        program.append(_Jump(JUMP_EQUAL, numbers[name], "family" if name.startswith("socket") else name))
    program += [_Jump(JUMP_EQUAL, numbers[name], "denied") for name in DENIED if name in numbers]
    program += [(RETURN, ALLOW)]
    program += ["clone", (LOAD, ARGUMENTS), _Jump(JUMP_SET, NEW_NAMESPACES, "denied"), (RETURN, ALLOW)]
    # The kernel looks at the low 32 bits of these, so that is what is compared.
    program += ["ioctl", (LOAD, ARGUMENTS + 8)]
    program += [_Jump(JUMP_EQUAL, TIOCSTI, "denied"), _Jump(JUMP_EQUAL, TIOCLINUX, "denied"), (RETURN, ALLOW)]
    program += ["family", (LOAD, ARGUMENTS), *(_Jump(JUMP_EQUAL, family, "allowed") for family in FAMILIES)]
    program += [(RETURN, ERROR | errno.EPERM)]
    program += ["personality", (LOAD, ARGUMENTS), *(_Jump(JUMP_EQUAL, value, "allowed") for value in PERSONALITIES)]
    program += ["denied", (RETURN, ERROR | errno.EPERM)]
    program += ["unknown", (RETURN, ERROR | errno.ENOSYS), "kill", (RETURN, KILL), "allowed", (RETURN, ALLOW)]
    return _assemble(program)


def _assemble(program: list[object]) -> bytes:
    places: dict[str, int] = {}
    instructions: list[object] = []
    for entry in program:
        if isinstance(entry, str):
            places[entry] = len(instructions)
        else:
            instructions.append(entry)
    out = bytearray()
    for place, entry in enumerate(instructions):
        if isinstance(entry, _Jump):
            # Jumps are relative, and a byte: struct.pack raises if one is too far.
            then = places[entry.label] - place - 1 if entry.label else 0
            otherwise = places[entry.otherwise] - place - 1 if entry.otherwise else 0
            out += struct.pack("=HBBI", entry.code, then, otherwise, entry.value)
        elif isinstance(entry, tuple):
            out += struct.pack("=HBBI", entry[0], 0, 0, entry[1])
    return bytes(out)
