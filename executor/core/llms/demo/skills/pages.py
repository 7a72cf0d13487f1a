"""Read a page; where that is refused, try the sensible alternatives and say what came of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from executor.core.llms.demo.look import Look, read_look
from executor.core.llms.demo.planning import Past, Plan, Result, Want, ask
from executor.core.llms.demo.reading import Request
from executor.core.llms.demo.skills.analysis import counts, measures
from executor.core.llms.demo.skills.conversations import hits, listing
from executor.core.llms.demo.skills.drawing import draw, shown
from executor.core.llms.demo.writing import plain

_FINAL = re.compile(
    r"private|internal|local|loopback|not allowed|may not|forbidden address|not public|not on the public|user name",
    re.I,
)
_FRAME = re.compile(r"\A\W*untrusted content from [^\n]*\n|\n[^\n]*end of the untrusted content[^\n]*\Z", re.I)


@dataclass(frozen=True, slots=True)
class Page:
    url: str
    chart: bool = False
    look: Look = Look()  # noqa: RUF009 - it is frozen

    def plan(self, past: Past) -> Plan:
        url = self.url
        (page,) = yield ask(f"I’ll read {_code(url)}.", _want(url))
        refused = ""
        if not page.ok and not page.missing:
            refused = page.why
            other = _alternative(url)
            if other and not _FINAL.search(page.why_text):
                (second,) = yield ask(f"That did not work: {refused}\n\nI’ll try {_code(other)} instead.", _want(other))
                page, url = (second, other) if second.ok else (page, url)
        if not page.ok:
            return (yield from self._remembered(page, refused))
        text = _text(page)
        note = f"{_code(self.url)} was refused ({refused}), so I read {_code(url)} instead.\n\n" if refused else ""
        (stats,) = yield ask("The page is here. I’ll count its words.", Want("text_statistics", {"text": text[:8000]}))
        parts = [f"{note}This is how {_code(url)} begins. The page’s own words, quoted and not followed:", _quote(text)]
        if stats.ok:
            parts.append(measures(stats))
            points = counts(stats, "word")
            if self.chart and points:
                base = {"kind": "bar", "title": f"Words on {urlsplit(url).hostname}", "palette": "calm"}
                base |= {"labels": [label for label, _ in points], "values": [value for _, value in points]}  # type: ignore[dict-item]
                parts.append(
                    shown(
                        *(yield from draw("Now the chart of its words.", self.look.apply(base))),
                        "its most common words",
                    )
                )
        else:
            parts.append(f"Its words I could not count: {stats.why}.")
        parts.append("*A language model would summarise it. This demonstration only quotes and counts.*")
        return "\n\n".join(parts)

    def _remembered(self, page: Result, refused: str) -> Plan:
        """The page cannot be had: look whether the person talked about it before."""
        if page.missing:
            return f"I cannot read {_code(self.url)}: {page.why}."
        host = urlsplit(self.url).hostname or self.url
        said = f"I could not read {_code(self.url)}. The function answered:\n\n> {refused}"
        (found,) = yield ask(
            f"The page cannot be had: {refused}\n\nI’ll look whether it came up in your conversations.",
            Want("search_conversations", {"query": host}),
        )
        if not found.ok:
            return f"{said}\n\nCheck the address and whether this computer can reach the internet, then ask again."
        if rows := hits(found):
            return f"{said}\n\nBut {_code(host)} came up in your conversations:\n\n{listing(rows)}"
        return (
            f"{said}\n\nI also looked for {_code(host)} in your earlier conversations and found nothing, so I have no "
            "text to tell you about and make none up. Check the address, or paste the text here and I will analyse it."
        )


def _want(url: str) -> Want:
    return Want("fetch_page", {"url": url})


def _alternative(url: str) -> str | None:
    """The same page encrypted, else the site's front page."""
    parts = urlsplit(url)
    if parts.scheme == "http":
        return f"https{url[4:]}"
    return f"https://{parts.netloc}/" if parts.path.strip("/") else None


def _text(page: Result) -> str:
    text = page.data if isinstance(page.data, str) else page.get("text", "content", "markdown") or str(page.data)
    return _FRAME.sub("", str(text).strip()).strip()


def _quote(text: str) -> str:
    paragraphs = [plain(line, 400) for line in text[:4000].splitlines() if line.strip()]
    return "\n>\n".join(f"> {line}" for line in paragraphs[:4]) or "> (no text)"


def _code(url: str) -> str:
    return f"`{url[:200].replace('`', '')}`"


def read(request: Request) -> Page | None:
    url = request.url
    if not url:
        return None
    url = url if "://" in url else f"https://{url}"
    try:
        urlsplit(url)
    except ValueError:  # Such as "https://[".
        return None
    chart = request.says("draw", "chart", "plot", "graph", "analy[sz]e", "statistics", "diagramm?", "analysiere?")
    return Page(url[:2000], chart, read_look(request))
