"""The loop guard: a model that goes in circles is told so, and is stopped where that does not help.

What is counted is rounds: an answer with calls, together with their results. Three rounds with the same call and the
same result, three in a row in which everything failed with the same error, or A-B-A-B are told to the model with its
next question; five end the task. A word of the person begins the count anew, so only the task's own rounds count.

Nothing of this is in a row. It follows from the transcript, so the model is told the same after a restart.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from executor.core.errors import GoingInCircles
from executor.core.messages import Message, ToolCall, ToolResult, user

#: So many rounds alike are told to the model, and so many end its task.
STEER_AT = 3
STOP_AT = 5
#: Rounds in which A-B-A-B can be seen.
_CYCLE = 4

_ADVICE = (
    "Doing it once more will not change that. Use what you know already, try something else, or tell the person what "
    "you could not do."
)

#: Function, arguments, result.
Key = tuple[str, str, str]


class Guard:
    """Looks at one transcript as it grows."""

    def __init__(self) -> None:
        self._looked_at = 0
        self._notes: dict[int, Message] = {}  # By the id of the message that they follow.
        self._calls: dict[str, ToolCall] = {}
        self._results: dict[str, ToolResult] = {}
        self._last: Message | None = None
        self._begin()

    def look(self, transcript: Sequence[Message]) -> None:
        """Before a question, when all calls have results. Raises GoingInCircles."""
        for message in transcript[self._looked_at :]:
            match message.role:
                case "assistant":
                    self._end_round()
                    self._calls = {call.id: call for call in message.tool_calls}
                case "tool":
                    self._results |= {result.call_id: result for result in message.tool_results}
                    self._last = message
                case _:  # Nobody was told of the round before it.
                    self._begin()
        self._looked_at = len(transcript)
        self._end_round()
        if self._verdict:
            raise GoingInCircles(self._verdict)

    def steer(self, question: Sequence[Message]) -> Sequence[Message]:
        """`question`, made from the messages that were looked at, with what the model is told, where it was told it."""
        if not self._notes:
            return question
        steered: list[Message] = []
        for message in question:
            steered.append(message)
            if note := self._notes.get(id(message)):
                steered.append(note)
        return steered

    def _begin(self) -> None:
        self._seen: Counter[Key] = Counter()
        self._errors: Counter[tuple[str, str]] = Counter()  # In a row.
        self._rounds: list[tuple[Key, ...]] = []
        self._verdict = ""
        self._forget()

    def _forget(self) -> None:
        self._calls, self._results, self._last = {}, {}, None

    def _end_round(self) -> None:
        if not self._last or not self._results:
            return
        # In the order of the calls: that in which they ended is not the same after a restart.
        answered = [(call, self._results[call.id]) for call in self._calls.values() if call.id in self._results]
        keys = tuple(dict.fromkeys(_key(call, result) for call, result in answered))
        self._seen.update(keys)
        failed = {(result.name, result.content) for _, result in answered if result.is_error}
        self._errors = Counter({error: self._errors[error] + 1 for error in failed})
        if not all(result.is_error for _, result in answered):
            self._errors.clear()
        self._rounds = [*self._rounds, keys][-_CYCLE:]
        times, said = self._finding(keys)
        self._verdict = f"It went in circles: {said}" if times >= STOP_AT else ""
        if STEER_AT <= times < STOP_AT:
            told = said.replace("it ", "you ", 1)
            self._notes[id(self._last)] = user(f"(This is not from the person.) You go in circles: {told} {_ADVICE}")
        self._forget()

    def _finding(self, keys: Sequence[Key]) -> tuple[int, str]:
        """How often what was repeated most, and that in words; 0 for what is no circle yet."""
        key = max(keys, key=lambda key: self._seen[key])
        if (times := self._seen[key]) >= STEER_AT:
            return times, f"it called {key[0]} {times} times with the same arguments and the same result."
        if self._errors and (times := max(self._errors.values())) >= STEER_AT:
            (name, _) = max(self._errors, key=lambda error: self._errors[error])
            return times, f"it called {name} {times} times in a row and got the same error each time."
        match self._rounds:
            case [a, b, c, d] if (a, b) == (c, d) and a != b:
                return STEER_AT, f"it went back and forth between {_names(a)} and {_names(b)}, with the same results."
        return 0, ""


def _key(call: ToolCall, result: ToolResult) -> Key:
    arguments = call.raw_arguments if call.arguments is None else json.dumps(call.arguments, sort_keys=True)
    return call.name, arguments, result.content


def _names(keys: Sequence[Key]) -> str:
    return ", ".join(dict.fromkeys(name for name, _, _ in keys))
