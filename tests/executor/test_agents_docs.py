"""docs/agents.md tells the truth: its fields are those of the file, its tables are those of the providers' classes.

    python manage.py shell -c "from tests.executor.test_agents_docs import write; write()"

puts the tables of today into the page.
"""

from __future__ import annotations

import re
from pathlib import Path

from executor.agent_rules import AgentEntry, LimitsEntry, PriceEntry
from executor.agents_file import read
from executor.core.llms.base import BaseLlm
from executor.core.llms.factory import LLMS, llm_class

PAGE = Path(__file__).parents[2] / "docs" / "agents.md"
_SECTION = re.compile(r"^### `(\w+)`: (.+)\n\n((?:.+\n)+)\n((?:\|.*\n)+)", re.MULTILINE)


def parameter_table(cls: type[BaseLlm]) -> str:
    """What an agent may set, in Markdown."""
    rows = (f"| `{parameter.name}` | {parameter.must_be()} | {parameter.help} |" for parameter in cls.PARAMETERS)
    return "\n".join(["| Parameter | Value | What it is |", "|---|---|---|", *rows, ""])


def test_every_provider_has_its_table() -> None:
    sections = {name: (label, table) for name, label, _, table in _SECTION.findall(PAGE.read_text())}
    for name in LLMS:
        if name != "scripted":  # A model of other tests.
            assert sections.pop(name) == (llm_class(name).label, parameter_table(llm_class(name)))
    assert sections == {}


def test_every_field_of_the_file_is_explained() -> None:
    table = re.search(r"^\| Field \|.*\n\|.*\n((?:\|.*\n)+)", PAGE.read_text(), re.MULTILINE)
    assert table
    fields = set(AgentEntry.model_fields) - {"limits", "price"}
    fields |= {f"limits.{name}" for name in LimitsEntry.model_fields}
    fields |= {f"price.{name}" for name in PriceEntry.model_fields}
    assert set(re.findall(r"^\| `([\w.]+)` \|", table[1], re.MULTILINE)) == fields


def test_the_example_can_be_loaded(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "agents.yaml").write_text(example)
    helper, careful = read(tmp_path / "agents.yaml", {}, others={})
    assert (helper.fallback, careful.parameters["effort"]) == (careful.name, "high")


def write() -> None:
    def section(found: re.Match[str]) -> str:
        cls = llm_class(found[1])
        return f"### `{found[1]}`: {cls.label}\n\n{found[3]}\n{parameter_table(cls)}"

    PAGE.write_text(_SECTION.sub(section, PAGE.read_text()))
