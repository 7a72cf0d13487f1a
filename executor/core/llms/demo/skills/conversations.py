"""Find what the person talked about before."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from executor.core.llms.demo.planning import Past, Plan, Result, Want, ask, need
from executor.core.llms.demo.reading import Request
from executor.core.llms.demo.writing import count, plain

_MINE = r"(?:(?:through|in|all|my|our|the|old|earlier|previous|past|meine[nr]?|alten?|früheren?)\s+)*"
_WHERE = r"(?:conversations?|chats?|history|messages?|gesprächen?|unterhaltungen?|verlauf)"
_SEARCH = re.compile(
    rf"\b(?:search|look|find|suche?|durchsuche?)\s+{_MINE}{_WHERE}\s+(?:for|about|where|on|nach|über)\s+(?P<what>.+)"
    rf"|\b(?:search|find|suche?)\s+(?:for\s+|nach\s+)?(?P<what2>.{{1,200}}?)\s+in\s+{_MINE}{_WHERE}\b"
    r"|\b(?:what did (?:we|i|you) (?:say|talk|write)|(?:when|where) did (?:we|i) (?:talk|speak|write)"
    r"|find (?:the (?:conversation|chat) )?where (?:we|i) (?:talked|spoke|wrote)) about\s+(?P<what3>.+)",
    re.I | re.S,
)


@dataclass(frozen=True, slots=True)
class Search:
    query: str

    def plan(self, past: Past) -> Plan:
        (found,) = yield ask(f"I’ll search your conversations for “{plain(self.query, 60)}”.", _want(self.query))
        rows, query = hits(need(found)), self.query
        words = [word for word in dict.fromkeys(self.query.split()) if len(word) > 3][:4]
        if not rows and len(self.query.split()) > 1 and words:
            several = yield ask(
                f"Nothing has “{plain(self.query, 60)}” as a whole. I’ll try its words one by one, all at once.",
                *map(_want, words),
            )
            found_by = {word: hits(result) for word, result in zip(words, several, strict=True) if result.ok}
            rows = list({str(row): row for hit in found_by.values() for row in hit}.values())
            query = " · ".join(word for word, hit in found_by.items() if hit)
        if not rows:
            return f"I found nothing about “{plain(self.query, 60)}” in your earlier conversations. Try another word."
        return f"I found **{count(len(rows), 'conversation')}** with “{plain(query, 60)}”:\n\n{listing(rows)}"


def _want(query: str) -> Want:
    return Want("search_conversations", {"query": query})


def hits(result: Result) -> list[dict[str, Any]]:
    """The conversations that were found, whichever way the function wraps them."""
    rows = result.data if isinstance(result.data, list) else result.get("results", "conversations", "matches", "hits")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def listing(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows[:20]:
        title, address = plain(row.get("title") or "Untitled", 80), str(row.get("url") or "")
        # Only addresses of this site: whatever else stands there is shown as text.
        link = f"[{title}]({address})" if re.fullmatch(r"/(?!/)[\w/.?=&#%-]*", address) else title
        when = f" · {plain(row['when'], 40)}" if row.get("when") else ""
        lines.append(f"- **{link}**{when}" + (f"\n  {plain(row['excerpt'], 240)}" if row.get("excerpt") else ""))
    return "\n".join(lines)


def read(request: Request) -> Search | None:
    match = _SEARCH.search(request.words[:600])
    if not match:
        return None
    what = request.quotes[0] if request.quotes else match["what"] or match["what2"] or match["what3"]
    what = " ".join(what.split()).strip(" ?!.,“”\"'„")
    return Search(what[:120]) if what else None
