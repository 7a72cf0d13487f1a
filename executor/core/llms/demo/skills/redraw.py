"""Draw the last chart again, changed: other kind, colours, title, order, or fewer points."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from executor.core.llms.demo.look import Look, read_look
from executor.core.llms.demo.planning import Past, Plan
from executor.core.llms.demo.reading import Request
from executor.core.llms.demo.skills.drawing import draw, hints, shown
from executor.core.llms.demo.writing import listed, plain

_WITHOUT = re.compile(r"\b(?:without|remove|leave out|drop|hide|ohne|entferne)\s+(?:the\s+)?(?P<names>.+)", re.S)


@dataclass(frozen=True, slots=True)
class Redraw:
    look: Look

    def plan(self, past: Past) -> Plan:
        latest = past.calls("draw_chart")[0][0].arguments
        source = self._source(past)
        changed = self.look.apply(source)
        if changed == latest:
            return (
                f"The chart “{plain(latest.get('title', ''))}” already looks like that, so I did not draw it again. "
                "I can change its **kind** (bar, line, pie), its **colours** (calm, colourful, warm, cool, grey), its "
                "**title**, the **order**, and how many points it shows (“only the top 5”)."
            )
        how = listed(self.look.said)
        drawn = yield from draw(f"I’ll draw the same data again, {how}.", changed)
        want, result = drawn
        if not result.ok:
            return shown(want, result, "")
        return (
            f"I drew the values of the chart before again, **{how}**.\n\n{shown(want, result, 'them')}\n\n"
            f"{hints(want.arguments)}"
        )

    def _source(self, past: Past) -> dict[str, object]:
        """The arguments to start from: the last chart's, with the points of a fuller one where more are asked for."""
        charts = [want.arguments for want, _ in past.calls("draw_chart")]
        latest, top = charts[0], self.look.top or 0
        if top <= len(latest.get("labels") or []):
            return latest
        for fuller in charts:
            labels = fuller.get("labels") or []
            if len(labels) >= top and set(map(str, labels)) >= set(map(str, latest.get("labels") or [])):
                return latest | {"labels": labels, "values": fuller.get("values")}
        return latest


def read(request: Request) -> Redraw | None:
    charts = request.past.calls("draw_chart")
    if re.match(r"(?:but |and )?(?:why|how come|what does|warum|wieso)\b", request.plain):
        return None
    if not charts or len(request.words) > 400:
        return None
    look = read_look(request)
    if match := _WITHOUT.search(request.plain):
        names = {str(label).casefold() for label in charts[0][0].arguments.get("labels") or []}
        unwanted = (name.strip(" .!?'“”\"") for name in re.split(r",| and | und ", match["names"]))
        quoted = (text.casefold() for text in request.quotes)
        look = replace(look, without=tuple(name for name in (*unwanted, *quoted) if name in names))
    return Redraw(look) if look else None
