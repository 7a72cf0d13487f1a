"""A call of a function, from what the model sent to what it reads."""

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from datetime import date
from typing import Any, Literal

import pytest

from tools.core.context import Context
from tools.core.function import describe, function
from tools.core.toolbox import Outcome, Toolbox


async def call(call_context: Context, function: Callable[..., Any], /, **arguments: Any) -> Outcome:
    return await Toolbox([describe(function)]).call(function.__name__, arguments, json.dumps(arguments), call_context)


def repeat(word: str, times: int = 2, case: Literal["lower", "upper"] = "lower") -> str:
    """Repeat a word."""
    return word * times if case == "lower" else word.upper() * times


async def test_a_sync_function_runs_off_the_loop(call_context: Context) -> None:
    def where() -> bool:
        """Tell."""
        return threading.current_thread() is threading.main_thread()

    assert (await call(call_context, where)).content == "false"


async def test_an_async_function_runs_on_the_loop(call_context: Context) -> None:
    async def where() -> bool:
        """Tell."""
        return threading.current_thread() is threading.main_thread()

    assert (await call(call_context, where)).content == "true"


async def test_the_caller_decides_how_sync_functions_are_run(call_context: Context) -> None:
    ran = []

    async def run_sync(call: Callable[[], Any]) -> Any:
        ran.append(call)
        return call()

    box = Toolbox([describe(repeat)], run_sync=run_sync)
    assert (await box.call("repeat", {"word": "a"}, "", call_context)).content == "aa"
    assert len(ran) == 1


async def test_arguments_are_coerced(call_context: Context) -> None:
    def shift(start: date, days: int, sure: bool, note: str) -> str:
        """Shift."""
        return f"{start!r} {days!r} {sure!r} {note!r}"

    outcome = await call(call_context, shift, start="2024-02-29", days="3", sure="true", note=7)
    assert outcome == Outcome("datetime.date(2024, 2, 29) 3 True '7'")


async def test_a_structure_sent_as_json_in_a_string_is_understood(call_context: Context) -> None:
    def add(numbers: list[int]) -> int:
        """Add."""
        return sum(numbers)

    assert (await call(call_context, add, numbers="[1, 2, 3]")).content == "6"
    assert (await call(call_context, add, numbers="one, two")).error_kind == "arguments"


async def test_what_was_left_out_keeps_the_functions_own_default(call_context: Context) -> None:
    marker = object()

    def check(value: Any = marker) -> bool:
        """Check."""
        return value is marker

    assert (await call(call_context, check)).content == "true"


async def test_a_wrong_call_names_each_field_what_was_wrong_and_the_expected_shape(call_context: Context) -> None:
    outcome = await call(call_context, repeat, times="many", case="title", extra=1)
    assert (outcome.is_error, outcome.error_kind) == (True, "arguments")
    *complaints, expected = outcome.content.splitlines()
    assert complaints == [
        "repeat was not run: its arguments are wrong.",
        "- word: is missing.",
        '- times: input should be a valid integer, unable to parse string as an integer, but got "many".',
        "- case: input should be 'lower' or 'upper', but got \"title\".",
        "- extra: there is no such parameter. There are: word, times, case.",
    ]
    assert json.loads(expected.removeprefix("Expected: ")) == {
        "word": {"type": "string"},
        "times": {"type": "integer", "default": 2},
        "case": {"type": "string", "enum": ["lower", "upper"], "default": "lower"},
    }


async def test_arguments_that_are_no_object_are_quoted_back(call_context: Context) -> None:
    outcome = await Toolbox([describe(repeat)]).call("repeat", None, "{'word': 'a'" + "x" * 1000, call_context)
    assert outcome.error_kind == "arguments"
    assert "are not a JSON object. What was sent begins with: {'word': 'a'xxx" in outcome.content
    assert '"required": ["word"]' in outcome.content
    assert len(outcome.content) < 800


async def test_an_unknown_function_is_answered_with_those_that_exist(call_context: Context) -> None:
    outcome = await Toolbox([describe(repeat)]).call("repaet", {}, "{}", call_context)
    assert (outcome.is_error, outcome.error_kind) == (True, "unknown_function")
    assert outcome.content == "There is no function 'repaet'. There are: repeat."


@pytest.mark.parametrize("error", [ValueError("too\0 bad\ud800"), SystemExit(3), StopIteration(1), KeyboardInterrupt()])
async def test_whatever_a_function_raises_is_an_answer_without_traceback(
    call_context: Context, error: BaseException
) -> None:
    def fail() -> None:
        """Fail."""
        raise error

    async def fail_on_the_loop() -> None:
        """Fail."""
        raise error

    for failing in (fail, fail_on_the_loop):
        outcome = await call(call_context, failing)
        assert (outcome.is_error, outcome.error_kind) == (True, "exception")
        if not isinstance(error, StopIteration):  # Python itself turns that one into a RuntimeError on the loop.
            assert outcome.content.startswith(type(error).__name__)
        assert "Traceback" not in outcome.content
        assert outcome.content.encode()


async def test_the_message_of_an_exception_reaches_the_model(call_context: Context) -> None:
    def fail() -> None:
        """Fail."""
        raise ValueError("The moon is not made of cheese.")

    assert (await call(call_context, fail)).content == "ValueError: The moon is not made of cheese."


async def test_an_exception_is_logged_in_a_line_and_with_its_traceback_at_debug(
    call_context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        """Fail."""
        raise ValueError("private words")

    with caplog.at_level(logging.DEBUG, logger="tools"):
        await call(call_context, fail)
    loud = [record for record in caplog.records if record.levelno > logging.INFO]
    assert [record.getMessage() for record in loud] == ["fail raised ValueError"]
    assert any(record.exc_info for record in caplog.records if record.levelno == logging.DEBUG)


async def test_a_function_that_takes_too_long_is_given_up(call_context: Context) -> None:
    release = threading.Event()

    @function(timeout=0.05)
    def wait() -> None:
        """Wait."""
        release.wait(10)

    @function(timeout=0.05)
    async def wait_on_the_loop() -> None:
        """Wait."""
        await asyncio.Event().wait()

    for slow in (wait, wait_on_the_loop):
        outcome = await call(call_context, slow)
        assert (outcome.is_error, outcome.error_kind) == (True, "timeout")
        assert "did not answer within 0.05 seconds" in outcome.content
    release.set()


async def test_a_timeout_that_the_function_itself_raises_is_its_own(call_context: Context) -> None:
    async def give_up() -> None:
        """Give up."""
        raise TimeoutError("the other side is silent")

    assert (await call(call_context, give_up)).content == "TimeoutError: the other side is silent"


async def test_cancelling_the_call_cancels_the_function(call_context: Context) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        """Wait."""
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    running = asyncio.create_task(call(call_context, wait))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert cancelled.is_set()


async def test_a_function_that_cancels_something_of_its_own_has_failed(call_context: Context) -> None:
    async def give_up() -> None:
        """Give up."""
        inner = asyncio.create_task(asyncio.sleep(10))
        inner.cancel()
        await inner

    assert (await call(call_context, give_up)).error_kind == "exception"


async def test_files_come_with_the_outcome(call_context: Context) -> None:
    def write(text: str, call: Context) -> str:
        """Write."""
        return call.save("../../etc/notes.txt", text.encode(), "text/plain").name

    outcome = await call(call_context, write, text="hello")
    assert outcome.content == "notes.txt"
    [file] = outcome.files
    assert (file.name, file.data, file.media_type) == ("notes.txt", b"hello", "text/plain")


async def test_a_call_that_fails_leaves_no_files(call_context: Context) -> None:
    def write(call: Context) -> None:
        """Write."""
        call.save("notes.txt", b"half", "text/plain")
        raise ValueError("full")

    assert (await call(call_context, write)).files == ()


async def test_a_result_that_cannot_be_shown_is_an_error(call_context: Context) -> None:
    def circle() -> list[Any]:
        """Go round."""
        endless: list[Any] = []
        endless.append(endless)
        return endless

    assert (await call(call_context, circle)).error_kind == "exception"


def test_specs_tell_name_description_and_schema() -> None:
    [spec] = Toolbox([describe(repeat)]).specs
    assert (spec.name, spec.description, spec.parameters["required"]) == ("repeat", "Repeat a word.", ["word"])
