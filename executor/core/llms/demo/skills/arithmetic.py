"""Arithmetic in symbols and in words, one step after the other."""

from __future__ import annotations

import re
from dataclasses import dataclass

from executor.core.llms.demo.dates import days
from executor.core.llms.demo.planning import Past, Plan, Result, Want, ask
from executor.core.llms.demo.reading import NUMBER, NUMBER_WORDS, Request, to_number
from executor.core.llms.demo.writing import exact

_FUNCTIONS = "sqrt|cbrt|abs|round|floor|ceil|log10|log2|log|exp|sin|cos|tan|factorial|min|max|mean|median|pi"
_N = r"(\d+(?:\.\d+)?|\))"
# In this order: what contains another comes before it.
_WORDS = (
    (r"\b(?:a )?half of|die hälfte von", "1 / 2 * "),
    (r"(?:the )?square root of|wurzel (?:aus|von)", "sqrt "),
    (r"\bsqrt\s+(\d+(?:\.\d+)?)", r"sqrt(\1)"),
    (
        r"(\d+(?:\.\d+)?)\s*(?:%|per ?cent|prozent) (?:\w+ )?(?:of|off|on|from|von|auf) (\d+(?:\.\d+)?)",
        r"\1 / 100 * \2",
    ),
    (r"([\d.]+) (?:plus|\+) (\d+(?:\.\d+)?)\s*(?:%|per ?cent|prozent)", r"\1 * (1 + \2 / 100)"),
    (r"([\d.]+) (?:minus|-) (\d+(?:\.\d+)?)\s*(?:%|per ?cent|prozent)", r"\1 * (1 - \2 / 100)"),
    (r"multiply (?:it |that |the result )?(?:by|with)|multiplied (?:by|with)|times|multipliziert mit|\bmal\b", " * "),
    (r"divide (?:it |that |the result )?by|divided by|geteilt durch|dividiert durch|\bover\b", " / "),
    (r"to the power of|raised to(?: the)?|hoch", " ** "),
    (r"\bsquared\b|zum quadrat", " ** 2 "),
    (r"\bcubed\b", " ** 3 "),
    (r"\bplus\b|\badd\b|\bund dann plus\b", " + "),
    (r"\bminus\b|\bsubtract\b|\bless\b|\bweniger\b", " - "),
    (r"\bmodulo\b|\bmod\b", " % "),
    (r"(?<=[\d)])\s*x\s*(?=[\d(])", " * "),
    (r"×|·|\*(?!\*)(?<!\*\*)", " * "),
    (r"÷|(?<=\d)\s*:\s*(?=\d)", " / "),
    (r"−|–", "-"),
    (r"\^", " ** "),
)
_TOKEN = rf"(?:{_FUNCTIONS})\b|\d+(?:\.\d+)?|\*\*|//|[-+*/%(),]"
_RUN = re.compile(rf"(?:(?:{_TOKEN})\s*)+")
_THEN = re.compile(r"[,;.]?\s*\b(?:and then|then|and|und dann|dann|danach)\b\s*|;\s*")
_TEXT_NUMBER = re.compile(rf"\b(?:{'|'.join(sorted(NUMBER_WORDS, key=len, reverse=True))})\b")


_OVER_LIST = {
    "sum": "+", "total": "+", "add": "+", "average": "mean", "mean": "mean", "durch": "mean", "mittel": "mean",
    "median": "median", "max": "max", "largest": "max", "min": "min", "smallest": "min",
}  # fmt: skip
_LISTED = re.compile(
    rf"\b(?P<what>sum(?:me)?|total|average|mean|durchschnitt|mittelwert|median|max(?:imum)?|largest|min(?:imum)?|smallest)"
    rf"(?:\s+(?:number|value))?\s+(?:of|in|von|aus)\s*:?\s*"
    rf"(?P<list>{NUMBER}(?:(?:,\s*(?:and\s+|und\s+)?|\s+(?:and\s+|und\s+)?){NUMBER})+)"
)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`steps` are worked out in order; one that begins with an operator goes on from the result before it."""

    steps: tuple[str, ...]

    def plan(self, past: Past) -> Plan:
        before = past.calls("calculate")
        value = before[0][1].number() if before else None
        done: list[tuple[str, Result]] = []
        for position, step in enumerate(self.steps):
            expression = step
            if _continues(step):
                if value is None:
                    return "There is no earlier result that I could go on from. Give me the whole calculation."
                expression = f"{f'({exact(value)})' if value < 0 else exact(value)} {step}"
            say = f"I’ll calculate {_code(expression)}." if not position else f"Next: {_code(expression)}."
            (result,) = yield ask(say, Want("calculate", {"expression": expression}))
            done.append((expression, result))
            value = result.number() if result.ok else None
            if value is None:
                break
        expression, result = done[-1]
        if value is None and result.ok and (digits := result.get("result")) is not None:
            return f"{_code(expression)} is a long number: `{str(digits)[:4000]}`."
        if value is None:
            if result.missing:
                why = f"For this I would need a calculator, but {result.why}. I do not guess numbers."
            else:
                why = f"{_code(expression)} cannot be calculated. The function answered: {result.why}"
                why += "\n\nIt takes numbers, brackets and + − × ÷ ^, for example “12 × (3 + 4)” or “15 % of 80”."
            return "\n\n".join((*(_line(*item) for item in done[:-1]), why))
        if len(done) == 1:
            return f"{_line(expression, result)}\n\n*Go on with “divide it by 3” or “plus 19 %”.*"
        lines = "\n".join(f"{index}. {_line(*item)}" for index, item in enumerate(done, 1))
        return f"{lines}\n\nThe result is **{_shown(value)}**."


def _line(expression: str, result: Result) -> str:
    return f"{_code(expression)} = **{_shown(result.number())}**"


def _shown(value: float | None) -> str:
    """Here people want every digit, not two decimals."""
    if value is None:
        return "–"
    return f"{int(value):,}" if value == int(value) and abs(value) < 1e15 else f"{value:,.12g}"


def _code(expression: str) -> str:
    return f"`{expression[:200].replace('`', '')}`"


def _continues(step: str) -> bool:
    return bool(re.match(r"\*\*|[+*/%]|- ", step))


def read(request: Request) -> Arithmetic | None:
    if len(request.plain) > 600 or request.url or request.quotes:
        return None
    if days(request.plain):
        return None
    if listed := _LISTED.search(request.plain):
        values = [exact(value) for text in re.findall(NUMBER, listed["list"]) if (value := to_number(text)) is not None]
        name = _OVER_LIST[next(word for word in _OVER_LIST if listed["what"].startswith(word))]
        if len(values) > 1:
            return Arithmetic((f" {name} ".join(values) if name == "+" else f"{name}({', '.join(values)})",))
    steps = [found for part in _THEN.split(request.plain) if (found := expression(part))]
    if not steps:
        return None
    first = steps[0]
    if _continues(first) and not request.past.calls("calculate"):
        return None
    return Arithmetic(tuple(steps[:4]))


def expression(words: str) -> str:
    """The arithmetic in `words` for the calculator, or ""."""
    said = _TEXT_NUMBER.sub(lambda match: str(NUMBER_WORDS[match[0]]), words)
    said = re.sub(NUMBER, lambda match: _plain_number(match[0]), said)
    said = re.sub(r"\bto the (\d+)(?:st|nd|rd|th)\b", r"** \1", said)
    for pattern, symbol in _WORDS:
        said = re.sub(pattern, symbol, said)
    said = re.sub(r"^\W*\* ", "* ", said)
    if match := re.match(r"^\s*(?:it |that |the result )?(?:\+|-)\s*(\d+(?:\.\d+)?)\s*%", said):
        sign = "-" if "-" in match[0] else "+"
        return f"* (1 {sign} {match[1]} / 100)"
    runs = [" ".join(match[0].split()).strip(" ,") for match in _RUN.finditer(said)]
    best = max(runs, key=len, default="")
    operator = re.search(
        r"(?:\*\*|[-+*/%])\s*(?:\(|[-+]?\d|\w+\()|(?:sqrt|cbrt|factorial|abs|log\w*|exp|mean|median|max|min|round)\(",
        best,
    )
    return (
        best
        if operator and re.search(r"\d", best) and not re.fullmatch(r"[-+]?\s*[\d.]+\s*%?", best)
        else _follow(best)
    )


def _follow(best: str) -> str:
    """ "+ 5" is nothing by itself, but goes on from a result."""
    return best if re.fullmatch(r"(?:\*\*|[+*/]|- )\s*[\d.]+", best) else ""


def _plain_number(text: str) -> str:
    sign, digits = ("", text) if text[0].isdigit() else (text[0] + " ", text[1:])
    value = to_number(digits)
    return text if value is None else f"{sign.strip()}{exact(value)}"
