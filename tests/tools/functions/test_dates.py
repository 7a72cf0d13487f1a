from datetime import date, datetime

import pytest

from tools.functions.dates import add_days, current_time, days_between


def test_the_time_is_told_in_the_zone_asked_for() -> None:
    told = current_time("Asia/Kolkata")
    assert told["utc_offset"] == "+05:30"
    assert datetime.fromisoformat(told["iso"]).strftime("%A") == told["weekday"]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", "a\0b", "x" * 5000])
def test_a_zone_that_does_not_exist_gets_a_sentence(zone: str) -> None:
    with pytest.raises(ValueError, match="Use an IANA name such as 'Europe/Paris'"):
        current_time(zone)


def test_days_are_counted_over_a_leap_day_and_backwards() -> None:
    assert days_between(date(2024, 2, 28), date(2024, 3, 1))["days"] == 2
    assert days_between(date(2023, 3, 1), date(2023, 2, 28))["days"] == -1


def test_days_are_added_and_taken_away() -> None:
    assert add_days(date(2024, 2, 28), 2)["date"] == "2024-03-01"
    assert add_days(date(2024, 3, 1), -2) == {
        "start": "2024-03-01",
        "days": -2,
        "date": "2024-02-28",
        "weekday": "Wednesday",
    }


@pytest.mark.parametrize("days", [10**7, 10**30, -(10**7)])
def test_a_date_outside_the_calendar_gets_a_sentence(days: int) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        add_days(date(2024, 1, 1), days)
