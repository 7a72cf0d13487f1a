"""`make bench` writes docs/performance.md: what was measured is filled in, and what was not stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import __main__ as bench
from bench.turns import by_message, row

PARTS = {"TABLE": "a table", "SDKS": "weights", "TURNS": "long conversations"}


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    page = tmp_path / "docs" / "performance.md"
    page.write_text("# Performance, as measured\n\nBefore.\n")
    return page


def test_everything_is_filled_in(page: Path) -> None:
    bench.report(PARTS)
    said = page.read_text()
    assert "%" not in said.replace("70 %", "")
    for part in PARTS.values():
        assert f"\n{part}\n" in said


@pytest.mark.parametrize("name", PARTS)
def test_what_was_not_measured_stays_as_it_was(page: Path, name: str) -> None:
    bench.report(PARTS)
    before = page.read_text()
    bench.report({name: "something new"})
    assert page.read_text() == before.replace(f"\n{PARTS[name]}\n", "\nsomething new\n")


def test_a_part_that_the_page_does_not_have_yet_is_added(page: Path) -> None:
    bench.report({"TURNS": "long conversations"})
    said = page.read_text()
    assert said.startswith("# Performance, as measured\n\nBefore.\n\n## What a message costs")
    assert said.endswith("\nlong conversations\n")


def test_a_message_is_looked_at_with_the_summary_that_it_needed_and_with_those_before_it() -> None:
    asked = [(1_000 + 100 * number, [{"role": "user", "content": f"{number + 1}. Hello"}]) for number in range(200)]
    asked.insert(150, (20_000, [{"role": "user", "content": "Sum up what was said."}]))
    sent = by_message(asked)
    assert (len(sent), sent[150].question, sent[150].together) == (200, 16_000, 36_000)
    found = row(151, sent)
    assert (found.what, found.floor) == ("Message 151", "16.0 KB, 4,000 tokens")
    mean = (20_000 + sum(1_000 + 100 * number for number in range(51, 151))) / 100_000
    assert found.measured == f"16.0 KB, 10 tokens; {mean:,.1f} KB with summaries"
