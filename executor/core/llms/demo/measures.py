"""Units by the names people give them, and the quantities in a sentence. Conversion itself is a function's work."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from executor.core.llms.demo.reading import NUMBER, NUMBER_WORDS, to_number

# A kind, the unit to compare in, then a line for each unit: its name for the function, and what else people call it.
_UNITS = """
length kilometre
  millimetre mm millimeter
  centimetre cm centimeter zentimeter
  metre m meter
  kilometre km kms kilometer
  inch inches in zoll
  foot feet ft fuß
  yard yd
  mile mi meile meilen
  nautical_mile nmi seemeile seemeilen
  light_year light-year ly lichtjahr lichtjahre
  astronomical_unit au
  parsec pc
mass kilogram
  milligram mg milligramm
  gram g gramm gramme
  kilogram kg kgs kilo kilogramm kilogramme
  tonne t tonnen metric_ton
  ounce oz unze unzen
  pound lb lbs pfund
  stone st
temperature celsius
  celsius °c c degc degrees_celsius degree_celsius grad_celsius grad
  fahrenheit °f f degf degrees_fahrenheit degree_fahrenheit grad_fahrenheit
  kelvin k
volume litre
  millilitre ml milliliter
  centilitre cl centiliter
  litre l liter
  gallon gal gallone gallonen
  pint pt
  quart qt
  cup tasse tassen
  tablespoon tbsp
  teaspoon tsp
  fluid_ounce fl_oz
  cubic_meter m³ m3 cubic_metre kubikmeter
time hour
  second s sec secs sekunde sekunden
  minute min mins minuten
  hour h hr hrs stunde stunden
  day d tag tage tagen
  week woche wochen
  month monat monate
  year yr yrs jahr jahre jahren
speed km/h
  km/h kmh kph kilometres_per_hour kilometers_per_hour stundenkilometer
  mph miles_per_hour
  m/s metres_per_second meters_per_second
  knot kn kt knoten
data megabyte
  bit
  byte
  kilobyte kb
  megabyte mb
  gigabyte gb
  terabyte tb
  mebibyte mib
  gibibyte gib
area hectare
  hectare ha hektar
  acre
  meter**2 m² m2 square_metre square_meter quadratmeter
  kilometer**2 km² km2 square_kilometre square_kilometer quadratkilometer
  foot**2 ft² square_foot square_feet sq_ft
  mile**2 square_mile
energy kilojoule
  joule j
  kilojoule kj
  calorie cal kalorie kalorien
  kilocalorie kcal
  kilowatt_hour kwh kilowattstunde kilowattstunden
power kilowatt
  watt w
  kilowatt kw
  horsepower hp ps
pressure bar
  pascal pa
  bar
  psi
  atmosphere atm
  hectopascal hpa
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """`name` is what the function is told, `said` what the person wrote, `kind` what it measures ("" when unknown)."""

    name: str
    said: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Quantity:
    value: float
    unit: Unit


def _read_units() -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """(kind → unit to compare in, what people say → (name for the function, kind))"""
    common, known, kind = {}, {}, ""
    for line in _UNITS.strip().splitlines():
        names = line.split()
        if not line.startswith(" "):
            kind, common[names[0]] = names
            continue
        for spelling in names:
            said = spelling.replace("_", " ")
            known[said] = (names[0], kind)
            if len(said) > 2:
                known.setdefault(f"{said}s", (names[0], kind))
    return common, known


_COMMON, _KNOWN = _read_units()
#: Too short or too common to count as a unit unless a number stands right before it.
_WEAK = {
    "in", "m", "a", "s", "h", "d", "g", "t", "l", "c", "f", "k", "j", "w", "st", "au", "min", "bar", "bars", "ps",
    "pa", "pt",
}  # fmt: skip
_WORD = r"[a-zäöüßµ°²³/][\w°²³/'-]*"
_QUANTITY = re.compile(
    rf"(?<![\w.])(?P<value>{NUMBER}|\b(?:an?|{'|'.join(NUMBER_WORDS)}|einem?r?)\b)\s*(?P<unit>{_WORD}(?:\s{_WORD}){{0,2}})"
)


def unit_at(words: str, *, guess: bool = False, weak: bool = True) -> tuple[Unit, int] | None:
    """The unit that `words` begin with and how many words it has. With `guess` the first word counts in any case."""
    pieces = words.strip(" ?!.,;:").split()[:3]
    for size in range(len(pieces), 0, -1):
        said = " ".join(pieces[:size]).strip(" ?!.,;:")
        if said in _KNOWN and (weak or said not in _WEAK):
            return Unit(_KNOWN[said][0], said, _KNOWN[said][1]), size
    if guess and pieces and re.fullmatch(_WORD, word := pieces[0].strip(" ?!.,;:")):
        return Unit(word, word), 1
    return None


def quantities(plain: str, *, guess: bool = False) -> list[Quantity]:
    """What is measured in `plain`: "12 stone or 170 pounds" → two quantities."""
    found, position = [], 0
    while match := _QUANTITY.search(plain, position):
        value = to_number(match["value"])
        value = 1.0 if value is None else value
        # "a" and "one" are only numbers where a unit follows that is surely one.
        said = unit_at(match["unit"], guess=guess and match["value"][-1].isdigit(), weak=match["value"][-1].isdigit())
        position = match.end("value")
        if said:
            found.append(Quantity(value, said[0]))
    return found


_SPOKEN = {"foot": "feet", "inch": "inches", "celsius": "°C", "fahrenheit": "°F"}
_NO_PLURAL = {"stone", "kelvin", "horsepower", "mph", "psi", "bar"}


def spoken(unit: str, *, one: bool = False) -> str:
    """A unit's name for the function, as people say it: kilometre → kilometres."""
    said = unit.replace("_", " ")
    if unit.startswith(("celsius", "fahrenheit")) or (unit in _SPOKEN and not one):
        return _SPOKEN[unit]
    return said if one or said in _NO_PLURAL or not said[-1].isalpha() or "/" in said else f"{said}s"


def common_unit(kind: str) -> str:
    """The unit in which quantities of `kind` are compared."""
    return _COMMON[kind]


def closest(said: str, *others: str) -> str | None:
    """The known unit whose name is most like `said`, or the one of `others`."""
    similar = get_close_matches(said, [*(name for name in _KNOWN if len(name) > 3), *others], n=1, cutoff=0.7)
    return _KNOWN.get(similar[0], similar)[0] if similar else None
