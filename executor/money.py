"""Tokens and US dollars as people read them: the one place where a page gets its digits from."""

from __future__ import annotations

from decimal import Decimal

#: What is less than this is not told more exactly.
SMALLEST = Decimal("0.0001")
UNKNOWN = "price unknown"
FREE = "free"


def dollars(amount: Decimal) -> str:
    """Cents from ten cents on; below, two digits that say something: $1,234.50, $0.12, $0.031, $0.0031, <$0.0001."""
    if 0 < amount < SMALLEST:
        return f"<${SMALLEST}"
    places = 2 if amount == 0 or amount >= Decimal("0.1") else min(4, 1 - amount.adjusted())
    whole, _, digits = f"{amount:,.{places}f}".partition(".")
    return f"${whole}.{digits[:2]}{digits[2:].rstrip('0')}"


def cost(known: Decimal | None, unpriced: int = 0) -> str:
    """What `known` (None where no answer had a price) and so many answers without one cost together.

    What nobody knows is never shown as nothing: "$0.0031 + unknown", "price unknown". "" where there is no answer.
    """
    if not unpriced:
        return "" if known is None else dollars(known) if known else FREE
    return f"{dollars(known)} + unknown" if known else UNKNOWN


def compact(count: int) -> str:
    """999, 1.2k, 12k, 3.4M: two digits at least, and no more than a glance takes in."""
    for unit, size in (("", 1), ("k", 1_000), ("M", 1_000_000), ("B", 1_000_000_000)):
        value = count / size
        shown = f"{value:.1f}".removesuffix(".0") if unit and value < 9.95 else f"{value:.0f}"
        if len(shown) <= 3 and shown != "1000":
            return f"{shown}{unit}"
    return f"{count / 1_000_000_000:,.0f}B"


def tokens(count: int) -> str:
    """ "1.2k tokens", "" for none."""
    return f"{compact(count)} token{'' if count == 1 else 's'}" if count else ""


def line(count: int, known: Decimal | None, unpriced: int = 0) -> str:
    """Tokens and their cost in a line, as far as there are any: "1.2k tokens · $0.0031"."""
    return " · ".join(part for part in (tokens(count), cost(known, unpriced)) if part)
