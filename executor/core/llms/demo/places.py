"""Cities and countries by the names people give them, as IANA time zones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

_ZONES = {
    "Europe/London": "london england uk britain edinburgh",
    "Europe/Dublin": "dublin ireland irland",
    "Europe/Lisbon": "lisbon lissabon portugal",
    "Europe/Paris": "paris france frankreich",
    "Europe/Madrid": "madrid spain spanien barcelona",
    "Europe/Berlin": "berlin germany deutschland munich münchen hamburg cologne köln frankfurt stuttgart",
    "Europe/Zurich": "zurich zürich geneva genf bern switzerland schweiz",
    "Europe/Vienna": "vienna wien austria österreich",
    "Europe/Rome": "rome rom italy italien milan mailand",
    "Europe/Amsterdam": "amsterdam netherlands niederlande",
    "Europe/Brussels": "brussels brüssel belgium belgien",
    "Europe/Prague": "prague prag",
    "Europe/Warsaw": "warsaw warschau poland polen",
    "Europe/Budapest": "budapest",
    "Europe/Copenhagen": "copenhagen kopenhagen",
    "Europe/Stockholm": "stockholm sweden schweden",
    "Europe/Oslo": "oslo norway norwegen",
    "Europe/Helsinki": "helsinki finland finnland",
    "Atlantic/Reykjavik": "reykjavik iceland island",
    "Europe/Athens": "athens athen greece griechenland",
    "Europe/Istanbul": "istanbul turkey türkei",
    "Europe/Kyiv": "kyiv kiev kiew",
    "Europe/Moscow": "moscow moskau",
    "Africa/Cairo": "cairo kairo",
    "Africa/Lagos": "lagos",
    "Africa/Nairobi": "nairobi",
    "Africa/Johannesburg": "johannesburg cape_town kapstadt",
    "Asia/Jerusalem": "jerusalem tel_aviv",
    "Asia/Dubai": "dubai abu_dhabi",
    "Asia/Karachi": "karachi",
    "Asia/Kolkata": "mumbai delhi new_delhi bangalore kolkata india indien",
    "Asia/Kathmandu": "kathmandu nepal",
    "Asia/Bangkok": "bangkok thailand",
    "Asia/Jakarta": "jakarta",
    "Asia/Singapore": "singapore singapur",
    "Asia/Hong_Kong": "hong_kong",
    "Asia/Shanghai": "shanghai beijing peking china",
    "Asia/Manila": "manila",
    "Asia/Seoul": "seoul korea",
    "Asia/Tokyo": "tokyo tokio osaka kyoto japan",
    "Australia/Perth": "perth",
    "Australia/Sydney": "sydney melbourne canberra",
    "Pacific/Auckland": "auckland wellington new_zealand neuseeland",
    "Pacific/Honolulu": "honolulu hawaii",
    "America/Anchorage": "anchorage alaska",
    "America/Los_Angeles": "los_angeles san_francisco seattle california kalifornien san_diego",
    "America/Vancouver": "vancouver",
    "America/Denver": "denver",
    "America/Chicago": "chicago dallas houston",
    "America/Mexico_City": "mexico_city mexiko-stadt",
    "America/New_York": "new_york nyc boston washington miami atlanta",
    "America/Toronto": "toronto montreal",
    "America/Bogota": "bogota bogotá",
    "America/Lima": "lima",
    "America/Santiago": "santiago",
    "America/Sao_Paulo": "sao_paulo são_paulo rio_de_janeiro rio",
    "America/Argentina/Buenos_Aires": "buenos_aires",
    "UTC": "utc gmt",
}
_PLACES = {name.replace("_", " "): zone for zone, names in _ZONES.items() for name in names.split()}
_NAMED = re.compile(rf"\b(?:{'|'.join(sorted(map(re.escape, _PLACES), key=len, reverse=True))})\b")
_ZONE = re.compile(r"\b[A-Z][A-Za-z]+/[A-Z][A-Za-z_]+(?:/[A-Z][A-Za-z_]+)?\b")
_NAME = r"[A-ZÄÖÜ][\w-]+(?: [A-ZÄÖÜ][\w-]+){0,2}"
_AFTER_IN = re.compile(rf"\b[Ii]n (?:{_NAME})(?:(?:,| and| und|, and) (?:in )?(?:{_NAME})){{0,6}}")


@dataclass(frozen=True, slots=True)
class Place:
    name: str
    zone: str


def places(words: str) -> tuple[Place, ...]:
    """The places in `words` in their order; a name in capitals after "in" counts as one even when it is not known."""
    found = {
        match.start(): Place(match[0].split("/")[-1].replace("_", " "), match[0]) for match in _ZONE.finditer(words)
    }
    taken = " ".join(place.zone for place in found.values()).lower()
    lower = words.lower()
    for match in _NAMED.finditer(lower):
        if match[0].replace(" ", "_") not in taken:
            name = match[0].upper() if match[0] in ("utc", "gmt", "nyc", "uk") else match[0].title()
            found[match.start()] = Place(name, _PLACES[match[0]])
    known = [(start, start + len(place.name)) for start, place in found.items()]
    for match in _AFTER_IN.finditer(words):
        for named in re.compile(_NAME).finditer(words, match.start() + 3, match.end()):
            if not any(left < named.end() and named.start() < right for left, right in known):
                found[named.start()] = Place(named[0][:60], named[0][:60].replace(" ", "_"))
    unique = {place.zone + place.name: place for _, place in sorted(found.items())}
    return tuple(unique.values())[:6]


def closest(name: str) -> Place | None:
    """The known place whose name is most like `name`."""
    similar = get_close_matches(name.lower().replace("_", " "), _PLACES, n=1, cutoff=0.85)
    return Place(similar[0].title(), _PLACES[similar[0]]) if similar else None
