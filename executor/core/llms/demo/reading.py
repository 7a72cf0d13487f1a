"""What a person wrote, taken apart: quoted texts, numbers, addresses, and the rest as plain lower-case words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from executor.core.llms.demo.planning import Goal, Past
from executor.core.llms.demo.writing import clean

#: Characters of a message that are read. A demonstration has no use for more, and every pattern stays fast.
LIMIT = 20_000

_QUOTES = {
    "'": "'",
    '"': '"',
    "“": "”",
    "„": "“”",
    "«": "»",
    "»": "«",
    "‹": "›",
    "‘": "’",
    "‚": "‘’",
    "`": "`",
    "「": "」",
}

NUMBER = r"[-+−]?(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+[.,]\d+|\.\d+|\d+)"
_WORDS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_GERMAN = ["null", "ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn", "elf", "zwölf"]
NUMBER_WORDS = (
    {word: value for value, word in enumerate(_WORDS)}
    | {f"{tens}": 20 + 10 * index for index, tens in enumerate(_TENS)}
    | {
        f"{tens}-{one}": 20 + 10 * index + digit + 1
        for index, tens in enumerate(_TENS)
        for digit, one in enumerate(_WORDS[1:10])
    }
    | {word: value for value, word in enumerate(_GERMAN)}
    | {"eins": 1, "hundred": 100, "thousand": 1000, "hundert": 100, "tausend": 1000}
)
_URL = re.compile(r"https?://[^\s<>\"'“”„«»]+|\bwww\.[\w-]+\.[^\s<>\"'“”„«»]+", re.I)
# A name without https:// only counts after a word that asks for a page.
_SITE = re.compile(
    r"\b(?:read|fetch|open|visit|load|summari[sz]e|lies|öffne)\s+(?:the\s+)?(?:(?:web)?(?:page|site)\s+)?(?:of\s+|at\s+)?"
    r"((?:[\w-]{1,63}\.){1,5}[a-z]{2,12}(?:/[^\s<>\"'“”„«»]*)?)(?=[\s?!.,;]|$)",
    re.I,
)
_TITLE = re.compile(
    r"\b(?:with the title|titled|entitled|(?:change|set) the title|title (?:it|the chart)?|(?:mit dem )?titel"
    r"|(?:call|(?:re)?name) (?:it|the chart))"
    r"(?: is| as| to)?\s*:?\s*(?P<title>.+)",
    re.I | re.S,
)


@dataclass(frozen=True, slots=True)
class Request:
    """A message, and what it may refer to.

    `words` is the message; `quotes` what it puts in quotation marks; `plain` the rest, in lower case; `title` what it
    wants a chart to be called; `earlier` the goals of the messages before it, oldest first; `files` the
    names of what is attached.
    """

    words: str
    quotes: tuple[str, ...] = ()
    plain: str = ""
    title: str = ""
    url: str = ""
    earlier: tuple[Goal, ...] = ()
    past: Past = field(default=Past())
    files: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        message: str,
        earlier: tuple[Goal, ...] = (),
        past: Past = Past(),  # noqa: B008
        files: tuple[str, ...] = (),
    ) -> Request:
        words = clean(message[:LIMIT]).strip()
        title, rest = _title(words)
        spans = list(_quoted(rest))
        match = _URL.search(rest) or _SITE.search(rest)
        url = match[match.lastindex or 0].rstrip(".,;:!?)]*_") if match else ""
        outside = rest
        for start, end in reversed(spans):
            outside = f"{outside[:start]} “” {outside[end:]}"
        plain = " ".join(_URL.sub(" ", outside).replace("’", "'").lower().split())
        quotes = tuple(text for start, end in spans if (text := rest[start + 1 : end - 1].strip()))
        # Long runs of blanks mean nothing, and would make some patterns slow.
        rest = re.sub(r"\n\s*\n", "\n\n", re.sub(r"[^\S\n]+", " ", rest))
        return cls(rest, quotes, plain, title, url, earlier, past, files)

    def says(self, *patterns: str) -> bool:
        """Whether one of the patterns is a word (or words) outside of quotes."""
        return any(re.search(rf"\b(?:{pattern})\b", self.plain) for pattern in patterns)


def _title(words: str) -> tuple[str, str]:
    """The title asked for, and the message without that part. An unquoted title ends with its line."""
    match = _TITLE.search(words)
    if not match or any(start < match.start() < end for start, end in _quoted(words)):
        return "", words
    wanted = match["title"]
    for start, end in _quoted(wanted):
        if start == 0:
            return wanted[1 : end - 1].strip()[:120], words[: match.start()] + wanted[end:]
    line, *rest = re.split(
        r"\n|,\s|;| (?:and|but|und) (?=(?:use|make|draw|show|only|in|as|sort)\b)", wanted, maxsplit=1
    )
    return line.strip(" .!?")[:120], " ".join((words[: match.start()], *rest))


def _quoted(text: str) -> Iterator[tuple[int, int]]:
    """Where texts in quotation marks begin and end, marks included. Linear in the length of the text."""
    position, hopeless = 0, set[str]()
    opener = re.compile(r"(?<!\w)['‘‚](?=\S)|[\"“„«»‹「]|`(?=\S)")
    while match := opener.search(text, position):
        mark = match[0]
        end = -1 if mark in hopeless else _closing(text, match.end(), mark)
        if end < 0:
            hopeless.add(mark)
            position = match.end()
            continue
        yield match.start(), end
        position = end


def _closing(text: str, start: int, mark: str) -> int:
    """The position after the mark that closes the one before `start`, or -1."""
    closing = _QUOTES[mark]
    if mark not in "'‘‚":
        found = re.compile(f"[{closing}]").search(text, start)
        return found.end() if found else -1
    # An apostrophe inside a word closes nothing, and of several that could, the last before the next opening one does.
    following = re.compile(rf"(?<!\w){mark}(?=\w)").search(text, start)
    stop = following.start() if following else len(text)
    ends = [found.end() for found in re.compile(rf"[{closing}](?!\w)").finditer(text, start, stop)]
    return ends[-1] if ends else -1


def to_number(text: str) -> float | None:
    """A number as people write it: 1,234.5 · 3,5 · −2 · twelve."""
    text = text.strip().lower().replace("−", "-").replace("\u00a0", "")
    if text in NUMBER_WORDS:
        return NUMBER_WORDS[text]
    if re.fullmatch(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", text):
        text = text.replace(",", "")
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if abs(value) < 1e15 else None


def first_number(pattern: str, text: str) -> float | None:
    """The number that the group of `pattern` finds in `text`, or None. `NUM` in the pattern stands for a number."""
    match = re.search(pattern.replace("NUM", f"({NUMBER})"), text)
    return to_number(match[1]) if match else None
