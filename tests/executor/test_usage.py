"""Tokens and dollars, added up."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils import timezone

from executor.models import Agent, Step
from executor.usage import COUNTS, DEFAULT, Names, Period, Use, cell, csv_rows, people, rows, step_use, usage
from executor.usage_chart import charts, nice_top
from tests.usage_rows import answered, asked, make_agent, make_key
from users.models import User

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
PERIOD = Period.named("30", NOW.date())


@pytest.fixture
def agent(db: None) -> Agent:
    return make_agent()


def test_what_has_no_price_is_counted_and_not_added_up_as_nothing(alice: User, agent: Agent) -> None:
    turn = asked(alice, agent, "Hello", NOW)
    answered(turn, "0.25")
    answered(turn, None, seq=2)
    total = usage(PERIOD, alice).total
    assert (total.answers, total.cost, total.unpriced) == (2, Decimal("0.25"), 1)
    assert total.price == "$0.25 + unknown"


def test_cached_and_reasoning_tokens_are_told_apart_within_the_others(alice: User, agent: Agent) -> None:
    answered(asked(alice, agent, "Hello", NOW), "1")
    total = usage(PERIOD, alice).total
    assert (total.input_tokens, total.cache_read_tokens) == (1000, 400)
    assert (total.output_tokens, total.reasoning_tokens) == (100, 30)


def test_the_demonstration_needs_no_price(alice: User, demo: Agent) -> None:
    answered(asked(alice, demo, "Hello", NOW), None)
    total = usage(PERIOD, alice).total
    assert (total.answers, total.unpriced, total.price) == (1, 0, "")


NO_TOKENS: dict[str, Any] = dict.fromkeys(COUNTS, 0)
BROKEN: dict[str, Any] = {"status": Step.Status.FAILED, "finish_reason": ""}


def test_an_answer_that_broke_off_counts_and_a_refusal_does_not(alice: User, agent: Agent) -> None:
    turn = asked(alice, agent, "Hello", NOW)
    answered(turn, "0.5", **BROKEN)
    answered(turn, None, seq=2, **BROKEN, **NO_TOKENS)
    answered(turn, "0", seq=3, **BROKEN, **NO_TOKENS)
    total = usage(PERIOD, alice).total
    assert (total.answers, total.unpriced, total.input_tokens) == (2, 1, 1000)
    assert total.price == "$0.50 + unknown"


@pytest.mark.parametrize(
    ("fields", "is_counted"),
    [
        ({}, True),
        ({"cost": "0", **NO_TOKENS}, True),
        ({"cost": None, **NO_TOKENS}, True),
        ({**BROKEN, "cost": None, **NO_TOKENS}, True),
        ({**BROKEN, "status": "cancelled", "cost": None, **NO_TOKENS}, True),
        ({**BROKEN, "cost": "0", "input_tokens": 0}, True),
        ({**BROKEN, "cost": "0", **NO_TOKENS}, False),
        ({**BROKEN, "status": "started", "cost": None, **NO_TOKENS}, False),
        ({"kind": "tool", "cost": None, **NO_TOKENS}, False),
    ],
)
def test_one_answer_and_many_are_counted_alike(
    alice: User, agent: Agent, fields: dict[str, Any], is_counted: bool
) -> None:
    step = answered(asked(alice, agent, "Hello", NOW), **{"cost": "1"} | fields)
    step.refresh_from_db()
    assert step_use(step) == usage(PERIOD, alice).total
    assert step_use(step).answers == is_counted


def test_an_answer_of_a_server_that_counts_nothing_has_no_known_price(alice: User, agent: Agent) -> None:
    answered(asked(alice, agent, "Hello", NOW), None, input_tokens=0, output_tokens=0)
    assert usage(PERIOD, alice).total.price == "price unknown"


def test_one_sees_what_one_used_oneself(alice: User, bob: User, agent: Agent) -> None:
    answered(asked(alice, agent, "Hello", NOW), "1")
    answered(asked(bob, agent, "Hello", NOW), "2")
    assert usage(PERIOD, alice).total.cost == 1
    assert usage(PERIOD).total.cost == 3
    assert [(line.name, line.use.cost) for line in people(PERIOD)] == [
        ("bob", Decimal(2)),
        ("alice", Decimal(1)),
    ]


def test_each_model_agent_and_key_has_its_line_the_dearest_first(alice: User, agent: Agent) -> None:
    other = make_agent("other", provider="claude", model="claude-x")
    answered(asked(alice, agent, "Hello", NOW), "1", api_key=make_key(alice, label="Mine"))
    answered(asked(alice, other, "Hello", NOW), "2")
    found = usage(PERIOD, alice)
    assert [(line.name, line.note, line.use.cost) for line in found.models] == [
        ("claude-x", "claude", Decimal(2)),
        ("gpt-x", "gpt", Decimal(1)),
    ]
    assert [line.name for line in found.agents] == ["Other", "Helper"]
    assert [line.name for line in found.keys] == ["No stored key", "gpt …wxyz"]
    assert found.keys[1].note == "Mine"


def test_an_answer_counts_for_the_model_that_gave_it_whoever_was_asked(alice: User, agent: Agent) -> None:
    answered(asked(alice, agent, "Hello", NOW), "1", provider="claude", model="claude-x")
    (line,) = usage(PERIOD, alice).models
    assert (line.name, line.note) == ("claude-x", "claude")


def test_people_do_not_learn_the_fingerprint_of_a_key_that_is_not_theirs(alice: User, agent: Agent) -> None:
    answered(asked(alice, agent, "Hello", NOW), "1", api_key=make_key(None))
    assert [(line.name, line.note) for line in usage(PERIOD, alice).keys] == [("gpt", "the site's")]
    assert [line.name for line in usage(PERIOD).keys] == ["gpt …wxyz"]


def test_an_agent_that_is_gone_keeps_its_name(alice: User, agent: Agent) -> None:
    answered(asked(alice, agent, "Hello", NOW), "1")
    agent.delete()
    assert [(line.name, line.note) for line in usage(PERIOD, alice).agents] == [("Helper", "deleted")]


# --- days ------------------------------------------------------------------------------------------------------------


def test_every_day_of_the_period_is_there_and_none_before_it(alice: User, agent: Agent) -> None:
    first = timezone.make_aware(datetime(2026, 10, 22))
    answered(asked(alice, agent, "Too early", first - timedelta(seconds=1)), "1")
    answered(asked(alice, agent, "Just in time", first), "2")
    found = usage(PERIOD, alice)
    assert len(found.days) == 30
    assert found.days[date(2026, 10, 22)].cost == found.total.cost == 2
    assert found.tasks == 1


@pytest.mark.parametrize(
    ("zone", "when", "day"),
    [
        ("UTC", "2026-11-10T23:30:00Z", date(2026, 11, 10)),
        ("Europe/Berlin", "2026-11-10T23:30:00Z", date(2026, 11, 11)),
        ("Europe/Berlin", "2026-10-24T21:59:00Z", date(2026, 10, 24)),  # The last day of summer time …
        ("Europe/Berlin", "2026-10-24T22:01:00Z", date(2026, 10, 25)),
        ("Europe/Berlin", "2026-10-25T22:59:00Z", date(2026, 10, 25)),  # … and the next, which has 25 hours.
        ("America/New_York", "2026-11-10T04:30:00Z", date(2026, 11, 9)),
        ("Asia/Kathmandu", "2026-11-10T18:20:00Z", date(2026, 11, 11)),
    ],
)
def test_a_day_is_one_of_the_sites_time_zone(alice: User, agent: Agent, zone: str, when: str, day: date) -> None:
    answered(asked(alice, agent, "Hello", datetime.fromisoformat(when)), "1")
    with override_settings(TIME_ZONE=zone):
        assert [row.day for row in rows(PERIOD, alice)] == [day]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("7", date(2026, 11, 14)),
        ("30", date(2026, 10, 22)),
        ("90", date(2026, 8, 23)),
        ("month", date(2026, 11, 1)),
        ("all of it", date(2026, 10, 22)),
    ],
)
def test_a_period_ends_today(name: str, first: date) -> None:
    period = Period.named(name, NOW.date())
    assert (period.first, period.last) == (first, NOW.date())
    assert (period.days[0], period.days[-1]) == (first, NOW.date())
    if name == "all of it":
        assert period.name == DEFAULT


# --- many of them ----------------------------------------------------------------------------------------------------


def test_much_takes_as_many_queries_as_little(alice: User, agent: Agent) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            usage(PERIOD, alice)
            people(PERIOD)
        return len(captured)

    answered(asked(alice, agent, "Hello", NOW), "1", api_key=make_key(alice))
    before = queries()
    for number in range(5):
        other = make_agent(f"agent{number}", model=f"model-{number}")
        key = make_key(alice, base_url=f"https://{number}.example/v1")
        answered(asked(alice, other, "Hello", NOW - timedelta(days=number)), None, api_key=key)
    assert queries() == before == 6


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL reads small tables whole.")
def test_what_was_said_is_not_read_to_find_out_what_it_cost(alice: User, agent: Agent) -> None:
    with CaptureQueriesContext(connection) as captured:
        rows(PERIOD, alice)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {captured[0]['sql']}")
        plan = [row[3] for row in cursor.fetchall()]
    assert any("COVERING INDEX step_by_use" in line for line in plan), plan
    assert any("task_by_user" in line for line in plan), plan


# --- spreadsheets and drawings ---------------------------------------------------------------------------------------


def test_a_spreadsheet_has_exact_numbers_and_leaves_out_what_nobody_knows(alice: User, agent: Agent) -> None:
    answered(asked(alice, agent, "Hello", NOW), "0.00000123", api_key=make_key(alice))
    answered(asked(alice, agent, "Hello", NOW - timedelta(days=1)), None)
    found = rows(PERIOD, alice)
    lines = list(csv_rows(found, Names.of(found, alice)))
    counts = ["1", "1000", "100", "400", "0", "30"]
    assert lines == [
        ["2026-11-19", "Helper", "gpt", "gpt-x", "", *counts, "", "1"],
        ["2026-11-20", "Helper", "gpt", "gpt-x", "gpt …wxyz", *counts, "0.00000123", "0"],
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"])
def test_a_name_is_no_formula(text: str) -> None:
    assert cell(text) == f"'{text}"
    assert cell(f"a{text}") == f"a{text}"


@pytest.mark.parametrize(
    ("value", "top"),
    [(0, 1), (1, 1), (1.01, 2), (3, 5), (5.1, 10), (99, 100), (100, 100), (101, 200), (0.03, 0.05), (0.0001, 0.0001)],
)
def test_the_scale_ends_at_a_round_number(value: float, top: float) -> None:
    assert nice_top(value) == pytest.approx(top)


def test_bars_are_as_high_as_their_share_of_the_scale(alice: User, agent: Agent) -> None:
    answered(asked(alice, agent, "Hello", NOW), "0.5", input_tokens=600, output_tokens=400)
    tokens, cost = charts(usage(PERIOD, alice))
    assert tokens.scale == ("1k", "500", "0")
    assert tokens.bars[-1].parts == (("in", 40.0, 60.0), ("out", 0.0, 40.0))
    assert cost.scale == ("$0.50", "$0.25", "$0.00")
    assert cost.bars[-1].parts == (("money", 0.0, 100.0),)
    assert not cost.bars[0].parts
    assert "20 Nov: 1k tokens · $0.50" in tokens.description


def test_what_has_no_known_price_has_no_chart_of_dollars(alice: User, agent: Agent) -> None:
    assert charts(usage(PERIOD, alice)) == []
    answered(asked(alice, agent, "Hello", NOW), None)
    assert [chart.name for chart in charts(usage(PERIOD, alice))] == ["tokens"]


def test_sums_keep_unknown_apart_from_nothing() -> None:
    total = Use()
    total.add(Use(1, unpriced=1))
    assert total.cost is None
    total.add(Use(1, cost=Decimal(0)))
    assert total.price == "price unknown"
