"""How much a model is told, and what is left out first where that is more than it can read.

Sizes are in bytes of what is said; a provider's own count tells how many tokens a byte is. First go the results of
functions, oldest first: of each its beginning stays, and it can be had again. Where that is not enough, `ContextFull`
says that what came first has to be summarised (core/compaction.py).

All of this is a function of the messages: a task that is taken up again tells the same as before. What was left out
once stays out, and always much at once, so that the beginning of what is told seldom changes and providers' caches hit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from executor.core.messages import File, Message, Text, ToolCall, ToolResult, ToolSpec, user

#: How a question is estimated before a provider has counted one, and an answer whose length nobody limits.
TOKENS_PER_BYTE = 1 / 3.5
ANSWER_TOKENS = 8_192
#: What a model is taken to read of which nobody knows.
WINDOW = 32_768

#: Of a shorter question, what comes beside the words weighs too much to learn from.
TELLING = 2_000

#: The share of what a model can read that is used at the most: sizes are estimates.
SHARE = 0.7
#: No model is told less, in bytes, however little it can read.
SMALLEST_ROOM = 4_000
#: So many bytes are left for what comes after a long question.
AFTER_QUESTION = 2_000
#: The share of the room in which nothing is left out: what was said last.
NEWEST = 0.3
#: What is not worth a summary: a smaller share of the room.
WORTHWHILE = 0.2
#: A longer result loses all but its beginning.
LONG_RESULT, BEGINNING = 600, 200
#: About as much as the words that a picture takes the place of.
PICTURE = 5_000


class ContextFull(Exception):
    """More was said than the model can be told, and the functions' results are not the reason."""


@dataclass(frozen=True, slots=True)
class Budget:
    """`room` is how many bytes of messages a question has at the most, beside the functions that it offers; `most` is
    how many the model could read if nothing was kept free."""

    room: int
    most: int = field(default=0, compare=False)
    scales: Scales = field(default_factory=lambda: Scales(), compare=False, repr=False)

    @classmethod
    def of(
        cls,
        window: int,
        answer: int = 0,
        specs: Sequence[ToolSpec] = (),
        ratio: float = TOKENS_PER_BYTE,
        *,
        reads: int = 0,
    ) -> Budget:
        """Of a model that reads `window` tokens, its answer among them, which may have up to `answer` tokens (0: nobody
        knows). `ratio` is tokens per byte. It `reads` more where not all of that is to be used."""
        offered = size((), specs)
        room = int(_beside_answer(window, answer) * SHARE / ratio) - offered
        most = int(_beside_answer(max(reads, window), answer) / ratio) - offered
        return cls(max(room, SMALLEST_ROOM), max(most, SMALLEST_ROOM))

    def takes(self, question: Sequence[Message]) -> bool:
        """Whether the model can read this, of which nothing is left out."""
        return self.scales(question) + AFTER_QUESTION <= self.most

    def after(self, question: Sequence[Message]) -> Budget:
        """For what comes after `question`, which stays as it is."""
        return replace(self, room=max(self.room - self.scales(question), AFTER_QUESTION))

    def fit(self, transcript: Sequence[Message]) -> list[Message]:
        """`transcript` with as much left out as is necessary. Raises ContextFull where much else would have to go."""
        if self.scales(transcript) <= self.room:
            return list(transcript)
        found = pruned(transcript, self.room)
        if size(found) <= self.room:
            return found
        if coverable(found, self.room):
            raise ContextFull
        return clipped(found, self.room)

    def squeeze(self, transcript: Sequence[Message]) -> list[Message]:
        """The same for who cannot wait for a summary: what was said first goes, but not the person's last words."""
        found = pieces(pruned(transcript, self.room))
        head = found[:1] if found and found[0][0].role == "system" else []
        rest = found[len(head) :]
        room = self.room - size(message for piece in head for message in piece)
        first = newest_from([size(piece) for piece in rest], room)
        if first:
            said = [piece for piece in rest[:first] if piece[0].role == "user"]
            room -= size([LEFT_OUT, *(message for piece in said[-1:] for message in piece)])
            first = max(first, newest_from([size(piece) for piece in rest], room))
            rest = [[LEFT_OUT], *said[-1:], *rest[first:]]
        return clipped([message for piece in (*head, *rest) for message in piece], self.room)


def _beside_answer(window: int, answer: int) -> int:
    return window - min(answer or ANSWER_TOKENS, window // 2 if answer else window // 4)


LEFT_OUT = user("(This is not from the person.) Much of what was said before is left out here.")


def learnt(tokens: int, asked: int) -> float:
    """Tokens per byte, from what a provider counted of a question of `asked` bytes. In steps, so that it seldom changes
    what is told, and rather too high."""
    if tokens <= 0 or asked < TELLING:
        return TOKENS_PER_BYTE
    return min(max(math.ceil(tokens / asked * 40) / 40, 0.1), 1.0)


# --- sizes -----------------------------------------------------------------------------------------------------------


def size(messages: Iterable[Message], specs: Iterable[ToolSpec] = ()) -> int:
    """In bytes, about as many as a provider reads."""
    return sum(len(str(spec.parameters)) + len(spec.description) for spec in specs) + sum(map(_size, messages))


class Scales:
    """`size`, which measures each message once: a loop asks for that of all it has said before every question."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, int]] = {}  # With what was measured, so that no other gets its id.

    def __call__(self, messages: Iterable[Message], specs: Iterable[ToolSpec] = ()) -> int:
        return sum(map(self._of_message, messages)) + sum(map(self._of_spec, specs))

    def _of_message(self, message: Message) -> int:
        found = self._known.get(id(message)) or self._known.setdefault(id(message), (message, _size(message)))
        return found[1]

    def _of_spec(self, spec: ToolSpec) -> int:
        schema = spec.parameters  # The spec itself is made anew for every question.
        found = self._known.get(id(schema)) or self._known.setdefault(id(schema), (schema, size((), [spec])))
        return found[1]


def _size(message: Message) -> int:
    return sum(map(_part_size, message.parts))


def _part_size(part: Any) -> int:
    match part:
        case Text(text):
            return _length(text)
        case ToolCall(name=name, arguments=arguments, raw_arguments=raw):
            return len(name) + _length(raw if arguments is None else str(arguments))
        case ToolResult(content=content):
            return _length(content)
        case File(text=text):
            return _length(text) or PICTURE
        case _:
            return 0


def _length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


# --- what belongs together -------------------------------------------------------------------------------------------


def pieces(transcript: Sequence[Message]) -> list[list[Message]]:
    """An answer with the results of its calls, of which no provider takes half; every other message by itself."""
    found: list[list[Message]] = []
    for message in transcript:
        if message.role == "tool" and found and found[-1][0].role == "assistant":
            found[-1].append(message)
        else:
            found.append([message])
    return found


def coverable(transcript: Sequence[Message], room: int) -> int:
    """How many of the first messages are worth being told in short, if any are: all but the newest."""
    found = pieces(transcript)
    first = int(bool(found) and found[0][0].role == "system")
    newest = max(newest_from([size(piece) for piece in found], NEWEST * room), first)
    if size(message for piece in found[first:newest] for message in piece) < WORTHWHILE * room:
        return 0
    return sum(map(len, found[:newest]))


def newest_from(sizes: Sequence[int], room: float) -> int:
    """Where the last of these begin that fit in `room`; the very last in any case."""
    first = len(sizes) - 1
    taken = sizes[first] if sizes else 0
    while first > 0 and taken + sizes[first - 1] <= room:
        first -= 1
        taken += sizes[first]
    return max(first, 0)


# --- leaving out -----------------------------------------------------------------------------------------------------


def pruned(transcript: Sequence[Message], room: int) -> list[Message]:
    """`transcript`, where it does not fit without long results but the newest."""
    if size(transcript) <= room:
        return list(transcript)
    found = pieces(transcript)
    sizes = [size(piece) for piece in found]
    total = done = 0
    for at in range(len(found)):
        total += sizes[at]
        if total <= room:
            continue
        # As it was told when this had just been said: so it stays.
        upto = newest_from(sizes[: at + 1], NEWEST * room)
        for old in range(done, upto):
            found[old] = [_without_results(message) for message in found[old]]
            total -= sizes[old] - (left := size(found[old]))
            sizes[old] = left
        done = max(done, upto)
    return [message for piece in found for message in piece]


def _without_results(message: Message) -> Message:
    if message.role == "assistant":  # As it was said, or a provider may refuse it.
        return message
    return replace(message, parts=tuple(map(_in_short, message.parts)))


def _in_short(part: Any) -> Any:
    match part:
        case ToolResult(content=content) if len(content) > LONG_RESULT:
            return replace(part, content=_beginning(content, BEGINNING))
        case File(text=text) if text:
            return replace(part, text=_beginning(text, BEGINNING)) if len(text) > LONG_RESULT else part
        case File(media_type, _, name):
            return Text(f"[attached file: {name or 'unnamed'} ({media_type}), shown before]")
        case _:
            return part


def _beginning(content: str, length: int) -> str:
    left = len(content) - length
    return f"{content[:length]}\n[{left:,} more characters are left out here. Get them again only if you need them.]"


def clipped(transcript: Sequence[Message], room: int) -> list[Message]:
    """`transcript` with the longest results and files cut, as far as that helps where even the newest are too long."""
    over = size(transcript) - room
    if over <= 0:
        return list(transcript)
    lengths = sorted(_lengths(transcript))
    longest = _level(lengths, over)
    return [
        replace(message, parts=tuple(_cut(part, longest) for part in message.parts))
        if message.role in ("tool", "user")
        else message
        for message in transcript
    ]


def _lengths(transcript: Sequence[Message]) -> Iterator[int]:
    for part in (part for message in transcript for part in message.parts):
        match part:
            case ToolResult(content=text) | File(text=text) if text:
                yield _length(text)


def _level(lengths: Sequence[int], over: int) -> int:
    """To how many bytes all longer ones have to be cut to be `over` bytes shorter together."""
    for count, length in enumerate(reversed(lengths), 1):
        below = lengths[-count - 1] if count < len(lengths) else 0
        if over <= (length - below) * count:
            return max(length - math.ceil(over / count), BEGINNING)
        over -= (length - below) * count
    return BEGINNING


def _cut(part: Any, longest: int) -> Any:
    if isinstance(part, ToolResult) and _length(part.content) > max(longest, LONG_RESULT):
        return replace(part, content=_beginning(part.content, max(longest - 120, BEGINNING)))
    if isinstance(part, File) and _length(part.text) > max(longest, LONG_RESULT):
        return replace(part, text=_beginning(part.text, max(longest - 120, BEGINNING)))
    return part
