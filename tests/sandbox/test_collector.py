"""Files come out by their content only: no links, no devices, no misleading names, no endless folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sandbox.attacks import prepared, say
from tools.sandbox.base import MIB
from tools.sandbox.collector import folder_for_copies
from tools.sandbox.session import BwrapSession

Open = Callable[..., BwrapSession]


def left_out(session: BwrapSession, code: str) -> str:
    """The notes of a call whose files were all left out."""
    result = session.execute(code)
    assert result.ended == "done", result.error
    assert result.files == ()
    return " ".join(result.notes)


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "/etc/shadow", "/proc/self/environ", "..", "/", "missing", "/dev/zero"]
)
def test_links_are_never_followed(session: BwrapSession, target: str) -> None:
    notes = left_out(session, f"import os\nos.symlink({target!r}, '/workspace/link')")

    assert notes == "“link” was left out: it is a link."


def test_a_folder_that_is_a_link_is_not_walked(session: BwrapSession) -> None:
    assert "it is a link" in left_out(
        session, "import os\nos.mkdir('/tmp/d'); open('/tmp/d/x', 'w').close()\nos.symlink('/tmp/d', 'd')"
    )


def test_sockets_and_pipes_are_left_out(session: BwrapSession) -> None:
    prepared(session)
    for kind in ("0o010644", "0o020644", "0o060644"):
        assert say(session, f"tried(os.mknod, 'node', {kind}, os.makedev(1, 5))") == "EPERM"
    assert "it is no regular file" in left_out(session, "s = socket.socket(socket.AF_UNIX); s.bind('/workspace/s')")


def test_a_file_with_several_names_is_left_out(session: BwrapSession) -> None:
    notes = left_out(session, "import os\nopen('a', 'w').close(); os.link('a', 'b')")

    assert notes.count("it has several names") == 2


def test_the_size_is_what_was_read_not_what_the_file_says(session: BwrapSession) -> None:
    result = session.execute("with open('sparse', 'wb') as f:\n    f.truncate(60 * 1024**2)")

    (file,) = result.files
    assert file.size == file.path.stat().st_size == 60 * MIB


def test_very_many_and_very_large_files_are_cut(open_session: Open) -> None:
    session = open_session(files=3, workspace=8 * MIB)
    many = session.execute("for i in range(6):\n    open(f'f{i}', 'w').write('x')\n")
    assert [file.name for file in many.files] == ["f0", "f1", "f2"]
    assert "“f5” was left out: there are too many, or they are too large together." in many.notes

    assert [file.name for file in session.execute("1").files] == ["f3", "f4", "f5"]


MISLEADING = (
    "a\\nb",
    "a\\rb",
    "a\\x1b[31mb",
    "a\\u202egpj.exe",
    "a\\\\b",
    "caf\\udce9",
    " a",
    "a ",
    "x" * 250,
    "\\x07",
    "a:b",
)


@pytest.mark.parametrize("name", [*MISLEADING, "a\\u2028b", "a\\u200bb"])
def test_misleading_names_are_left_out(session: BwrapSession, name: str) -> None:
    notes = left_out(session, f"open('{name}', 'w').close()")

    assert "its name has characters that are not taken, or is too long" in notes
    assert notes.replace("“", "").replace("”", "").isascii()
    assert notes.isprintable()


def test_hidden_files_stay_inside(session: BwrapSession) -> None:
    assert (
        left_out(session, "import os\nopen('.env', 'w').close(); os.mkdir('.git'); open('.git/x', 'w').close()") == ""
    )


def test_rights_do_not_come_along(session: BwrapSession) -> None:
    result = session.execute("import os\nopen('s', 'w').write('x')\nos.chmod('s', 0o6777)")

    assert not stat.S_IMODE(result.files[0].path.stat().st_mode) & 0o7011


def test_what_cannot_be_read_is_named_or_taken_with_our_own_rights(session: BwrapSession) -> None:
    result = session.execute("import os\nopen('s', 'w').write('x')\nos.chmod('s', 0)")

    if os.geteuid() == 0:
        assert [file.name for file in result.files] == ["s"]
    else:
        assert result.notes == ("“s” was left out: it cannot be read.",)


def test_deep_folders_end_somewhere(session: BwrapSession) -> None:
    notes = left_out(session, "import os\nos.makedirs('/workspace/' + '/'.join('d' * 30))")

    assert "it is too deep" in notes


SWAPS = """
import os, threading

def swap():
    while True:
        open('t', 'w').write('mine')
        os.replace('t', 'x')
        os.symlink('/etc/passwd', 't')
        os.replace('t', 'x')

threading.Thread(target=swap, daemon=True).start();
"""


def test_a_file_that_becomes_a_link_at_every_moment_is_never_followed(session: BwrapSession) -> None:
    session.execute(SWAPS)
    for _ in range(30):
        for file in session.execute("import time; time.sleep(0.01)").files:
            assert file.path.read_text() in ("", "mine")


def test_copies_that_a_killed_worker_left_are_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead, alive, young = (tmp_path / f"agentsite-run-{number}-x" for number in (2**22 + 1, os.getpid(), 2**22 + 2))
    for folder in (dead, alive, young):
        folder.mkdir()
        (folder / "1").write_text("a copy")
    for folder in (dead, alive):
        os.utime(folder, (0, 0))

    assert folder_for_copies().parent == tmp_path
    assert [folder.exists() for folder in (dead, alive, young)] == [False, True, True]


def test_only_files_of_the_code_itself_are_taken(session: BwrapSession) -> None:
    assert session.execute("open('mine', 'w').close()").files[0].name == "mine"
    object.__setattr__(session._collector, "owner", session._process.user + 1)

    assert "it belongs to somebody else" in left_out(session, "open('other', 'w').close()")
