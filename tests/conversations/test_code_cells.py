"""Code that an agent ran, as cells: what they show, live and afresh, and how they are run again."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from conversations import actions
from conversations.models import Turn
from executor.core.events import Finished, ToolFinished
from executor.core.limits import Spent
from executor.core.messages import ToolCall, ToolResult, Usage
from executor.models import Agent, Status, Task, Worker
from tests.conversations.test_live import CHART, Scene
from tests.conversations.test_pages import HTMX, soup
from tests.conversations.worker import Work, db, hold, message
from tools.core.context import NewFile
from users.models import User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

RULE = "-" * 75 + "\n"
TRACEBACK = """\
KeyError                                  Traceback (most recent call last)
Cell In[1], line 2
----> 2 df["Fruit"]

KeyError: 'Fruit'
"""


def one(place: Any, selector: str) -> Any:
    """The first element, None if there is none."""
    return place.select_one(selector)


def cell(number: int, code: str) -> ToolCall:
    return ToolCall(f"call-{number}", "run_python", {"code": code})


def worked(alice: User, agent: Agent, *outcomes: tuple[str, str, str]) -> Turn:
    """A turn whose task ran cells, one after the other: their code, what they printed, and the error."""
    turn = actions.send(alice, agent, "Analyse it")
    journal = hold(turn.task)
    for number, (code, printed, error) in enumerate(outcomes, 1):
        call = cell(number, code)
        seq = journal.begin_model()
        journal.finish_model(seq, Finished(message("", call), "tool_calls", Usage(10, 5)), Spent(1, 15), {}, 1)
        journal.start_tools([call])
        result = ToolResult(call.id, call.name, f"for the model {printed}", bool(error))
        files = () if error else (NewFile(f"figure-{number}.png", b"\x89PNG", "image/png"),)
        event = ToolFinished(call, result, files, "failed" if error else "", output=printed + error, notes=("A note.",))
        journal.finish_tool(event, Spent(1, 15, 1))
    seq = journal.begin_model()
    journal.finish_model(seq, Finished(message("Done."), "stop", Usage(10, 5)), Spent(1, 15), {}, 1)
    journal.end(Status.DONE)
    return turn


@pytest.fixture
def turn(alice: User, demo: Agent) -> Turn:
    """Three cells, of which the second failed."""
    return worked(
        alice,
        demo,
        ("import pandas as pd\ndf = pd.read_csv('a.csv')", "", ""),
        ("n = 1\ndf['Fruit']", "one <b>\n", RULE + TRACEBACK),
        ("print(n)", "1\n", ""),
    )


def steps(client: Client, turn: Turn) -> Any:
    return soup(client.get(reverse("task_steps", args=[turn.task_id]), **HTMX))


def newest(turn: Turn) -> Task:
    """The task of the variant that is shown."""
    return Turn.objects.get(conversation=turn.conversation, position=turn.position, shown=True).task


def code_of(task: Task) -> str:
    step = task.steps.get(name="run_python")
    return str((step.arguments or {})["code"])


# --- what a cell shows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["conversation", "task"])
def test_a_cell_shows_code_in_colours_what_it_printed_its_error_files_and_notes(
    where: str, as_alice: Client, turn: Turn
) -> None:
    page = steps(as_alice, turn) if where == "conversation" else soup(as_alice.get(turn.task.get_absolute_url()))
    first, failed, third = page.select(".cell")
    assert one(first, ".code[data-language=python] .highlight .kn").text == "import"
    assert one(first, ".code-head") is not None
    assert one(first, ".file-shown img")["alt"] == "figure-1.png"
    assert one(first, ".cell-output") is None
    assert one(failed, ".cell-output").text.strip() == "one <b>"
    assert one(failed, ".cell-error").text.strip() == TRACEBACK.strip()
    assert one(third, ".cell-output").text.strip() == "1"
    assert one(third, ".cell-error") is None
    assert one(third, ".cell-note").text == "A note."
    told = page.select(".cell-read pre")
    assert [one.text.strip()[:13] for one in told] == ([] if where == "conversation" else ["for the model"] * 2)


def test_an_error_of_which_nothing_was_printed_is_told(as_alice: Client, alice: User, demo: Agent) -> None:
    turn = actions.send(alice, demo, "Go")
    journal = hold(turn.task)
    call = cell(1, "1")
    seq = journal.begin_model()
    journal.finish_model(seq, Finished(message("", call), "tool_calls", Usage(1, 1)), Spent(1, 2), {}, 1)
    journal.start_tools([call])
    result = ToolResult(call.id, call.name, "Code cannot be run here now.", True)
    journal.finish_tool(ToolFinished(call, result, (), "failed"), Spent(1, 2, 1))
    journal.end(Status.DONE)
    assert one(steps(as_alice, turn), ".cell .step-error").text == "Code cannot be run here now."


def test_a_call_whose_code_cannot_be_read_is_shown_as_any_other(as_alice: Client, alice: User, demo: Agent) -> None:
    turn = actions.send(alice, demo, "Go")
    journal = hold(turn.task)
    call = ToolCall("call-1", "run_python", {"code": 7})
    seq = journal.begin_model()
    journal.finish_model(seq, Finished(message("", call), "tool_calls", Usage(1, 1)), Spent(1, 2), {}, 1)
    journal.start_tools([call])
    journal.finish_tool(ToolFinished(call, ToolResult(call.id, call.name, "Wrong.", True), (), "x"), Spent(1, 2, 1))
    journal.end(Status.DONE)
    page = steps(as_alice, turn)
    assert one(page, ".cell") is None
    assert one(page, ".step-error").text == "Wrong."


# --- running again ---------------------------------------------------------------------------------------------------


def test_an_edited_cell_becomes_a_variant_that_goes_on_from_it(as_alice: Client, turn: Turn) -> None:
    form = steps(as_alice, turn).select(".cell-edit form")[0]
    assert one(form, "textarea").text.strip().startswith("import pandas as pd\n")
    assert one(form, "[name=before]") is None
    page = as_alice.post(form["hx-post"], {"what": "code", "code": "print(2)\r\nprint(3)"}, **HTMX)
    assert page.status_code == 200
    made = newest(turn)
    assert (made.base, made.status) == (turn.task, Status.QUEUED)
    assert code_of(made) == "print(2)\nprint(3)"
    assert "2/2" in page.content.decode()
    turn.task.refresh_from_db()
    assert turn.task.steps.filter(name="run_python").count() == 3


def test_the_cells_before_it_run_first_if_that_is_wanted(as_alice: Client, turn: Turn) -> None:
    third = steps(as_alice, turn).select(".cell-edit form")[2]
    assert one(third, "[name=before]").has_attr("checked")
    assert "2 cells before it" in third.text
    as_alice.post(third["action"], {"what": "code", "code": "print(n + 1)", "before": "on"})
    code = code_of(newest(turn))
    before, failed, last = code.split("# cell ")[1:]
    assert before.startswith("1\nimport pandas")
    assert "try:\n    n = 1\n    df['Fruit']\nexcept Exception" in failed
    assert last == "3\nprint(n + 1)"
    ast.parse(code)


def test_all_cells_run_again_in_one(as_alice: Client, turn: Turn) -> None:
    page = soup(as_alice.get(turn.conversation.get_absolute_url()))
    form = one(page, ".work .run-all")
    assert one(soup(as_alice.get(turn.task.get_absolute_url())), ".run-all")["action"] == form["action"]
    as_alice.post(form["action"], {"what": "all"}, **HTMX)
    made = newest(turn)
    code = code_of(made)
    assert [line for line in code.splitlines() if line.startswith("# cell")] == ["# cell 1", "# cell 2", "# cell 3"]
    assert code.endswith("print(n)")
    assert made.steps.get(name="run_python").seq == 2


def test_code_that_failed_and_cannot_be_read_is_left_out(as_alice: Client, alice: User, demo: Agent) -> None:
    turn = worked(
        alice, demo, ("x = (", "", "  Cell In[1], line 1\nSyntaxError: '(' was never closed"), ("x = 1", "", "")
    )
    as_alice.post(reverse("fork", args=[turn.task_id, 2]), {"what": "all"})
    ast.parse(code := code_of(newest(turn)))
    assert "left out" in code
    assert "x = (" not in code


def test_one_cell_alone_is_not_offered_to_run_all_again(as_alice: Client, alice: User, demo: Agent) -> None:
    turn = worked(alice, demo, ("print(1)", "1\n", ""))
    assert soup(as_alice.get(turn.conversation.get_absolute_url())).select_one(".run-all") is None
    assert soup(as_alice.get(turn.task.get_absolute_url())).select_one(".run-all") is None


def test_what_is_refused_says_so_in_the_cell_and_keeps_what_was_typed(as_alice: Client, turn: Turn) -> None:
    url = reverse("fork", args=[turn.task_id, 4])
    answer = as_alice.post(url, {"what": "code", "code": " \n"}, **HTMX)
    assert answer.status_code == 422
    assert f"#cell-error-{turn.task_id}-4" in answer.content.decode()
    assert "There is no code to run." in answer.content.decode()
    assert "textarea" not in answer.content.decode()
    Agent.objects.filter(versions=turn.task.agent_version).delete()
    answer = as_alice.post(url, {"what": "code", "code": "kept = 1"})
    assert answer.status_code == 422
    details = soup(answer).select(".cell-edit[open]")
    assert len(details) == 1
    assert one(details[0], "textarea").text.strip() == "kept = 1"
    assert "not available any more" in one(details[0], "[role=alert]").text
    assert not one(details[0], "[name=before]").has_attr("checked")
    assert Turn.objects.count() == 1


def test_what_is_no_cell_has_no_code_to_run(as_alice: Client, turn: Turn) -> None:
    assert as_alice.post(reverse("fork", args=[turn.task_id, 1]), {"what": "all"}, **HTMX).status_code == 409
    assert as_alice.post(reverse("fork", args=[turn.task_id, 1]), {"what": "code", "code": "1"}).status_code == 422
    assert as_alice.post(reverse("fork", args=[turn.task_id, 99]), {"what": "code", "code": "1"}).status_code == 404
    assert Turn.objects.count() == 1


def test_the_task_view_has_one_form_for_the_code(as_alice: Client, turn: Turn) -> None:
    page = soup(as_alice.get(turn.task.get_absolute_url()))
    assert len(page.select(".cell-edit")) == 3
    assert page.select("[name=argument-code], [name=arguments]") == []
    assert len(page.select(".again [name=result]")) == 3


# --- live ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def scene(transactional_db: None, live: None, alice: User, demo: Agent) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        scene = Scene(alice, demo, stack)
        await db(scene.client.force_login, alice)
        yield scene


async def write(work: Work, call: ToolCall, text: str) -> None:
    await db(work.journal.save_output, call, text)
    work.stream.rows_changed()


async def test_what_a_cell_prints_is_there_as_it_comes_on_every_page(scene: Scene) -> None:
    turn = await scene.send("Analyse it")
    before = await scene.watch(turn.conversation)
    first, second = cell(1, "print(1)"), cell(2, "print(2)")
    work = await scene.work(turn.task)
    await work.ask()
    await work.finish(first)
    await work.start(first)
    await scene.is_quiet()
    assert one(before.page.soup, ".cell").find_parent("details").has_attr("open")
    for said in ("one\n", "one\n\n", "one\n\ntwo <i>\n", "one\n\ntwo <i>\nthree"):
        await write(work, first, said)
        await scene.is_quiet()
    page = one(before.page.soup, ".cell-output")
    assert page.text.strip() == "one\n\ntwo <i>\nthree"
    await scene.watch(turn.conversation)
    event = ToolFinished(first, ToolResult(first.id, first.name, "one"), (CHART,), output="one\n", notes=("Cut.",))
    await db(work.journal.finish_tool, event, Spent(1, 120, 1))
    work.stream.rows_changed()
    await scene.is_quiet()
    assert one(before.page.soup, ".cell").find_parent("details").has_attr("open")
    await work.ask()
    await work.finish(second)
    await work.start(second)
    await scene.is_quiet()
    folds = [found.find_parent("details") for found in before.page.soup.select(".cell")]
    assert [fold is not None and fold.has_attr("open") for fold in folds] == [False, True]
    await work.result(second, RULE + TRACEBACK, is_error=True)
    await work.ask()
    work.say("Done.")
    await work.finish()
    await work.end()
    await scene.is_quiet()
    assert one(before.page.soup, ".files .file-shown") is not None
    assert one(before.page.soup, ".work > .run-all") is not None


async def test_only_what_is_new_of_the_output_is_sent(scene: Scene) -> None:
    turn = await scene.send("Analyse it")
    viewer = await scene.watch(turn.conversation)
    call = cell(1, "for i in range(9): print(i)")
    work = await scene.work(turn.task)
    await work.ask()
    await work.finish(call)
    await work.start(call)
    await write(work, call, "first\n")
    await scene.is_quiet()
    received: list[str] = []
    receive = viewer.page.receive

    def listen(message: str) -> None:
        received.append(message)
        receive(message)

    viewer.page.receive = listen  # type: ignore[method-assign]
    await write(work, call, "first\nsecond\n")
    await scene.is_quiet()
    assert "second" in "".join(received)
    assert "first" not in "".join(received)


# --- where it cannot be run ------------------------------------------------------------------------------------------


def test_the_page_says_that_code_is_off_and_to_administrators_why(
    as_alice: Client, alice: User, demo: Agent, turn: Turn
) -> None:
    pages = [reverse("home"), turn.conversation.get_absolute_url()]
    Agent.objects.filter(pk=demo.pk).update(functions=["run_python"])
    Agent.objects.create(name="talker", title="Talker", provider="demo", functions=["calculate"], position=99)
    assert all(one(soup(as_alice.get(page)), ".code-off") is None for page in pages)
    refused = {"ok": False, "mode": "", "reason": "It is forbidden here.", "hint": "Allow it."}
    Worker.objects.create(owner="one", host="here", pid=1, beat_at=Now(), sandbox=refused)
    for page in pages:
        (note,) = soup(as_alice.get(page)).select(".code-off")
        assert (note["data-agent"], note.text) == (demo.name, "Code execution is off on this server.")
    assert one(soup(as_alice.get(f"{pages[0]}?agent=talker")), ".code-off").has_attr("hidden")
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    for page in pages:
        assert one(soup(as_alice.get(page)), ".code-off").text.endswith("It is forbidden here. Allow it.")
