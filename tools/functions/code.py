"""Code that runs."""

from collections.abc import Callable
from typing import Any

from django.conf import settings

from tools.core.context import Context
from tools.core.function import function
from tools.core.results import Failure
from tools.sandbox import get_backend, unavailable
from tools.sandbox.base import SandboxUnavailable

#: Seconds for opening a sandbox, and for restoring and keeping variables, beside those of the code itself.
AROUND = 60.0


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, whose description says what can be imported."""
    try:
        names = [package.name for package in get_backend().packages()]
    except SandboxUnavailable:
        names = []
    there = f"Python's own library, {', '.join(names)}" if names else "Python's own library"
    function.__doc__ = (function.__doc__ or "").format(packages=there)
    return function


@function(effect="idempotent", approval=False, timeout=settings.SANDBOX_SECONDS + AROUND, unavailable=unavailable)
@_told
def run_python(code: str, context: Context) -> Any:
    """Run Python code and get what it prints, shows or raises. Use it to compute, to analyse data and files, to draw.

    It works like a cell of a notebook: the value of the last line is shown, and variables, imports and files are there
    the next time. The person's files lie in the working directory; files that the code writes there are shown to the
    person, and so are figures of matplotlib (plt.show()). There is no network. If it fails, read the error, correct the
    code and run it again. It can import {packages}.

    Args:
        code: The code of one cell.
    """
    if context.workspace is None:
        return Failure("Code can only be run inside a task.")
    return context.workspace.run(code, context)
