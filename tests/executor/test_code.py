"""Code that agents run: in a real sandbox, with files and variables that stay."""

from __future__ import annotations

import asyncio
import csv
import io
from typing import Any
from uuid import uuid4

import pytest

from executor.database import in_database
from executor.models import KeptVariables, Status, Step, Task
from executor.run import Interruption, Run
from tests.executor.conftest import MakeScript, MakeTask, claimed, taken_over
from tests.executor.scripted import call, say
from tests.executor.test_run import execute
from tools.code_result import table
from tools.core.context import NewFile
from tools.models import Resource
from tools.registry import get_registry
from tools.resources import store
from tools.sandbox import get_backend

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def solve(make_task: MakeTask, scripted: MakeScript) -> Any:
    """Run cells in one task of a conversation, which goes on from another. Gives the task; what its model was told of
    each cell is in `told`."""
    thread = uuid4()

    def run(*cells: str, previous: Task | None = None) -> Task:
        script = scripted(*(say(call("run_python", code=code)) for code in cells), say("Done."))
        task = make_task("Go.", script, functions=["run_python"], previous=previous, max_iterations=20)
        Task.objects.filter(pk=task.pk).update(thread=thread)
        execute(claimed(task))
        task.refresh_from_db()
        assert task.status == Status.DONE
        return task

    return run


def cells(task: Task) -> list[Step]:
    return list(task.steps.filter(name="run_python").order_by("seq"))


def test_a_cell_prints_and_shows_its_last_value(solve: Any) -> None:
    (cell,) = cells(solve("print('one')\n40 + 2"))
    assert (cell.status, cell.result, cell.output) == (Step.Status.DONE, "one\n42", "one\n42\n")


def test_variables_stay_from_cell_to_cell_and_in_the_next_message(solve: Any) -> None:
    first = solve("x = [1, 2]", "x.append(3)")
    (cell,) = cells(solve("sum(x)", previous=first))
    assert cell.result == "[Restored: x.]\n6"
    assert cell.notes == ["Restored: x."]


def test_large_tables_stay_as_well(solve: Any) -> None:
    make = "import numpy as np, pandas as pd\ndf = pd.DataFrame({'n': np.arange(200_000), 'x': np.ones(200_000)})"
    (cell,) = cells(solve("df.shape", previous=solve(make)))
    assert cell.result.endswith("(200000, 2)")
    assert "Not restored" not in cell.result


def test_the_model_reads_where_its_own_code_went_wrong_and_the_person_everything(solve: Any) -> None:
    (cell,) = cells(solve("import pandas as pd\npd.DataFrame({'a': [1]}).groupby('b').sum()"))
    assert "frames in libraries are left out" in cell.result
    assert cell.result.endswith("KeyError: 'b'")
    assert "----> 2 pd.DataFrame" in cell.result
    assert "/pandas/" not in cell.result
    assert "/pandas/" in cell.output


def test_what_could_not_be_kept_is_named(solve: Any) -> None:
    first = solve("import sqlite3\ncon = sqlite3.connect(':memory:')\nrows = 3")
    (cell,) = cells(solve("rows", previous=first))
    assert "Not restored: con (" in cell.notes[0]
    assert cell.result.endswith("\n3")


def test_an_error_is_for_the_model_to_correct_and_what_was_made_until_then_stays(solve: Any) -> None:
    failed, mended = cells(solve("y = 1\nopen('a.txt', 'w').write('a')\n1 / 0", "y"))
    assert (failed.status, failed.error_kind) == (Step.Status.FAILED, "exception")
    assert "ZeroDivisionError: division by zero" in failed.result
    assert "ZeroDivisionError" in failed.output
    assert Resource.objects.get().name == "a.txt"
    assert mended.result == "1"


def test_tables_pictures_and_files_are_the_persons(solve: Any) -> None:
    code = """
        import pandas as pd, matplotlib.pyplot as plt
        df = pd.DataFrame({"town": ["Riga", "Faro"], "days": [3, 5]})
        df.to_csv("trips.csv", index=False)
        plt.plot([1, 2]); plt.show()
        df
    """
    import textwrap

    task = solve(textwrap.dedent(code))
    found = {resource.name: resource for resource in Resource.objects.filter(task_id=task.pk)}
    assert sorted(found) == ["figure-1.png", "table-1.csv", "trips.csv"]
    with found["table-1.csv"].file.open() as file:
        rows = list(csv.reader(io.StringIO(file.read().decode())))
    assert rows == [["", "town", "days"], ["0", "Riga", "3"], ["1", "Faro", "5"]]
    with found["figure-1.png"].file.open() as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    assert "[The person sees the picture figure-1.png.]" in cells(task)[0].result


def test_the_next_message_finds_the_files_and_gives_its_pictures_names_of_their_own(solve: Any) -> None:
    draw = "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()"
    first = solve(draw, "open('notes.txt', 'w').write('hello')")
    second = solve("open('notes.txt').read()", draw, previous=first)
    assert cells(second)[0].result.endswith("'hello'")
    assert [resource.name for resource in Resource.objects.filter(task_id=second.pk)] == ["figure-2.png"]


def test_files_that_a_person_gave_lie_in_the_working_directory(solve: Any) -> None:
    first = solve("1")
    store(first.user_id, first.pk, "", [NewFile("data.csv", b"a,b\n1,2\n", "text/csv")])
    (cell,) = cells(solve("print(open('data.csv').read())", previous=first))
    assert cell.output.startswith("a,b\n1,2\n")


def test_a_session_that_used_too_much_memory_ends_and_the_next_cell_begins_anew(solve: Any) -> None:
    task = solve(
        "z = 1\nopen('kept.txt', 'w').write('x')",
        "import mmap\nm = mmap.mmap(-1, 900 << 20)\nfor at in range(0, 900 << 20, 4096): m[at] = 1",
        "import os\n('z' in globals(), os.path.exists('kept.txt'))",
    )
    _, died, after = cells(task)
    assert died.status == Step.Status.FAILED
    assert "memory" in died.notes[0]
    assert after.result == "(False, True)"


async def until_it_says(task: Task, word: str) -> None:
    def says() -> bool:
        return bool(task.steps.filter(name="run_python", output__contains=word).exists())

    async with asyncio.timeout(20):
        while not await in_database(says):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def test_endless_code_ends_when_its_task_is_stopped_and_its_variables_stay(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    endless = "n = 7\nprint('begun', flush=True)\nwhile True: pass"
    thread = uuid4()
    task = make_task("Go.", scripted(say(call("run_python", code=endless))), functions=["run_python"])
    Task.objects.filter(pk=task.pk).update(thread=thread)
    took: list[float] = []

    async def meanwhile(run: Run) -> None:
        await until_it_says(task, "begun")
        took.append(asyncio.get_running_loop().time())
        run.interrupt(Interruption.STOP)

    execute(claimed(task), meanwhile)
    task.refresh_from_db()
    assert task.status == Status.STOPPED
    assert task.steps.get(name="run_python").output == "begun\n"
    script = scripted(say(call("run_python", code="n")), say("Done."))
    after = make_task("Go on.", script, functions=["run_python"], previous=task)
    Task.objects.filter(pk=after.pk).update(thread=thread)
    execute(claimed(after))
    assert cells(after)[0].result == "[Restored: n.]\n7"


def test_a_cell_that_was_cut_off_by_the_death_of_its_worker_is_run_again_with_the_variables_from_before(
    make_task: MakeTask, scripted: MakeScript
) -> None:
    """What it did to them is gone with the worker, so nothing is had twice."""
    script = scripted(
        say(call("run_python", code="n = 1")),
        say(call("run_python", code="n += 1\nprint('begun', flush=True)\nimport time\ntime.sleep(2)\nn")),
        say("Done."),
    )
    task = make_task("Go.", script, functions=["run_python"])

    async def meanwhile(run: Run) -> None:
        await until_it_says(task, "begun")
        run.interrupt(Interruption.LOST)

    execute(claimed(task), meanwhile)
    execute(taken_over(task))
    task.refresh_from_db()
    assert task.status == Status.DONE
    _, cell = cells(task)
    assert (cell.attempt, cell.result) == (2, "[Restored: n.]\nbegun\n2")
    assert KeptVariables.objects.latest("seq").seq == cell.seq


@pytest.mark.parametrize(
    ("html", "rows"),
    [
        ("<table><tr><th></th><th>n</th></tr><tr><td>0</td><td>1</td></tr></table>", [["", "n"], ["0", "1"]]),
        (
            "<table><tr><th></th><th>n</th></tr><tr><th>town</th><th></th></tr><tr><th>Riga</th><td>1</td></tr></table>",
            [["town", "n"], ["Riga", "1"]],
        ),
        (
            "<table><tr><th>of</th><th>n</th></tr><tr><th>town</th><th></th></tr><tr><th>Riga</th><td>1</td></tr></table>",
            [["town", "n"], ["Riga", "1"]],
        ),
        ("<table><tr></tr><tr><td>1</td></tr><tr><td>2</td></tr></table>", [[], ["1"], ["2"]]),
        ("<table><tr><td>alone</td></tr></table>", []),
        ("<p>no table</p>", []),
        ("<td>x</td></table><tr><td>late</td></tr>", []),
        ("<table><tr><td><script>alert(1)</script></td></tr><tr><td>&lt;b&gt;</td></tr>", [["alert(1)"], ["<b>"]]),
    ],
)
def test_the_rows_of_a_table_are_text(html: str, rows: list[list[str]]) -> None:
    assert table(html) == rows


def test_the_model_is_told_what_it_can_import(solve: Any) -> None:
    described = get_registry().functions["run_python"].description
    assert "It can import Python's own library, matplotlib, numpy," in described
    names = [package.name for package in get_backend().packages()]
    assert all(name in described for name in names)
    imported = {"openpyxl": "openpyxl", "pillow": "PIL"}
    (cell,) = cells(solve("import " + ", ".join(imported.get(name, name) for name in names)))
    assert cell.status == Step.Status.DONE
