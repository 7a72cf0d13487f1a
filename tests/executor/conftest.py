"""What tests of the executor share: the scripted model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from executor.core.llms.factory import LLMS
from tests.executor.scripted import SCRIPTS, Answer, Script

MakeScript = Callable[..., Script]


@pytest.fixture
def scripted() -> Iterator[MakeScript]:
    """Write down what a model says: `scripted(say("Hello."))`. At the end of the test exactly that has been asked."""
    made: list[Script] = []

    def write_down(*answers: Answer) -> Script:
        script = Script(list(answers))
        SCRIPTS[script.name] = script
        made.append(script)
        return script

    LLMS["scripted"] = "tests.executor.scripted.Scripted"
    try:
        yield write_down
    finally:
        del LLMS["scripted"]
        for script in made:
            del SCRIPTS[script.name]
    for script in made:
        script.check()
