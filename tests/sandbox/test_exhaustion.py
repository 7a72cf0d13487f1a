"""Code that takes all it can get: what it gets is bounded, the worker stays well, and who asked is told."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sandbox.attacks import is_usable, prepared, say
from tools.sandbox import watch
from tools.sandbox.base import MIB
from tools.sandbox.session import BwrapSession

Open = Callable[..., BwrapSession]


# --- processes -------------------------------------------------------------------------------------------------------


FORKS = """
import os, time
while True:
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    except OSError:
        break
"""
SHELLS = "import subprocess, time\nsubprocess.Popen(['sh', '-c', 'b() { b | b & }; b'])\ntime.sleep(1)"
THREADS = """
import threading, time
while True:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
"""


@pytest.mark.parametrize("bomb", [FORKS, SHELLS, THREADS], ids=["fork", "shell", "threads"])
def test_a_bomb_of_processes_stops_at_the_limit(session: BwrapSession, bomb: str) -> None:
    most: list[int] = []
    told = session.execute(f"{bomb}\nprint('full')", wall=10, on_output=lambda *_: most.append(_tasks(session)))

    assert told.ended in ("done", "error")
    assert max(most, default=_tasks(session)) <= 50
    assert is_usable(session)
    if "threading" not in bomb:  # A thread cannot be ended without its process.
        result = session.execute("import subprocess\nsubprocess.run(['echo', 'fine']).returncode")
        assert (result.stdout, result.error) == ("fine\n", None)


def _tasks(session: BwrapSession) -> int:
    total = 0
    for process in watch.tree(session._process.init):
        with suppress(OSError):  # It ended meanwhile.
            total += len(os.listdir(f"/proc/{process}/task"))
    return total


def test_processes_that_the_kernel_does_not_count_are_counted(session: BwrapSession) -> None:
    session._limits = replace(session._limits, processes=10)
    result = session.execute(FORKS + "\ntime.sleep(5)")

    assert (result.ended, result.alive) == ("memory", False)
    assert "There were more than 10 processes." in result.notes[0]


def test_nothing_goes_on_between_calls(session: BwrapSession) -> None:
    result = session.execute(
        "import os, subprocess, sys, threading\n"
        "def spin():\n    while True: pass\n\n"
        "for _ in range(3):\n    threading.Thread(target=spin, daemon=True).start()\n"
        "for _ in range(3):\n    subprocess.Popen([sys.executable, '-c', 'while True: pass'], start_new_session=True)\n"
        "if os.fork() == 0:\n    os.setsid()\n    while True: pass\n"
    )

    assert "4 processes that the code left running were ended." in result.notes
    before = _ticks(session)
    time.sleep(0.5)
    assert _ticks(session) == before
    left = [process for process in watch.tree(session._process.init) if not watch.is_zombie(process)]
    assert left == [session._process.init, session._process.runner]


def _ticks(session: BwrapSession) -> int:
    total = 0
    for process in watch.tree(session._process.init):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["bytearray(4 * 1024**3)", "x = []\nwhile True:\n    x.append(bytes(10**7))"])
def test_too_much_memory_is_an_error_and_the_session_goes_on(open_session: Open, code: str) -> None:
    session = open_session(memory=4096 * MIB)
    result = session.execute(code)

    assert result.error is not None
    assert (result.error.name, result.alive) == ("MemoryError", True)
    assert is_usable(session)


SHARED = """
import mmap
m = mmap.mmap(-1, 2 * 1024**3)
for i in range(0, len(m), 4096):
    m[i] = 1
"""
MANY = """
import os, time
for _ in range(20):
    if os.fork() == 0:
        x = bytearray(200 * 1024**2)
        break
time.sleep(30)
"""
FILES = """
import time
for folder in ('/tmp', '/dev/shm', '/workspace'):
    for i in range(5):
        try:
            open(f'{folder}/{i}', 'wb').write(bytes(60 * 1024**2))
        except OSError:
            pass
x = bytearray(500 * 1024**2)
time.sleep(5)
"""


@pytest.mark.parametrize("code", [SHARED, MANY, FILES], ids=["shared", "many", "files"])
def test_all_memory_together_is_bounded(session: BwrapSession, code: str) -> None:
    result = session.execute(code, wall=30)

    assert (result.ended, result.alive) == ("memory", False)
    assert "It used more than the 600 MB of memory that there are for programs and files." in result.notes[0]


@pytest.mark.parametrize(
    ("folder", "most"), [("/tmp", 64 * MIB), ("/dev/shm", 64 * MIB), ("/workspace", 256 * MIB), ("/workspace", -1)]
)
def test_a_folder_is_full_at_its_size(open_session: Open, folder: str, most: int) -> None:
    session = prepared(open_session(memory=2048 * MIB))
    unlink = "os.unlink(path)" if most < 0 else "pass"  # What is open and has no name takes its room all the same.
    result = session.execute(
        f"total, files = 0, []\ntry:\n    for i in range(40):\n        path = f'{folder}/f{{i}}'\n"
        f"        files.append(open(path, 'wb', 0))\n        {unlink}\n"
        "        for _ in range(32):\n            total += files[-1].write(bytes(1024**2))\n"
        "except OSError as error:\n    print(errno.errorcode[error.errno], total)"
    )

    word, total = result.stdout.split()
    assert word == "ENOSPC"
    assert int(total) <= (most if most > 0 else 256 * MIB)
    assert int(total) > 30 * MIB
    assert is_usable(session)


def test_a_file_has_a_largest_size(inside: BwrapSession) -> None:
    inside.execute("signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nf = open('/tmp/sparse', 'wb')")
    assert say(inside, "tried(f.truncate, 10**12)") == "EFBIG"
    assert is_usable(inside)


@pytest.mark.parametrize(
    "code",
    [
        "for i in range(100_000):\n    open(f'/workspace/{i}', 'w').close()",
        "import os\nfor i in range(20_000):\n    os.mkdir('d')\n    os.chdir('d')",
        "for i in range(100_000):\n    open(f'/tmp/{i}', 'w').close()",
    ],
    ids=["files", "nested", "elsewhere"],
)
def test_very_many_files_end_it(session: BwrapSession, code: str) -> None:
    result = session.execute(f"{code}\nimport time\ntime.sleep(5)")

    assert (result.ended, result.alive) == ("memory", False)
    assert "There were more than 5,000 files and folders in" in result.notes[0]
    assert len(result.files) <= 100
    began = time.monotonic()
    session.close()
    assert time.monotonic() - began < 5


def test_memory_of_the_kernel_is_bounded(open_session: Open) -> None:
    session = prepared(open_session())
    result = session.execute(
        "pairs = [socket.socketpair() for _ in range(60)]\nfor a, b in pairs:\n    a.setblocking(False)\n"
        "    while tried(a.send, bytes(65536)) == 'worked':\n        pass\ntime.sleep(3)"
    )

    assert (result.ended, result.alive) == ("memory", False)
    assert "More than 64 sockets were open." in result.notes[0]


def test_pipes_hold_what_their_user_may_have(session: BwrapSession) -> None:
    result = prepared(session).execute(
        "import fcntl\npipes, total = [], 0\ntry:\n    for _ in range(100):\n        pipes.append(os.pipe())\n"
        "        try:\n            fcntl.fcntl(pipes[-1][1], 1031, 2**20)\n        except OSError:\n            pass\n"
        "        os.set_blocking(pipes[-1][1], False)\n        total += os.write(pipes[-1][1], bytes(2**20))\n"
        "except OSError:\n    pass\nprint(total)"
    )

    assert int(result.stdout) <= 110 * MIB
    assert is_usable(session)


# --- output ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "import os\nfor _ in range(1024):\n    os.write(1, b'x' * 1024**2)",
        "while True:\n    print('x' * 10_000)",
        "import os\nos.system('yes')",
        "import sys\nwhile True:\n    sys.stderr.write('y' * 10_000)",
    ],
    ids=["descriptor", "print", "program", "errors"],
)
def test_a_flood_of_output_is_interrupted(session: BwrapSession, code: str) -> None:
    told: list[str] = []
    result = session.execute(code, wall=30, on_output=lambda _, text: told.append(text))

    assert result.ended == "output"
    assert "It wrote more than 32 MB of output and was interrupted." in result.notes
    assert len(result.stdout + result.stderr) < 3 * MIB
    assert sum(map(len, told)) <= 2 * MIB
    if result.alive:
        assert is_usable(session)


def test_the_beginning_and_the_end_of_much_output_are_kept(open_session: Open) -> None:
    session = open_session(output=4000)
    told: list[str] = []
    result = session.execute(
        "print('first')\nfor i in range(2000):\n    print('line', i)\nprint('last')",
        on_output=lambda _, t: told.append(t),
    )

    assert result.stdout.startswith("first\nline 0\n")
    assert result.stdout.endswith("line 1999\nlast\n")
    assert "characters are left out here" in result.stdout
    assert len(result.stdout) < 4100
    assert len("".join(told)) == 4000


def test_very_many_displays_are_cut(session: BwrapSession) -> None:
    result = session.execute("from IPython.display import display\nfor i in range(100_000):\n    display(i)", wall=30)

    assert len(result.outputs) == 50
    assert "Only the first 50 things that were displayed are kept." in result.notes
    assert is_usable(session)


def test_a_giant_result_is_left_out(session: BwrapSession) -> None:
    result = session.execute("'x' * (100 * 1024**2)")

    assert sum(len(text) for output in result.outputs for text in output.data.values()) <= 8 * MIB
    assert is_usable(session)


@pytest.mark.parametrize(
    "frame",
    [
        "b'\\xff\\xff\\xff\\xff\\0\\0\\0\\0'",
        "struct.pack('>II', 5, 0) + b'nojso'",
        "struct.pack('>II', 4_000_000, 0) + b'[' * 4_000_000",
        "struct.pack('>II', 2, 0) + b'[]'",
        "struct.pack('>II', 2, 4_000_000_000) + b'{}'",
        "os.urandom(100_000)",
    ],
)
def test_a_message_that_is_none_ends_the_session(session: BwrapSession, frame: str) -> None:
    result = prepared(session).execute(_FORGE + f"\nsend({frame})\ntime.sleep(5)")

    assert (result.ended, result.alive) == ("died", False)
    assert result.seconds < 5


def test_a_forged_message_says_nothing_that_code_could_not_say(session: BwrapSession) -> None:
    frames = "{'type': 'done', 'id': number, 'error': None}"
    result = prepared(session).execute(
        _FORGE + f"\nimport json\nforged = [json.dumps({frames}).encode() for number in range(100)]\n"
        "send(b''.join(struct.pack('>II', len(data), 0) + data for data in forged))\ntime.sleep(8)"
    )

    assert result.ended == "done"
    assert result.seconds < 8  # Its own call ended early; those after it did not.
    assert is_usable(session)


_FORGE = """
import struct
def is_socket(number):
    try:
        return os.readlink(f'/proc/self/fd/{number}').startswith('socket:')
    except OSError:
        return False

descriptor = next(filter(is_socket, range(256)))
def send(data):
    while data:
        data = data[os.write(descriptor, data):]
"""


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "ended", "alive"),
    [
        ("import re\nre.match(r'(a+)+$', 'a' * 40 + 'b')", "time", True),
        ("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", "time", False),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", "time", False),
        ("import os\nos._exit(0)", "died", False),
        ("import ctypes\nctypes.string_at(0)", "died", False),
        ("import os, time\nos.closerange(0, 256)\ntime.sleep(60)", "died", False),
        ("import os\nos.kill(os.getpid(), 9)", "died", False),
    ],
    ids=["regex", "ignores", "stops", "exits", "crashes", "closes", "kills"],
)
def test_it_comes_to_an_end_and_its_files_are_kept(session: BwrapSession, code: str, ended: str, alive: bool) -> None:
    result = session.execute(f"f = open('kept.txt', 'w'); f.write('x'); f.close()\n{code}", wall=1)

    assert (result.ended, result.alive) == (ended, alive)
    assert result.seconds < 8
    assert [file.name for file in result.files] == ["kept.txt"]


def test_a_child_that_comes_back_out_of_a_call_ends(session: BwrapSession) -> None:
    result = session.execute("import os\nchild = os.fork()\nprint('here')")

    assert result.stdout.count("here") <= 2
    assert is_usable(session)
