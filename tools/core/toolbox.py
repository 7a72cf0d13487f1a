"""The functions that one agent has at hand: what the model is told about them, and how a call of it is run."""

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeVar

from tools.core import results
from tools.core.arguments import ArgumentsError, validate
from tools.core.cache import Cache, Question
from tools.core.context import Context, NewFile
from tools.core.effects import Done, MayHaveRun, NotDone, Unclear
from tools.core.function import Function, ToolSpec
from tools.core.schema import Arguments

logger = logging.getLogger(__name__)

ErrorKind = Literal["", "arguments", "unknown_function", "timeout", "exception", "unclear"]
Result = TypeVar("Result")

_MESSAGE_LIMIT = 2_000


class RunSync(Protocol):
    """Runs a blocking call somewhere off the event loop."""

    def __call__(self, call: Callable[[], Result], /) -> Awaitable[Result]: ...


@dataclass(frozen=True)
class Outcome:
    """What became of a call. `content` is what the model reads: text, or JSON as text.

    With `made_at` it did not run: an earlier call gave this result then.
    """

    content: str
    is_error: bool = False
    files: tuple[NewFile, ...] = ()
    error_kind: ErrorKind = ""
    made_at: datetime | None = None


class Transact(Protocol):
    """Runs a transactional function inside the transaction that writes its outcome down; undone if that is an error."""

    def __call__(self, call: Callable[[], Outcome], /) -> Awaitable[Outcome]: ...


class Toolbox:
    """Runs calls of the functions it holds. It has no state of its own, so calls may run side by side.

    result_limit: bytes of a result that the model gets to read.
    cache: keeps the results of functions that say for how long; without one, they run each time.
    missing: why functions that were offered elsewhere are not among these, by name.
    """

    def __init__(
        self,
        functions: Iterable[Function],
        run_sync: RunSync = asyncio.to_thread,
        result_limit: int = results.DEFAULT_LIMIT,
        cache: Cache | None = None,
        missing: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._functions = {function.name: function for function in functions}
        self._run_sync = run_sync
        self._result_limit = result_limit
        self._cache = cache
        self._missing = missing

    @property
    def functions(self) -> dict[str, Function]:
        """By name, in the order in which the model is told about them."""
        return dict(self._functions)

    @property
    def specs(self) -> list[ToolSpec]:
        return [function.spec for function in self._functions.values()]

    def given(self, name: str, arguments: dict[str, Any] | None) -> dict[str, Any] | None:
        """The validated arguments of a call, by name; None if it cannot be run as it is."""
        function = self._functions.get(name)
        try:
            return validate(function, arguments, "").given() if function else None
        except Exception:  # `call` says what is wrong.
            return None

    async def call(
        self,
        name: str,
        arguments: dict[str, Any] | None,
        raw_arguments: str,
        context: Context,
        *,
        verify: bool = False,
        transact: Transact | None = None,
    ) -> Outcome:
        """Run one call to its end. Every failure is an Outcome for the model; only cancellation is raised.

        verify: it was begun before; if its function can say what became of that, it is asked first.
        transact: where a transactional function runs. It has no time limit: what is committed cannot be given up.
        """
        function = self._functions.get(name)
        if function is None and name in self._missing:
            return _failure("unknown_function", f"{name} cannot be called now. {self._missing[name]}")
        if function is None:
            existing = ", ".join(self._functions) or "none"
            return _failure("unknown_function", f"There is no function {name[:100]!r}. There are: {existing}.")
        try:
            given = validate(function, arguments, raw_arguments)
        except ArgumentsError as error:
            logger.info("%s was called with wrong arguments", function.name)
            return _failure("arguments", str(error))
        except Exception as error:  # A parameter type with validators of its own may raise anything.
            return _exception(function, error)
        question = Question.of(function, given, context.user_id) if self._cache else None
        if self._cache and question and (kept := await self._cache.find(question)):
            logger.info("%s was answered from the cache", function.name)
            return Outcome(kept.content, made_at=kept.made_at)
        if verify and function.verify and (known := await self._verify(function, given, context)):
            return known
        if function.effect == "transactional" and transact:
            outcome = await transact(partial(self._run_plain, function, given, context))
        else:
            outcome = await self._run(function, given, context)
        # Files belong to the call that made them: another one must make its own.
        if self._cache and question and not outcome.is_error and not outcome.files:
            await self._cache.keep(question, outcome.content)
        return outcome

    async def _verify(self, function: Function, given: Arguments, context: Context) -> Outcome | None:
        """What became of the call before; None if nothing did, and it may be run."""
        assert function.verify is not None
        check = partial(function.verify, given.given(), context.idempotency_key)
        try:
            async with asyncio.timeout(function.timeout):
                found = await self._run_sync(check) if not inspect.iscoroutinefunction(function.verify) else check()
                verdict = await found if inspect.isawaitable(found) else found
        except Exception as error:
            logger.exception("The check of %s failed", function.name)
            verdict = Unclear(f"Its check failed ({type(error).__name__}).")
        match verdict:
            case Done(result):
                return Outcome(results.render(result, self._result_limit))
            case NotDone():
                return None
            case _:
                reason = verdict.reason if isinstance(verdict, Unclear) else "Its check gave no verdict."
                return _failure(
                    "unclear", f"{function.name} was interrupted, and nobody can tell whether it ran. {reason}"
                )

    def _run_plain(self, function: Function, given: Arguments, context: Context) -> Outcome:
        """Run a plain function here and now."""
        try:
            returned = function.call(**_keywords(function, given, context))
            return Outcome(results.render(returned, self._result_limit), files=tuple(context.files))
        except Exception as error:
            return _exception(function, error)

    async def _run(self, function: Function, given: Arguments, context: Context) -> Outcome:
        keywords = _keywords(function, given, context)
        started = time.monotonic()
        try:
            async with asyncio.timeout(function.timeout):
                returned, error = await self._attempt(function, keywords)
        except TimeoutError:  # Ours: one that the function raised has come back as a value.
            logger.warning("%s did not answer within %g s", function.name, function.timeout)
            return _failure(
                "timeout",
                f"{function.name} did not answer within {function.timeout:g} seconds and was given up. "
                "It may have done its work or part of it: check before you call it again.",
            )
        if error is not None:
            return _exception(function, error)
        failed = isinstance(returned, results.Failure)
        try:
            content = results.render(returned.content if failed else returned, self._result_limit)
        except Exception as unrenderable:  # Values of the function's own types may raise anything when looked at.
            return _exception(function, unrenderable)
        logger.info("%s finished in %.0f ms", function.name, (time.monotonic() - started) * 1000)
        return Outcome(content, failed, tuple(context.files), "exception" if failed else "")

    async def _attempt(self, function: Function, keywords: dict[str, Any]) -> tuple[Any, BaseException | None]:
        """What the function returned, or what it raised.

        Errors travel as values: SystemExit raised into an event loop ends the worker, and StopIteration cannot
        pass through a future.
        """

        def attempt() -> tuple[Any, BaseException | None]:
            try:
                return function.call(**keywords), None
            except BaseException as error:
                return None, error

        try:
            returned, error = attempt() if function.is_async else await self._run_sync(attempt)
            if error is None and inspect.isawaitable(returned):
                returned = await returned
            return returned, error
        except GeneratorExit:
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return None, error  # The function gave up something of its own; nobody cancelled us.
        except BaseException as error:
            return None, error


def _keywords(function: Function, given: Arguments, context: Context) -> dict[str, Any]:
    more = {function.context_parameter: context} if function.context_parameter else {}
    return given.given() | more


def _failure(kind: ErrorKind, sentence: str) -> Outcome:
    return Outcome(results.harmless(sentence), is_error=True, error_kind=kind)


def _exception(function: Function, error: BaseException) -> Outcome:
    if isinstance(error, MayHaveRun):
        logger.warning("%s was cut off", function.name)
        return _failure("unclear", results.cut(f"{error} Nobody can tell whether it ran.", _MESSAGE_LIMIT))
    try:
        said = str(error)
    except Exception:
        said = ""
    kind = type(error).__name__
    # The message may quote what a person wrote, so only its kind goes into the log that is always on.
    level = logging.WARNING if isinstance(error, Exception) else logging.ERROR
    logger.log(level, "%s raised %s", function.name, kind)
    logger.debug("%s raised", function.name, exc_info=error)
    return _failure("exception", results.cut(f"{kind}: {said}" if said else kind, _MESSAGE_LIMIT))
