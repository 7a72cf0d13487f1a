"""How functions are found, and how what is broken keeps to itself."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tools.core.registry import Registry, build, mount_folder

Drop = Callable[..., Path]

GOOD = """
from tools.core.function import function

@function(effect="read")
def greet(name: str) -> str:
    '''Greet.'''
    return f"Hello {name}"
"""


def registry_of(folder: Path) -> Registry:
    return build([mount_folder(folder)])


def test_a_function_in_a_dropped_module_is_found(drop: Drop) -> None:
    registry = registry_of(drop(greetings=GOOD))
    assert registry.problems == ()
    assert registry.functions["greet"].call("you") == "Hello you"
    assert registry.functions["greet"].module == "dropped_functions.greetings"


def test_only_public_functions_that_the_module_defines_are_found(drop: Drop) -> None:
    source = "from os.path import join\nfrom tools.core.function import function\n" + GOOD
    registry = registry_of(drop(greetings=source + "def _helper(): ...\nalso = greet\nclass Thing: ...\n"))
    assert list(registry.functions) == ["greet"]
    assert registry.problems == ()


def test_a_module_with_an_underscore_is_a_helper_that_others_may_import(drop: Drop) -> None:
    registry = registry_of(drop(_words="HELLO = 'Hello'\n" + GOOD, greetings="from ._words import HELLO\n" + GOOD))
    assert list(registry.functions) == ["greet"]
    assert registry.problems == ()


def test_a_dropped_module_does_not_hide_one_of_the_same_name_elsewhere(drop: Drop) -> None:
    registry = registry_of(drop(json=GOOD))
    import json

    assert json.dumps({}) == "{}"
    assert list(registry.functions) == ["greet"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("def broken(:\n", "not valid Python: invalid syntax (line 1)"),
        ("import sys\nsys.exit(3)\n", "cannot be imported (SystemExit: 3)"),
        ("import a_library_that_is_not_there\n", "ModuleNotFoundError"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("from tools.core.function import function\n@function(effect='nice')\ndef f(): ...\n", "effect='nice'"),
    ],
)
def test_a_module_that_does_not_import_is_a_problem_and_breaks_nothing_else(
    drop: Drop, source: str, sentence: str
) -> None:
    registry = registry_of(drop(bad=source, good=GOOD))
    assert list(registry.functions) == ["greet"]
    [problem] = registry.problems
    assert (problem.kind, problem.module, problem.function) == ("module", "dropped_functions.bad", None)
    assert sentence in problem.sentence


def test_a_function_without_docstring_is_a_problem_and_its_neighbour_is_found(drop: Drop) -> None:
    registry = registry_of(drop(greetings=GOOD + "def silent(a: int): ...\n"))
    assert list(registry.functions) == ["greet"]
    [problem] = registry.problems
    assert str(problem).startswith("dropped_functions.greetings.silent: It has no docstring.")


def test_the_first_function_of_a_name_keeps_it(drop: Drop) -> None:
    registry = registry_of(drop(a=GOOD, b=GOOD))
    assert registry.functions["greet"].module == "dropped_functions.a"
    [problem] = registry.problems
    assert (problem.kind, problem.module) == ("duplicate", "dropped_functions.b")
    assert "taken by dropped_functions.a" in problem.sentence


def test_looking_again_sees_what_is_there_now(drop: Drop) -> None:
    folder = drop(greetings=GOOD)
    registry_of(folder)
    (folder / "greetings.py").unlink()
    drop(farewells=GOOD.replace("greet", "part"))
    assert list(registry_of(folder).functions) == ["part"]


def test_a_folder_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert registry_of(tmp_path / "nowhere") == Registry({}, ())


def test_functions_are_selected_in_the_order_asked_for(drop: Drop) -> None:
    registry = registry_of(drop(a=GOOD, b=GOOD.replace("greet", "part"), c=GOOD.replace("greet", "meet")))
    assert [f.name for f in registry.select(["part", "greet", "part"])] == ["part", "greet"]
    assert [f.name for f in registry.select(["*"])] == ["greet", "meet", "part"]
    assert [f.name for f in registry.select(["part", "*"])] == ["part", "greet", "meet"]


def test_all_functions_are_also_those_that_need_agreement(drop: Drop) -> None:
    careless = GOOD.replace('@function(effect="read")\n', "")
    registry = registry_of(drop(a=GOOD, b=careless.replace("greet", "send")))
    assert registry.functions["send"].agreement == "asks first"
    assert [f.name for f in registry.select(["*"])] == ["greet", "send"]


def test_unknown_names_are_reported_and_not_selected(drop: Drop) -> None:
    registry = registry_of(drop(a=GOOD))
    assert [f.name for f in registry.select(["greet", "nothing"])] == ["greet"]
    assert registry.unknown(["*", "greet", "nothing"]) == ["nothing"]


def test_a_folder_is_mounted_while_something_else_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Importing(str):
        """Who looks at this name finds that there are more modules by then."""

        def partition(self, separator: str, /) -> tuple[str, str, str]:
            monkeypatch.setitem(sys.modules, "imported_meanwhile", ModuleType("imported_meanwhile"))
            return super().partition(separator)

    monkeypatch.setitem(sys.modules, Importing("being_imported"), ModuleType("being_imported"))
    (tmp_path / "hello.py").write_text("")
    assert mount_folder(tmp_path) in sys.modules
