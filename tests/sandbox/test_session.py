"""A session runs code as a notebook does: variables stay, and what was printed, shown and written comes out."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable

import pytest

from tools.sandbox.base import SessionOver
from tools.sandbox.session import BwrapSession

Open = Callable[..., BwrapSession]


def test_variables_stay_from_call_to_call(session: BwrapSession) -> None:
    session.execute("x = 20")
    result = session.execute("x + 1")

    assert result.ended == "done"
    assert [(output.kind, output.data["text/plain"]) for output in result.outputs] == [("result", "21")]


def test_output_is_told_while_the_code_runs(session: BwrapSession) -> None:
    told: list[tuple[str, str, float]] = []
    began = time.monotonic()
    result = session.execute(
        "import sys, time\nprint('first')\ntime.sleep(1)\nprint('second', file=sys.stderr)",
        on_output=lambda stream, text: told.append((stream, text, time.monotonic() - began)),
    )

    for stream, text in (("stdout", "first\n"), ("stderr", "second\n")):
        assert "".join(piece for name, piece, _ in told if name == stream) == text
    assert told[-1][2] - told[0][2] > 0.8
    assert (result.stdout, result.stderr) == ("first\n", "second\n")


def test_what_programs_print_stands_between_what_python_prints(session: BwrapSession) -> None:
    result = session.execute("import os\nprint('1', end=' ')\nos.system('echo 2')\nprint('3');")

    assert result.stdout == "1 2\n3\n"


def test_an_error_has_a_name_a_value_and_a_traceback(session: BwrapSession) -> None:
    result = session.execute("def half(x):\n    return x / 0\nhalf(1)")

    assert result.ended == "error"
    assert result.error is not None
    assert (result.error.name, result.error.value) == ("ZeroDivisionError", "division by zero")
    assert "----> 2     return x / 0" in result.error.traceback
    assert "\x1b" not in result.error.traceback
    assert session.execute("half(0.5) if False else 'alive'").outputs[0].data["text/plain"] == "'alive'"


def test_a_syntax_error_is_an_error_like_others(session: BwrapSession) -> None:
    error = session.execute("def f(:").error

    assert error is not None
    assert error.name == "SyntaxError"


def test_tables_and_charts_come_as_html_and_png(session: BwrapSession) -> None:
    table = session.execute("import pandas as pd\npd.DataFrame({'a': [1, 2]})").outputs[0]
    chart = session.execute("import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()").outputs[-1]

    assert "<table" in str(table.data["text/html"])
    assert isinstance(png := chart.data["image/png"], bytes)
    assert png.startswith(b"\x89PNG")


def test_new_and_changed_files_are_collected_once(session: BwrapSession) -> None:
    first = session.execute("import os\nos.mkdir('out')\nopen('out/a.txt', 'w').write('one')")
    (file,) = first.files
    assert (file.name, file.path.read_text()) == ("out/a.txt", "one")
    assert file.sha256 == hashlib.sha256(b"one").hexdigest()

    assert session.execute("1").files == ()
    assert not file.path.exists()
    assert [f.path.read_text() for f in session.execute("open('out/a.txt', 'w').write('two');").files] == ["two"]
    assert session.execute("os.remove('out/a.txt')").removed == ("out/a.txt",)


def test_files_that_are_put_can_be_read_and_are_not_collected(session: BwrapSession) -> None:
    session.put("in/data.csv", b"a,b\n1,2\n")
    session.put("in/data.csv", b"a,b\n3,4\n")
    result = session.execute("print(open('in/data.csv').read())")

    assert result.stdout == "a,b\n3,4\n\n"
    assert result.files == ()


@pytest.mark.parametrize("name", ["../up", "/etc/x", "a/../b", ".hidden", "", "a\nb", "a//b", "x" * 300])
def test_a_name_that_leads_elsewhere_is_not_taken(session: BwrapSession, name: str) -> None:
    with pytest.raises(ValueError, match="name of a file"):
        session.put(name, b"")


def test_an_interrupt_ends_the_call_and_keeps_the_variables(session: BwrapSession) -> None:
    session.execute("kept = 7")
    timer = threading.Timer(0.5, session.interrupt)
    timer.start()
    result = session.execute("while True: pass")
    timer.join()

    assert (result.ended, result.alive) == ("interrupted", True)
    assert result.seconds < 3
    assert session.execute("print(kept)").stdout == "7\n"


def test_an_interrupt_between_calls_does_nothing(session: BwrapSession) -> None:
    session.interrupt()

    assert session.execute("print('fine')").stdout == "fine\n"


def test_a_call_that_takes_too_long_is_interrupted(session: BwrapSession) -> None:
    result = session.execute("import time\ntime.sleep(60)", wall=0.5)

    assert (result.ended, result.alive) == ("time", True)
    assert result.notes == ("It took longer than 0.5 seconds and was interrupted.",)


def test_code_that_catches_the_interrupt_is_ended_and_its_files_are_kept(session: BwrapSession) -> None:
    result = session.execute(
        "import time\nopen('kept.txt', 'w').write('here')\n"
        "while True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass",
        wall=0.5,
    )

    assert (result.ended, result.alive) == ("time", False)
    assert result.seconds < 6
    assert [file.name for file in result.files] == ["kept.txt"]
    assert "All variables are lost; files in the workspace were kept." in result.notes
    with pytest.raises(SessionOver):
        session.execute("1")


def test_closing_ends_a_call_at_work(session: BwrapSession) -> None:
    timer = threading.Timer(0.5, session.close)
    timer.start()
    result = session.execute("while True: pass")
    timer.join()

    assert (result.ended, result.alive) == ("killed", False)
    session.close()
    with pytest.raises(SessionOver):
        session.execute("1")


def test_variables_go_on_in_another_session_and_the_lost_ones_are_named(open_session: Open) -> None:
    first, second = open_session(), open_session()
    first.execute(
        "import sqlite3, pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})\nsame = df\nfactor = 2\n"
        "class Point:\n    x = 3\n\ndef total():\n    return same.a.sum() * factor\n"
        "con = sqlite3.connect(':memory:')\nlines = (line for line in [])"
    )
    saved = first.save()
    blob = first.state_out()
    assert saved.lost == {"con": "sqlite3.Connection", "lines": "generator"}
    assert blob is not None

    restored = second.load(blob)
    assert restored.kept == ("sqlite3", "pd", "df", "same", "factor", "Point", "total")
    assert second.execute("factor = 10\nprint(total(), same is df, Point().x)").stdout == "30 True 3\n"


def test_variables_of_other_packages_are_not_restored(open_session: Open) -> None:
    first, second = open_session(), open_session()
    first.execute("x = 1")
    first.save()
    blob = (first.state_out() or b"").replace(b'"fingerprint": "', b'"fingerprint": "0', 1)

    assert second.load(blob).lost == {"x": "made by other versions of Python or its packages"}
    assert second.execute("x").ended == "error"


def test_a_state_without_any_sense_does_no_harm(session: BwrapSession) -> None:
    assert "all variables" in session.load(b"\x80\x05nonsense").lost
    assert session.execute("print(1)").stdout == "1\n"


def test_variables_beyond_the_limit_are_named(open_session: Open) -> None:
    session = open_session(state=100_000)
    session.execute("small = 1\nlarge = b'x' * 200_000")

    assert session.save().lost == {"large": "bytes, too large to keep"}
    assert session.save().kept == ("small",)


def test_a_library_of_c_is_not_kept_because_reading_it_again_would_end_python(open_session: Open) -> None:
    first, second = open_session(), open_session()
    first.execute("import ctypes\nlibrary = ctypes.CDLL(None)\nx = 1")

    assert first.save().lost == {"library": "ctypes.CDLL"}
    assert second.load(first.state_out() or b"").kept == ("ctypes", "x")
