import time

import pytest

from tools.functions.units import convert_unit


@pytest.mark.parametrize(
    ("value", "from_unit", "to_unit", "result"),
    [
        (26.2, "miles", "km", 42.1648128),
        (100, "celsius", "fahrenheit", 212.0),
        (98.6, "F", "C", 37.0),
        (0, "K", "°C", -273.15),
        (-40, "degrees Celsius", "Fahrenheit", -40.0),
        (36, "km/h", "m/s", 10.0),
        (1, "m²", "cm^2", 10_000.0),
        (1, "kWh", "MJ", 3.6),
        (1, "Miles", "Feet", 5280.0),
        (50, "percent", "ppm", 500_000.0),
        (2, "C", "mC", 2000.0),
    ],
)
def test_quantities_are_converted(value: float, from_unit: str, to_unit: str, result: float) -> None:
    assert convert_unit(value, from_unit, to_unit)["result"] == pytest.approx(result)


@pytest.mark.parametrize(
    ("from_unit", "to_unit", "sentence"),
    [
        ("kg", "metre", "'kg' measures mass and 'metre' measures length"),
        ("metr", "km", "There is no unit 'metr'. Did you mean metre"),
        ("blorps", "km", "There is no unit 'blorps'"),
        ("", "km", "'' is not a unit"),
        ("__class__", "km", "not a unit"),
        ("m; import os", "km", "not a unit"),
    ],
)
def test_what_cannot_be_converted_gets_a_sentence(from_unit: str, to_unit: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        convert_unit(1, from_unit, to_unit)


def test_a_result_that_is_no_number_any_more_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match="too large"):
        convert_unit(1e308, "km", "nm")


@pytest.mark.parametrize("unit", ["m**10**10**10", "10**10**10", "m**999999999", "m" * 60, "(" * 60, "m*" * 30])
def test_a_unit_made_to_be_expensive_is_refused_at_once(unit: str) -> None:
    convert_unit(1, "m", "km")  # The registry takes its time once, when it is first used.
    started = time.monotonic()
    with pytest.raises(ValueError):
        convert_unit(1, unit, "m")
    assert time.monotonic() - started < 2
