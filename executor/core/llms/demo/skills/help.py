"""Say honestly what this is and what it can do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from executor.core.llms.demo.planning import Past, Plan
from executor.core.llms.demo.reading import Request

_GREETING = r"hi|hello|hey|hallo|moin|servus|good (?:morning|evening|afternoon|day)|guten (?:tag|morgen|abend)"
_THANKS = r"thanks?|thank you|danke|great|perfect|super|wonderful"
_ABOUT = r"who are you|what are you|what can you do|help|hilfe|wer bist du|was kannst du|how do you work|what is this"


# (functions that it takes, a request to try)
EXAMPLES = (
    (
        {"text_statistics", "draw_chart"},
        "Analyse the text 'the quick brown fox jumps over the lazy dog' and draw its statistics",
    ),
    ({"convert_unit", "calculate"}, "Which is heavier: 12 stone or 170 pounds? Compare them in a chart"),
    ({"current_time", "days_between"}, "How many days are left until 30 February?"),
    ({"calculate"}, "I save 200 € a month at 3 % for 10 years. Show how it grows"),
    ({"draw_chart"}, "Draw a pie chart of apples 3, pears 5, plums 2 in warm colours"),
    ({"current_time"}, "What time is it in Tokyo and New York?"),
    ({"calculate"}, "What is 15 % of 80, then times 3?"),
    (
        {"list_agents", "run_plan"},
        "Share the work: what time is it in Tokyo; how many days until New Year; then put the answers together",
    ),
    ({"run_python"}, "Write Python that counts the primes below 1,000, and test it"),
    ({"run_python"}, "Write Python that makes up a year of sales in a CSV file, and chart the revenue by month"),
    ({"fetch_page"}, "Read https://example.org and tell me what it says"),
    ({"search_conversations"}, "Search my conversations for “chart”"),
)


THANKS = "You are welcome! Ask for a change of what is above, or for something new. “Help” shows what I can do."


@dataclass(frozen=True, slots=True)
class Help:
    """`tools` are the names of the functions at hand: only what they make possible is offered."""

    opening: str
    tools: frozenset[str] = frozenset()

    @classmethod
    def of(cls, request: Request) -> Help:
        short = len(request.plain) < 60
        if request.says(_ABOUT) and short:
            opening = ""
        elif request.says(_GREETING) and short:
            opening = "Hello! "
        elif request.says(_THANKS) and short:
            opening = THANKS
        else:
            opening = "That is beyond me, and I will not make something up. "
        return cls(opening)

    def given(self, tools: Collection[str]) -> Help:
        return Help(self.opening, frozenset(tools))

    def plan(self, past: Past) -> Plan:
        if False:  # A plan is a generator, also one that asks for nothing.
            yield
        if self.opening == THANKS:
            return THANKS
        what = (
            f"{self.opening}I am the **demonstration agent**: fixed rules, not a language model. I understand a few "
            "kinds of requests, and for those I call real functions, several in a row if need be. You can open each "
            "call above the answer."
        )
        possible = [f"- {example}" for needs, example in EXAMPLES if needs <= self.tools]
        if not possible:
            return (
                f"{what}\n\nThis agent has been given none of the functions I know how to use. "
                "An administrator can allow them in its settings."
            )
        if "draw_chart" in self.tools:
            possible.append("- and after a chart: Make it more colourful and draw it as a pie chart")
        return "\n\n".join(
            (
                what,
                "Try one of these:",
                "\n".join(possible),
                "For anything else, choose an agent with a language model, or ask an administrator to connect one.",
            )
        )
