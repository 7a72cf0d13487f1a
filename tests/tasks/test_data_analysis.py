"""Data analysis: tables are read as people write them, numbers come from code, and charts are really drawn."""

from __future__ import annotations

import json
from typing import Any

import pytest

from executor.core.errors import StepFailed, StepValidationError
from executor.core.executor import ExecutionStatus
from executor.core.llms.base import Endpoint
from executor.core.llms.demo import Demo
from tasks._table import profile
from tasks.data_analysis import DataAnalysis
from tests.executor.conftest import MakeScript
from tests.executor.scripted import call, say
from tests.tasks.real_tools import RealTools
from tests.tools.functions.test_web import response, serving

SALES = """\
day,region,sales,note
2026-01-03,North,"1,200.50",
2026-01-17,South,800,late
2026-02-02,North,950,
2026-02-09,West,,late
"""
CHARTS = ["sales over time", "sales by region", "Rows by region", "How sales is spread"]


async def test_the_table_is_measured_charts_are_chosen_and_drawn_and_findings_written(scripted: MakeScript) -> None:
    by_region = {"kind": "bar", "title": "sales by region", "labels": ["North", "South"], "values": [2150.5, 800.0]}
    script = scripted(
        say('{"charts": [2, 9, 2]}'),
        say(call("draw_chart", **by_region)),
        say("North leads."),
        say("North sells most: 2,150.5."),
    )
    tools = RealTools("draw_chart")
    result = await DataAnalysis(script.llm(), tools).execute({"data": SALES})
    assert result.status == ExecutionStatus.DONE, result.error
    assert [chart["title"] for chart in result.output["table"]["charts"]] == CHARTS
    assert [chart["title"] for chart in result.output["chosen"]] == ["sales by region"]
    assert [(file.media_type, len(tools.ran)) for file in tools.files] == [("image/png", 1)]
    drawn = json.loads(script.asked[1][-1].text.rpartition("\n\n")[2])
    assert drawn == {"function": "draw_chart", "arguments": by_region}
    assert "sales over time" not in script.asked[3][-1].text.rpartition('"charts"')[2]
    assert result.output["answer"] == (
        "North sells most: 2,150.5.\n\n## The data\n\n4 rows, 4 columns.\n\n"
        "| Column | Smallest | Median | Mean | Largest | Sum | Missing |\n| --- | --: | --: | --: | --: | --: | --: |\n"
        "| sales | 800 | 950 | 983.5 | 1,200.5 | 2,950.5 | 1 |\n\n"
        "| Column | First | Last | Missing |\n| --- | --: | --: | --: |\n| day | 2026-01-03 | 2026-02-09 | 0 |\n\n"
        "| Column | Different values | Most common | Missing |\n| --- | --: | --: | --: |\n"
        "| region | 3 | North (2), South (1), West (1) | 0 |\n"
        "| note | 1 | late (2) | 2 |"
    )


@pytest.mark.parametrize(
    ("text", "kinds", "total"),
    [
        ("a;b\n1.234,5;x\n2,5;y", ["number", "text"], 1237.0),
        ("a\tb\n€ 5\t1\n7 €\t2", ["number", "number"], 12.0),
        ("a|when\n-3|03.02.2026\n4|17.02.2026", ["number", "date"], 1.0),
        ("\ufeffa,b\n12 %,n/a\n-,x", ["number", "text"], 12.0),
        ("a\n1\n2\n", ["number"], 3.0),
    ],
)
def test_tables_are_read_as_people_write_them(text: str, kinds: list[str], total: float) -> None:
    columns = profile(text)["columns"]
    assert ([column["kind"] for column in columns], columns[0]["sum"]) == (kinds, total)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "There is no data."),
        ("a,b\n", "The data has no rows."),
        ("a,b\n1,2\n1,2,3", r"Row 3 has more values than there are columns \(2\)."),
        ('a,b\n"1,2', "The data cannot be read as CSV: "),
        (",".join("x" * 41) + "\n1", "Give 50,000 rows and 40 columns at most."),
    ],
)
def test_what_is_no_table_is_told_so(text: str, sentence: str) -> None:
    with pytest.raises(StepValidationError, match=sentence):
        profile(text)


def test_days_become_months_where_they_are_too_many_and_numbers_that_name_things_are_not_added() -> None:
    lines = [f"2026-{month:02}-{day:02},{day},77" for month in (1, 2, 3) for day in range(1, 29)]
    charts = profile("day,sold,customer_id\n" + "\n".join(lines))["charts"]
    assert charts[0] == {
        "n": 1,
        "kind": "line",
        "title": "sold over time",
        "labels": ["2026-01", "2026-02", "2026-03"],
        "values": [406.0] * 3,
    }
    assert not any("customer_id" in chart["title"] for chart in charts)


def test_long_texts_are_told_in_short() -> None:
    told = profile(f"{'n' * 99},b\n{'x' * 9999},1\ny,2")
    assert [column["name"] for column in told["columns"]] == ["n" * 60, "b"]
    assert told["columns"][0]["most_common"] == {"x" * 60: 1, "y": 1}
    assert max(len(label) for chart in told["charts"] for label in chart["labels"]) == 60


async def test_a_file_is_read_from_its_address_and_not_kept(scripted: MakeScript, settings: Any) -> None:
    settings.FETCH_ALLOWED_HOSTS = ["127.0.0.1"]
    script = scripted(say("Two."))
    async with serving(lambda path: response(b"a\n1\n1", "text/csv")) as (server, got):
        result = await DataAnalysis(script.llm()).execute({"address": f"{server}/a.csv", "question": "How many?"})
    assert result.output["answer"].startswith("Two.\n\n## The data\n\n2 rows, 1 columns.")
    assert (len(got), result.output["chosen"]) == (1, [])


async def test_what_it_is_given_must_be_one_thing(scripted: MakeScript, settings: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(DataAnalysis, "pause", 0)
    for given in ({}, {"data": SALES, "address": "https://a.example"}):
        result = await DataAnalysis(scripted().llm()).execute(given)
        assert isinstance(result.error, StepValidationError)
        assert result.error.message == "Give either the data or the address of a file."
    result = await DataAnalysis(scripted().llm()).execute({"address": "http://127.0.0.1:9/a.csv"})
    assert isinstance(result.error, StepFailed)
    assert result.error.message.startswith("The file cannot be read: ")


async def test_it_works_with_the_demonstration() -> None:
    tools = RealTools("draw_chart")
    result = await DataAnalysis(Demo(Endpoint(""), pause=0), tools).execute({"data": SALES})
    assert result.status == ExecutionStatus.DONE, result.error
    assert [file.media_type for file in tools.files] == ["image/png"]
    assert [ran.arguments for ran in tools.ran] == [
        {name: chart[name] for name in ("kind", "title", "labels", "values")} for chart in result.output["chosen"]
    ]
    assert "| sales | 800 |" in result.output["answer"]


async def test_texts_of_the_data_stay_texts() -> None:
    result = await DataAnalysis(Demo(Endpoint(""), pause=0)).execute(
        {"data": "name\n<b>[x](http://y)|*\n<b>[x](http://y)|*"}
    )
    assert r"\<b\>\[x\](http://y)\|\* (2)" in result.output["answer"]
