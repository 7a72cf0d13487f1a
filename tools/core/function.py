"""A function as an agent sees it: a name, a description, a schema, and what may happen when it runs."""

import hashlib
import inspect
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, overload

from tools.core import docstrings
from tools.core.effects import Verify
from tools.core.schema import Arguments, SignatureError, arguments_model, json_schema

Effect = Literal["read", "transactional", "idempotent", "verifiable", "unsafe"]
#: Whether a call needs somebody's agreement: always, never, or as its validated arguments say.
Approval = bool | Callable[[dict[str, Any]], bool]
#: The effects of functions of which a call that was interrupted may simply be run again.
REPEATABLE = frozenset({"read", "transactional", "idempotent"})

DEFAULT_TIMEOUT = 60.0
#: Who gives the result of a call: the function's own code; the person, to whom it is a question or a plan; or tasks for
#: other agents, which the function's own code names.
AnsweredBy = Literal["function", "person", "plan", "tasks"]

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_OPTIONS = "__tool_options__"

Call = TypeVar("Call", bound=Callable[..., Any])


@dataclass(frozen=True)
class ToolSpec:
    """What a language model is told about a function. `parameters` is a JSON schema of type object."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What cannot be read off a signature. See `function`."""

    effect: Effect = "unsafe"
    approval: Approval | None = None
    timeout: float = DEFAULT_TIMEOUT
    cache: float | None = None
    cache_shared: bool = False
    verify: Verify | None = None
    answered_by: AnsweredBy = "function"
    unavailable: Callable[[], str] | None = None


@dataclass(frozen=True, eq=False)
class Function:
    """A Python function that agents may call. Times are in seconds. `version` changes with the code of its module."""

    name: str
    title: str
    description: str
    parameters: dict[str, Any]
    effect: Effect
    approval: Approval
    timeout: float
    cache: float | None
    verify: Verify | None
    answered_by: AnsweredBy
    module: str
    call: Callable[..., Any]
    arguments: type[Arguments]
    context_parameter: str | None
    is_async: bool
    cache_shared: bool = False
    version: str = ""
    unavailable: Callable[[], str] | None = None

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.name, self.description, self.parameters)

    @property
    def agreement(self) -> str:
        """Whether the person is asked, in words."""
        if self.answered_by != "function":
            return "answered by other agents" if self.answered_by == "tasks" else "answered by the person"
        if callable(self.approval):
            return "asks first, depending on the arguments"
        return "asks first" if self.approval else "runs without asking"

    @property
    def why_not_here(self) -> str:
        """Why it cannot be called in this process, a sentence; "" if it can."""
        if self.unavailable is None:
            return ""
        try:
            return self.unavailable()
        except Exception:
            logger.exception("Whether %s can be called could not be found out", self.name)
            return "Whether it can be called could not be found out; the log has the details."

    def needs_approval(self, arguments: dict[str, Any]) -> bool:
        """Whether somebody has to agree to a call with these validated arguments. Who cannot tell asks."""
        if isinstance(self.approval, bool):
            return self.approval
        try:
            return bool(self.approval(arguments))
        except Exception:
            logger.exception("The approval predicate of %s failed, so the person is asked", self.name)
            return True


@overload
def function(call: Call, /) -> Call: ...
@overload
def function(
    *,
    effect: Effect = ...,
    approval: Approval | None = ...,
    timeout: float = ...,
    cache: float | None = ...,
    cache_shared: bool = ...,
    verify: Verify | None = ...,
    answered_by: AnsweredBy = ...,
    unavailable: Callable[[], str] | None = ...,
) -> Callable[[Call], Call]: ...
def function(
    call: Callable[..., Any] | None = None,
    /,
    *,
    effect: Effect = "unsafe",
    approval: Approval | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    cache: float | None = None,
    cache_shared: bool = False,
    verify: Verify | None = None,
    answered_by: AnsweredBy = "function",
    unavailable: Callable[[], str] | None = None,
) -> Any:
    """Say about a function what its signature cannot. The function itself stays as it is.

    effect: what a second run after a crash would do, and so whether there may be one.
        read           changes nothing: run again
        transactional  plain `def` that only uses the ORM: runs inside the step's transaction, so exactly once
        idempotent     safe to repeat with the same `Context.idempotency_key`: run again
        verifiable     `verify` finds out whether it happened: it is run again if not
        unsafe         may do harm when run twice: never repeated without being told to (the default)
    approval: whether the person has to agree before it runs: True, False, or a predicate that gets the validated
        arguments by name. By default for verifiable and unsafe functions.
    timeout: seconds until the model is told that the function did not answer.
    cache: seconds for which the same arguments give the same person the same result without running; for effect "read"
        only. Failures are not kept, and neither is a result that came with files.
    cache_shared: such a result is everybody's; for a function that does not take the `Context`.
    verify: gets the call's arguments by name and its `Context.idempotency_key`, and returns `Done(result)`,
        `NotDone()` or `Unclear()` (tools.core.effects); plain or async.
    answered_by: "person" or "plan" for a function whose result the person gives. Its own code runs only where nobody
        is there who could be asked. "tasks" for one that other agents answer: it returns the tasks for them
        (executor/functions.py).
    unavailable: tells why it cannot be called in this process, a sentence, or "". Then no model is offered it. It is
        asked often and must not take time.
    """
    if effect not in get_args(Effect):
        raise ValueError(f"effect={effect!r} is unknown. Use one of: {', '.join(get_args(Effect))}.")
    if timeout <= 0:
        raise ValueError(f"timeout={timeout!r} must be a number of seconds greater than zero.")
    if cache is not None and (cache <= 0 or effect != "read" or answered_by != "function"):
        raise ValueError(
            "cache is a number of seconds greater than zero, and only makes sense with effect='read' and for what the "
            "function itself answers."
        )
    if cache_shared and cache is None:
        raise ValueError("cache_shared=True says whose the kept results are. Say with cache= how long they are kept.")
    if (effect == "verifiable") != (verify is not None):
        raise ValueError("effect='verifiable' and verify=… go together: give both, or neither.")
    options = Options(effect, approval, timeout, cache, cache_shared, verify, answered_by, unavailable)

    def mark(call: Call) -> Call:
        setattr(call, _OPTIONS, options)
        return call

    return mark if call is None else mark(call)


def describe(call: Callable[..., Any]) -> Function:
    """Read signature, hints and docstring of `call`. Raises SignatureError with a sentence for its author."""
    options: Options = getattr(call, _OPTIONS, Options())
    name = call.__name__
    if not _NAME.fullmatch(name):
        raise SignatureError("Its name must be ASCII letters, digits and underscores, 64 at most. Rename it.")
    documentation = docstrings.read(inspect.getdoc(call) or "")
    if not documentation.text:
        raise SignatureError("It has no docstring. Describe what it does, for the model that decides when to call it.")
    if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
        raise SignatureError(
            "It yields. Return a list instead, or start its name with an underscore to keep it private."
        )
    is_async = inspect.iscoroutinefunction(call)
    if is_async and options.effect == "transactional":
        raise SignatureError("It is async but transactional. A transactional function must be a plain `def`.")
    arguments, context_parameter = arguments_model(call, documentation.parameters)
    if options.cache_shared and context_parameter:
        raise SignatureError(
            "It takes the Context, so what it returns may be the person's. Leave out cache_shared or the Context."
        )
    return Function(
        name=name,
        title=name.replace("_", " ").strip().capitalize(),
        description=documentation.text,
        parameters=json_schema(arguments),
        effect=options.effect,
        approval=options.effect in ("verifiable", "unsafe") if options.approval is None else options.approval,
        timeout=options.timeout,
        cache=options.cache,
        verify=options.verify,
        answered_by=options.answered_by,
        module=call.__module__,
        call=call,
        arguments=arguments,
        context_parameter=context_parameter,
        is_async=is_async,
        cache_shared=options.cache_shared,
        version=_version(call) if options.cache else "",
        unavailable=options.unavailable,
    )


def _version(call: Callable[..., Any]) -> str:
    """Of all code in its module: what it calls there decides about its result, too."""
    try:
        source = Path(inspect.getsourcefile(call) or "").read_bytes()
    except (OSError, TypeError):  # Made by code that is in no file.
        source = call.__code__.co_code + repr(call.__code__.co_consts).encode()
    return hashlib.sha256(source).hexdigest()[:16]
