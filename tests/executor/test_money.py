"""Digits that people read."""

from __future__ import annotations

from decimal import Decimal

import pytest

from executor import money


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "$0.00"),
        ("0.00000001", "<$0.0001"),
        ("0.0000999", "<$0.0001"),
        ("0.0001", "$0.0001"),
        ("0.00014", "$0.0001"),
        ("0.003142", "$0.0031"),
        ("0.00300000", "$0.003"),
        ("0.00995", "$0.01"),
        ("0.0314", "$0.031"),
        ("0.0999", "$0.10"),
        ("0.1", "$0.10"),
        ("0.996", "$1.00"),
        ("1.236", "$1.24"),
        ("1234.5", "$1,234.50"),
    ],
)
def test_dollars_have_the_digits_that_say_something(amount: str, shown: str) -> None:
    assert money.dollars(Decimal(amount)) == shown


@pytest.mark.parametrize(
    ("known", "unpriced", "shown"),
    [
        ("0.0031", 0, "$0.0031"),
        ("0.0031", 2, "$0.0031 + unknown"),
        (None, 1, "price unknown"),
        ("0", 1, "price unknown"),
        ("0", 0, "free"),
        (None, 0, ""),
    ],
)
def test_what_nobody_knows_is_never_shown_as_nothing(known: str | None, unpriced: int, shown: str) -> None:
    assert money.cost(None if known is None else Decimal(known), unpriced) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1_000, "1k"),
        (1_234, "1.2k"),
        (9_949, "9.9k"),
        (9_960, "10k"),
        (12_345, "12k"),
        (999_499, "999k"),
        (999_999, "1M"),
        (3_400_000, "3.4M"),
        (123_456_789, "123M"),
        (2_000_000_000, "2B"),
        (5_000_000_000_000, "5,000B"),
    ],
)
def test_tokens_are_told_at_a_glance(count: int, shown: str) -> None:
    assert money.compact(count) == shown


def test_a_line_leaves_out_what_there_is_not() -> None:
    assert money.line(1_234, Decimal("0.0031")) == "1.2k tokens · $0.0031"
    assert money.line(1, None, 1) == "1 token · price unknown"
    assert money.line(0, None) == ""
