"""Units of measurement."""

import math
import re
from difflib import get_close_matches
from functools import cache
from threading import Lock
from typing import Any

from pydantic import FiniteFloat

from tools.core.function import function

# pint's registry fills its caches while it works, so one thread at a time may use it.
_lock = Lock()

# A unit may be put together (km/h, m**2), but pint evaluates what it reads, so it gets to read nothing large.
_UNIT = re.compile(r"[^\W\d_][\w %°/*^·().²³-]{0,60}|[°%][\w ]{0,20}")
_LARGE = re.compile(r"\d{3}|(\*\*|\^).*(\*\*|\^).*(\*\*|\^)")
# To pint, C is the coulomb and F the farad. To everybody who converts one into the other they are temperatures.
_TEMPERATURES = {
    "c": "degC", "°c": "degC", "celsius": "degC", "degc": "degC", "degrees celsius": "degC", "degree celsius": "degC",
    "f": "degF", "°f": "degF", "fahrenheit": "degF", "degf": "degF", "degrees fahrenheit": "degF",
    "degree fahrenheit": "degF", "k": "kelvin", "kelvin": "kelvin", "kelvins": "kelvin", "°k": "kelvin",
}  # fmt: skip


@function(effect="read")
def convert_unit(value: FiniteFloat, from_unit: str, to_unit: str) -> dict[str, Any]:
    """Convert a quantity from one unit into another of the same kind: lengths, masses, temperatures, speeds, energies…

    Args:
        value: How much, in `from_unit`.
        from_unit: The unit to convert from, by name or symbol, such as "mile", "kg", "celsius" or "km/h".
        to_unit: The unit to convert into, such as "kilometre", "pound", "fahrenheit" or "m/s".
    """
    import pint

    both = [_TEMPERATURES.get(unit.strip().lower()) for unit in (from_unit, to_unit)]
    with _lock:
        source, target = [
            _unit(temperature if all(both) and temperature else unit)
            for temperature, unit in zip(both, (from_unit, to_unit), strict=True)
        ]
        try:
            result = _registry().Quantity(value, source).to(target).magnitude
        except pint.DimensionalityError:
            raise ValueError(
                f"{from_unit!r} measures {_kind(source)} and {to_unit!r} measures {_kind(target)}: "
                "one cannot be converted into the other."
            ) from None
        except (OverflowError, ZeroDivisionError):
            result = math.inf
    if not math.isfinite(result):
        raise ValueError("The result is too large to be worked out.")
    # Twelve digits are more than any measurement has, and hide the last bits' noise: 37.0 and not 37.00000000000006.
    return {"value": value, "from_unit": str(source), "result": float(f"{result:.12g}"), "to_unit": str(target)}


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(cache_folder=None)


def _unit(name: str) -> Any:
    """The unit that `name` means; written with other capitals if nothing else fits. Raises ValueError."""
    name = name.strip()
    if not _UNIT.fullmatch(name) or _LARGE.search(name):
        raise ValueError(f"{name[:80]!r} is not a unit. Give a name or symbol such as 'metre', 'kg' or 'km/h'.")
    for spelling in dict.fromkeys((name, name.lower())):
        try:
            return _registry().parse_units(spelling)
        except Exception:  # noqa: S112 — pint raises a dozen kinds, down to tokenizer errors; none means anything else.
            continue
    similar = get_close_matches(name.lower(), list(_registry()), n=3)
    hint = f" Did you mean {' or '.join(similar)}?" if similar else " Give its full English name."
    raise ValueError(f"There is no unit {name!r}.{hint}")


def _kind(unit: Any) -> str:
    return str(unit.dimensionality).replace("[", "").replace("]", "").replace("dimensionless", "a plain number")
