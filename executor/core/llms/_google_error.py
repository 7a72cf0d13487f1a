"""What Google's errors say beside their status: https://cloud.google.com/apis/design/errors#error_details."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any


def codes(error: dict[str, Any]) -> list[str]:
    """Further codes of the error object, in lower case. A quota that waiting a minute does not fill has OpenAI's."""
    found = [str(detail.get("reason") or "").lower() for detail in _details(error)]
    quotas = [violation.get("quotaId") for detail in _details(error) for violation in _dicts(detail.get("violations"))]
    message = str(error.get("message") or "").lower()
    if error.get("status") == "RESOURCE_EXHAUSTED" and (
        any("PerDay" in str(quota) for quota in quotas)
        or "limit: 0," in message
        or "credits are depleted" in message
        or ("exceeded your current quota" in message and retry_delay(error) is None)
    ):
        found.append("insufficient_quota")
    return found


def retry_delay(error: dict[str, Any]) -> float | None:
    """Seconds to wait according to `RetryInfo` ("13.4s"), else None. It comes in the body, not as a header."""
    for detail in _details(error):
        try:
            seconds = float(str(detail["retryDelay"]).removesuffix("s"))
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    return None


def _details(error: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return _dicts(error.get("details"))


def _dicts(values: Any) -> Iterator[dict[str, Any]]:
    return (value for value in (values if isinstance(values, list) else ()) if isinstance(value, dict))
