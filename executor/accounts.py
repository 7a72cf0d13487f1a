"""What a person's tasks use on a day, and what they may.

Where a limit applies to a person, a question is only asked when what it may use at most fits beside what was used and
what other questions have reserved: one conditional UPDATE, so tasks that run side by side cannot pass the limit
together. With the answer the reservation becomes what was really used. Everybody else's account just counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import BigIntegerField, DecimalField, F, QuerySet
from django.db.models.functions import Cast, Round
from django.utils import timezone

from executor import money
from executor.core.errors import LimitReached
from executor.models import DayAccount
from executor.prepared import Param, update
from users.models import User

#: What no account comes to. (The columns hold no more dollars.)
_ENDLESS = 2**62
_PRICELESS = Decimal(999_999)
_DOLLARS = DecimalField(max_digits=14, decimal_places=8)


@dataclass(frozen=True, slots=True)
class DayLimits:
    """Of a person, in tokens and US dollars; None is unlimited."""

    tokens: int | None = None
    cost: Decimal | None = None

    @classmethod
    def of(cls, user: User) -> DayLimits:
        """Their own, else those of the site."""
        tokens, cost = user.max_tokens_per_day, user.max_cost_per_day
        return cls(
            settings.DAY_LIMIT_TOKENS if tokens is None else tokens, settings.DAY_LIMIT_COST if cost is None else cost
        )

    def __bool__(self) -> bool:
        return self.tokens is not None or self.cost is not None


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a question may use at most, in the account of a day; `cost` is 0 where nobody knows the price."""

    day: date
    tokens: int = 0
    cost: Decimal = Decimal(0)


def _account() -> QuerySet[DayAccount]:
    return DayAccount.objects.filter(user=Param("user"), day=Param("day"))


def _whole(name: str) -> Cast:
    return Cast(Param(name), BigIntegerField())


def _dollars(name: str) -> Cast:
    return Cast(Param(name), _DOLLARS)


_RESERVE = update(
    lambda: (
        _account()
        .alias(
            tokens_then=F("tokens") + F("reserved_tokens") + _whole("tokens"),
            # SQLite's dollars are floating point.
            cost_then=Round(F("cost") + F("reserved") + _dollars("cost"), 8),
        )
        .filter(tokens_then__lte=_whole("token_limit"), cost_then__lte=_dollars("cost_limit"))
    ),
    reserved_tokens=F("reserved_tokens") + _whole("tokens"),
    reserved=F("reserved") + _dollars("cost"),
)

_BOOK = update(
    _account,
    tokens=F("tokens") + _whole("used_tokens"),
    cost=F("cost") + _dollars("used_cost"),
    reserved_tokens=F("reserved_tokens") - _whole("tokens"),
    reserved=F("reserved") - _dollars("cost"),
)


def today() -> date:
    return timezone.localdate()


def reserve(user_id: int, wanted: Reservation, limits: DayLimits) -> bool:
    """Whether `wanted` fits; then it is reserved. Within a transaction."""
    values = {
        "user": user_id,
        "day": wanted.day,
        "tokens": wanted.tokens,
        "cost": wanted.cost,
        "token_limit": _ENDLESS if limits.tokens is None else limits.tokens,
        "cost_limit": _PRICELESS if limits.cost is None else limits.cost,
    }
    return bool(_RESERVE.execute(**values) or (_open(user_id, wanted.day) and _RESERVE.execute(**values)))


def book(
    user_id: int, day: date, tokens: int = 0, cost: Decimal | None = None, reserved: Reservation | None = None
) -> None:
    """Add what was used on `day`, and give back what was `reserved` for it. Within a transaction."""
    if reserved is not None and reserved.day != day:
        book(user_id, reserved.day, reserved=reserved)
        reserved = None
    values = {
        "user": user_id,
        "day": day,
        "used_tokens": tokens,
        "used_cost": cost or Decimal(0),
        "tokens": reserved.tokens if reserved else 0,
        "cost": reserved.cost if reserved else Decimal(0),
    }
    if not _BOOK.execute(**values) and _open(user_id, day):
        _BOOK.execute(**values)


def _open(user_id: int, day: date) -> bool:
    """The first of a day opens the account, whoever comes at the same moment."""
    DayAccount.objects.bulk_create([DayAccount(user_id=user_id, day=day)], ignore_conflicts=True)
    return True


def used(user_id: int, day: date) -> DayAccount:
    """As far as anything was; unsaved otherwise."""
    found = DayAccount.objects.filter(user=user_id, day=day).first()
    return found or DayAccount(user_id=user_id, day=day)


def refusal(user_id: int, wanted: Reservation, limits: DayLimits) -> LimitReached:
    """Why `wanted` did not fit."""
    account = used(user_id, wanted.day)
    renews = f"It begins anew tomorrow at 00:00 ({settings.TIME_ZONE}), and an administrator can raise it."
    held = " Some of it is held back for other answers that are being written." if account.reserved_tokens else ""
    if limits.tokens is not None and account.tokens + account.reserved_tokens + wanted.tokens > limits.tokens:
        return LimitReached(
            "day_tokens",
            f"Your tasks used {account.tokens:,} of the {limits.tokens:,} tokens that they may use on a day, and the "
            f"next question may take {wanted.tokens:,}.{held} {renews}",
            used=account.tokens,
            allowed=limits.tokens,
        )
    allowed = limits.cost or Decimal(0)
    return LimitReached(
        "day_cost",
        f"Your tasks used {money.dollars(account.cost)} of the {money.dollars(allowed)} that they may cost on a day, "
        f"and the next question may cost {money.dollars(wanted.cost)}.{held} {renews}",
        used=account.cost,
        allowed=allowed,
    )


def renews_at(day: date) -> datetime:
    """When the day after `day` begins."""
    return timezone.make_aware(datetime.combine(day + timedelta(days=1), time()))
