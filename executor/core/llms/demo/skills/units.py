"""Convert and compare quantities; a unit that nobody knows is replaced by the one that was probably meant."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from executor.core.llms.demo.look import Look, read_look
from executor.core.llms.demo.measures import Quantity, Unit, closest, common_unit, quantities, spoken, unit_at
from executor.core.llms.demo.planning import Past, Plan, Result, Want, ask
from executor.core.llms.demo.reading import Request
from executor.core.llms.demo.skills.drawing import draw, shown
from executor.core.llms.demo.writing import exact, listed, number, plain, table

_CONVERT = r"convert|konvertiere?|umrechnen|rechne|how (?:many|much|far|long|big)|wie ?viele?"
_COMPARE = (
    r"compare|vergleiche?|which|welche[rs]?|more|less|difference|versus|vs|than"
    r"|(?:heav|long|fast|tall|bigg|larg|warm|hott|cold|farth|furth)i?er"
)
_TARGET = re.compile(r"\b(?:to|into|in|as|nach|zu|sind)\s+(?!a chart|an? |the )")
_HOW_MANY = re.compile(r"\b(?:how (?:many|much)|wie ?viele?)\s+")
_HINT = re.compile(r"Did you mean ([\w ]+?)(?: or [^?]*)?\?")


@dataclass(frozen=True, slots=True)
class Conversion:
    """Every quantity into every target. With `compare`, what comes out is set against each other."""

    quantities: tuple[Quantity, ...]
    targets: tuple[Unit, ...]
    compare: bool = False
    chart: bool = False
    look: Look = Look()  # noqa: RUF009 - it is frozen

    def plan(self, past: Past) -> Plan:
        pairs = [(quantity, target) for quantity in self.quantities for target in self.targets]
        wants = [_want(quantity, target) for quantity, target in pairs]
        both = "both at once" if len(wants) == 2 else "them all at once"
        say = f"I’ll convert {both if len(wants) > 1 else 'that'}."
        results = list((yield ask(say, *wants)))
        failed = [index for index, result in enumerate(results) if not result.ok and not result.missing]
        notes = []
        if failed:
            again = {i: other for i in failed if (other := _alternative(results[i], *pairs[i])) and other != wants[i]}
            why = plain(_first_sentence(results[failed[0]].why_text), 200)
            if again:
                instead = listed([_name(want, _changed(want, wants[index])) for index, want in again.items()])
                second = yield ask(f"That was refused: {why}\n\nI’ll try **{instead}** instead.", *again.values())
                for index, result in zip(again, second, strict=True):
                    results[index], wants[index] = result, again[index]
                if all(result.ok for result in second):
                    notes.append(f"The function refused this at first: *{why}* So I took **{instead}** instead.")
        rows = [
            (f"{number(want.arguments['value'])} {_name(want, 'from_unit', q.unit)}", _converted(want, result, target))
            for (q, target), want, result in zip(pairs, wants, results, strict=True)
        ]
        values = [result.number() if result.ok else None for result in results]
        parts = []
        if (
            self.compare
            and len(self.targets) == 1
            and len(values) == 2
            and values[0] is not None
            and values[1] is not None
        ):
            unit = _name(wants[0], "to_unit", self.targets[0])
            said = yield from self._compared(values[0], values[1], [row[0] for row in rows], unit)
            parts.append(said)
        elif len(rows) == 1 and values[0] is not None:
            parts.append(f"{rows[0][0]} {'is' if self.quantities[0].value == 1 else 'are'} **{rows[0][1]}**.")
        elif not any(value is not None for value in values):
            parts.append(f"I could not convert that. The function answered: {results[0].why}")
        if len(rows) > 1 and not parts:
            parts.append(f"Here are the {len(rows)} conversions, made at the same time:")
        if len(rows) > 1:
            parts.append(table(("Quantity", "Converted"), rows))
        if self.chart and len(values) > 1 and len(self.targets) == 1 and None not in values:
            unit = _name(wants[0], "to_unit", self.targets[0])
            drawn = yield from draw(
                "Now I’ll draw them side by side.",
                self.look.apply(
                    {
                        "kind": "bar",
                        "title": f"Compared in {unit}",
                        "labels": [row[0] for row in rows],
                        "values": values,
                        "palette": "calm",
                        "y_label": unit,
                    }
                ),
            )
            parts.append(shown(*drawn, f"the converted values in {plain(unit)}"))
        weighs = self.quantities[0].unit.kind == "mass" and self.quantities[0].value != 200
        go_on = "*Go on with “and 200 pounds?” or “in ounces”.*" if weighs else ""
        return "\n\n".join(filter(None, (*parts[:1], *notes, *parts[1:], go_on)))

    def _compared(self, left: float, right: float, names: list[str], unit: str) -> Plan:
        wants = [Want("calculate", {"expression": f"abs({exact(left)} - {exact(right)})"})]
        if min(left, right) > 0 and self.quantities[0].unit.kind != "temperature":
            a, b = exact(max(left, right)), exact(min(left, right))
            wants.append(Want("calculate", {"expression": f"({a} - {b}) / {b} * 100"}))
        difference, *percent = yield ask("Converted. Now the difference, absolute and in per cent.", *wants)
        if left == right:
            return f"**{names[0]}** and **{names[1]}** are the same: {number(left)} {plain(unit)}."
        more, less = (names[0], names[1]) if left > right else (names[1], names[0])
        if (by := difference.number()) is None or not difference.ok:
            return f"**{more}** is more than {less}. By how much I could not calculate: {difference.why}."
        said = f"**{more}** is more than {less}: the difference is **{number(by)} {plain(unit)}**"
        if percent and percent[0].ok and (share := percent[0].number()) is not None:
            said += f", which is **{number(share)} %**"
        return f"{said}."


def _want(quantity: Quantity, target: Unit) -> Want:
    arguments = {"value": quantity.value, "from_unit": quantity.unit.name, "to_unit": target.name}
    return Want("convert_unit", arguments)


def _name(want: Want, which: str, unit: Unit | None = None) -> str:
    """The unit of an argument as the person called it, if it still is that unit."""
    name = str(want.arguments[which])
    own = unit is not None and unit.name == name and not name.startswith(("celsius", "fahrenheit"))
    return unit.said if unit and own else spoken(name, one=which == "from_unit" and want.arguments["value"] == 1)


def _changed(want: Want, before: Want) -> str:
    return "from_unit" if want.arguments["from_unit"] != before.arguments["from_unit"] else "to_unit"


def _first_sentence(text: str) -> str:
    return text.split(". ")[0].rstrip(".") + "."


def _converted(want: Want, result: Result, target: Unit) -> str:
    value = result.number() if result.ok else None
    return (
        f"not possible: {result.why}" if value is None else f"{number(value)} {plain(_name(want, 'to_unit', target))}"
    )


def _alternative(result: Result, quantity: Quantity, target: Unit) -> Want | None:
    """What to try after a refusal: the unit the function suggests, the one most alike, or one of the right kind."""
    want = _want(quantity, target)
    if quantity.unit.kind and target.kind and quantity.unit.kind != target.kind:
        other = common_unit(quantity.unit.kind)
        return Want(want.name, want.arguments | {"to_unit": other})
    unknown = [
        (which, unit)
        for which, unit in (("from_unit", quantity.unit), ("to_unit", target))
        if not unit.kind and (f"'{unit.name}'" in result.why_text or closest(unit.name))
    ]
    changes = {}
    for which, unit in unknown:
        hint = _HINT.search(result.why_text) if f"'{unit.name}'" in result.why_text else None
        if meant := closest(unit.name, *([hint[1].strip()] if hint else [])):
            changes[which] = meant
    return Want(want.name, want.arguments | changes) if changes else None


def read(request: Request) -> Conversion | None:
    if request.url or len(request.plain) > 600:
        return None
    converts, compares = request.says(_CONVERT), request.says(_COMPARE)
    look = read_look(request)
    chart = request.says("chart", "draw", "plot", "graph", "diagramm?", "zeichne")
    targets, rest = _targets(request.plain, converts)
    found = quantities(rest, guess=request.says("convert", "umrechnen"))
    before = next((goal for goal in reversed(request.earlier) if type(goal).__name__ != "Help"), None)
    if found and not targets and compares and len(found) == 2 and found[0].unit.kind:
        common = common_unit(found[0].unit.kind)
        targets = [Unit(common, spoken(common), found[0].unit.kind)]
    if found and targets and (converts or compares or any(item.unit.kind for item in found)):
        compare = len(found) == 2 and len(targets) == 1 and (compares or chart)
        return Conversion(tuple(found[:8]), tuple(targets[:4]), compare, chart, look)
    if isinstance(before, Conversion) and len(request.plain) < 60 and not chart and (found or targets):
        same = tuple(found) or before.quantities
        compare = before.compare and len(same) == 2
        return replace(before, quantities=same, targets=tuple(targets) or before.targets, compare=compare)
    return None


def _targets(plain_words: str, converts: bool) -> tuple[list[Unit], str]:
    """The units to convert into, and the rest of the sentence."""
    if (match := _HOW_MANY.search(plain_words)) and (found := unit_at(plain_words[match.end() :])):
        return [found[0]], " ".join(plain_words[match.end() :].split()[found[1] :])
    for match in reversed(list(_TARGET.finditer(plain_words))[-20:]):
        before = plain_words[: match.start()]
        units: list[Unit] = []
        for piece in re.split(r",\s*|\s+(?:and|or|und|oder)\s+", plain_words[match.end() :][:120])[:4]:
            guess = converts and not units and bool(re.search(r"\d", before))
            if not (found := unit_at(piece, guess=guess)):
                break
            units.append(found[0])
        if units:
            return units, before
    return [], plain_words
