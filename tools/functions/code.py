"""Code that runs."""

from typing import Any

from django.conf import settings

from tools.core.context import Context
from tools.core.function import function
from tools.core.results import Failure

#: Seconds for opening a sandbox, and for restoring and keeping variables, beside those of the code itself.
AROUND = 60.0


@function(effect="idempotent", approval=False, timeout=settings.SANDBOX_SECONDS + AROUND)
def run_python(code: str, context: Context) -> Any:
    """Run Python code and get what it prints, shows or raises. Use it to compute, to analyse data and files, to draw.

    It works like a cell of a notebook: the value of the last line is shown, and variables, imports and files are there
    the next time. The person's files lie in the working directory; files that the code writes there are shown to the
    person, and so are figures of matplotlib (plt.show()). There is no network. If it fails, read the error, correct the
    code and run it again.

    Args:
        code: The code of one cell.
    """
    if context.workspace is None:
        return Failure("Code can only be run inside a task.")
    return context.workspace.run(code, context)
