"""The workspace of a task goes on where variables cannot be restored."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tools.core.context import Context
from tools.sandbox.session import BwrapSession
from tools.workspace import Workspace


class Shelf:
    def __init__(self, state: bytes) -> None:
        self.kept: bytes | None = state

    def files(self) -> Iterable[tuple[str, bytes]]:
        return [("data.csv", b"a,b")]

    def state(self) -> tuple[bytes, dict[str, str]] | None:
        return (self.kept, {}) if self.kept else None

    def keep(self, state: bytes | None, lost: dict[str, str], call_id: str) -> None:
        self.kept = state


def test_variables_whose_reading_ends_python_are_given_up(open_session: Callable[..., BwrapSession]) -> None:
    session = open_session()
    session.execute("import os\nclass Evil:\n    def __reduce__(self):\n        return os._exit, (1,)\n\nevil = Evil()")
    session.save()
    shelf = Shelf(session.state_out() or b"")
    workspace = Workspace("test", shelf)
    told = workspace.run("print(open('data.csv').read())", Context(None, "task", "call", "key"))
    workspace.close()

    assert "Not restored: all variables (Python ended" in str(told)
    assert "a,b" in str(told)
