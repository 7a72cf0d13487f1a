"""Date and time."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tools.core.function import function


@function(effect="read")
def current_time(timezone: str = "UTC") -> dict[str, str]:
    """Tell the current date and time in a time zone.

    Args:
        timezone: IANA name of the zone, such as "Europe/Paris" or "America/New_York".
    """
    try:
        now = datetime.now(ZoneInfo(timezone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"There is no time zone {timezone[:80]!r}. Use an IANA name such as 'Europe/Paris', 'Asia/Tokyo' or 'UTC'."
        ) from None
    return {
        "timezone": timezone,
        "date": now.date().isoformat(),
        "time": now.strftime("%H:%M:%S"),
        "weekday": f"{now:%A}",
        "utc_offset": f"{now:%z}"[:3] + ":" + f"{now:%z}"[3:5],
        "iso": now.isoformat(timespec="seconds"),
    }


@function(effect="read")
def days_between(start: date, end: date) -> dict[str, int | str]:
    """Count the days from one date to another. Negative when `end` is before `start`.

    Args:
        start: The date from which to count, as YYYY-MM-DD.
        end: The date to which to count, as YYYY-MM-DD.
    """
    days = (end - start).days
    return {"start": start.isoformat(), "end": end.isoformat(), "days": days, "weeks": f"{days / 7:.2f}"}


@function(effect="read")
def add_days(start: date, days: int) -> dict[str, int | str]:
    """Find the date that lies a number of days after (or, when negative, before) a date, and its weekday.

    Args:
        start: The date from which to count, as YYYY-MM-DD.
        days: How many days to go on; negative to go back.
    """
    try:
        found = start + timedelta(days=days)
    except OverflowError:
        raise ValueError("That date lies outside the years 1 to 9999.") from None
    return {"start": start.isoformat(), "days": days, "date": found.isoformat(), "weekday": f"{found:%A}"}
