"""Running Python that nobody trusts (docs/sandbox.md). Nothing is imported before it is needed: a process that never
runs code does not pay for it.

    backend = get_backend()
    session = backend.open(key="task 12", limits=get_limits())
    try:
        result = session.execute("print(1 + 1)")
    finally:
        session.close()
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tools.sandbox.base import Availability, Backend, Limits


def get_backend() -> Backend:
    """The back end that SANDBOX_BACKEND names. Raises SandboxUnavailable where there is none. There is no other way to
    run code: without a sandbox there is no code."""
    from django.conf import settings

    from tools.sandbox.base import SandboxUnavailable

    if not settings.SANDBOX_BACKEND:
        raise SandboxUnavailable("Running code is switched off on this server.", "SANDBOX_BACKEND is empty.")
    return _backend(settings.SANDBOX_BACKEND, tuple(sorted(settings.SANDBOX_OPTIONS.items())))


@cache
def _backend(name: str, options: tuple[tuple[str, str], ...]) -> Backend:
    from django.utils.module_loading import import_string

    from tools.sandbox.base import SandboxUnavailable

    try:
        made: Backend = import_string(name)(**dict(options))
    except (ImportError, TypeError, ValueError) as error:
        raise SandboxUnavailable(
            "The sandbox of this server is not set up.", f"SANDBOX_BACKEND or SANDBOX_OPTIONS: {error}."
        ) from error
    return made


def get_limits() -> Limits:
    """What one session may use, from the settings."""
    from django.conf import settings

    from tools.sandbox.base import MIB, Limits

    return Limits(
        wall=settings.SANDBOX_SECONDS,
        memory=settings.SANDBOX_MEMORY_MB * MIB,
        processes=settings.SANDBOX_PROCESSES,
        workspace=settings.SANDBOX_WORKSPACE_MB * MIB,
        output=settings.SANDBOX_OUTPUT_KB * 1024,
    )


def availability() -> Availability:
    """Whether code can be run here, with the reason where it cannot. Slow the first time (it tries)."""
    from tools.sandbox.base import Availability, SandboxUnavailable

    try:
        found = get_backend().check()
    except SandboxUnavailable as error:
        found = Availability(ok=False, reason=error.reason, hint=error.hint)
    _found[_named()] = found
    return found


def unavailable() -> str:
    """Why no code can be run here, a sentence; "" if it can, or if nobody in this process has tried yet. For functions
    that run code."""
    found = _found.get(_named())
    return "" if found is None or found.ok else found.reason


_found: dict[tuple[Any, ...], Availability] = {}


def _named() -> tuple[Any, ...]:
    """The back end of the settings."""
    from django.conf import settings

    return settings.SANDBOX_BACKEND, *sorted(settings.SANDBOX_OPTIONS.items())
