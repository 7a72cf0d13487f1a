"""What the tests of attacks share: code that tries something inside, and says how it went."""

from __future__ import annotations

from tools.sandbox.session import BwrapSession

#: `tried` and `call` give the name of the error, or "worked".
HELP = """
import ctypes, errno, os, signal, socket, subprocess, sys, threading, time
_libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    ctypes.set_errno(0)
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    result = _libc.syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in padded))
    return errno.errorcode.get(ctypes.get_errno(), "?") if result < 0 else "worked"

def tried(attempt, *arguments):
    try:
        attempt(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    return "worked"
"""


def prepared(session: BwrapSession) -> BwrapSession:
    assert session.execute(HELP).ended == "done"
    return session


def say(session: BwrapSession, expression: str) -> str:
    """What the value of the expression is, as text."""
    result = session.execute(f"print(({expression}))")
    assert result.ended == "done", result.error
    return result.stdout.strip()


def is_usable(session: BwrapSession) -> bool:
    return session.execute("print(6 * 7)").stdout == "42\n"
