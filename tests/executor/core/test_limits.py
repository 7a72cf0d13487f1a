"""What a task may use up."""

from __future__ import annotations

import pytest

from executor.core.errors import LimitReached
from executor.core.limits import Limits, Spent, check, check_calls


def test_what_is_within_the_limits_may_go_on() -> None:
    limits = Limits(iterations=5, tokens=100, tool_calls=10)
    check(limits, Spent(iterations=4, tokens=99, tool_calls=10))
    check_calls(limits, Spent(tool_calls=7), 3)


def test_what_would_go_beyond_them_may_not_and_the_sentence_names_the_limit() -> None:
    with pytest.raises(LimitReached, match="5 rounds") as rounds:
        check(Limits(iterations=5), Spent(iterations=5))
    with pytest.raises(LimitReached, match="1,000 tokens"):
        check(Limits(tokens=1000), Spent(tokens=1200))
    with pytest.raises(LimitReached, match="10 function calls"):
        check_calls(Limits(tool_calls=10), Spent(tool_calls=8), 3)
    assert (rounds.value.limit, rounds.value.kind) == ("iterations", "limit")


def test_none_is_unlimited() -> None:
    limits = Limits(tokens=None, tool_calls=None)
    check(limits, Spent(tokens=10**12))
    check_calls(limits, Spent(tool_calls=10**6), 10**6)


def test_limits_are_read_from_what_an_older_or_newer_version_wrote() -> None:
    assert Limits.from_json({}) == Limits()
    assert Limits.from_json({"iterations": 3, "from_the_future": 1}) == Limits(iterations=3)
