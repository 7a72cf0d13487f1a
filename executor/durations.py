"""How long something took, as people read it: on pages, in administration and in what is downloaded."""

from __future__ import annotations

from datetime import datetime, timedelta


def duration(start: datetime | None, end: datetime | None) -> str:
    """From one time to another; "" while one of them is not known."""
    if start is None or end is None:
        return ""
    return length(end - start)


def length(time: timedelta) -> str:
    """3 ms · 0.4 s · 12 s · 1 m 12 s · 2 h 5 m"""
    seconds = max(timedelta(), time).total_seconds()
    if seconds < 0.1:
        return f"{max(1, round(seconds * 1000))} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} m"
    return f"{minutes} m {seconds} s" if minutes else f"{seconds} s"
