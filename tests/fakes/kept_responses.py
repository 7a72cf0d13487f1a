"""What OpenAI keeps of responses that were asked for in the background: they go on whether anybody listens or not.

`GET /v1/responses/ID?stream=true` tells the events again from the first one, at the pace at which they came to be;
without `stream` it says how far the response is. `POST /v1/responses/ID/cancel` ends it. A response is there for the
key that asked for it, and only for a while.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs

from tests.fakes import responses
from tests.fakes.script import Fault, Turn
from tests.fakes.streaming import Frame

_PATH = re.compile(r"/v1/responses/(?P<id>[^/]+)(?P<cancel>/cancel)?")
#: Faults of the connection: the response itself knows nothing of them.
_OF_THE_CONNECTION: tuple[Fault, ...] = ("drop", "clean_end", "half_frame", "malformed", "stall")


@dataclass(slots=True)
class Kept:
    turn: Turn
    request: Mapping[str, Any]
    key: str
    began: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    #: How often it was fetched.
    fetched: int = 0


class KeptResponses:
    """`by_id` in the order in which they were asked for."""

    def __init__(self) -> None:
        self.by_id: dict[str, Kept] = {}
        self.reset()

    def reset(self) -> None:
        self.by_id.clear()
        #: Seconds for which its events are told again, and for which it is there at all.
        self.streamed_for = 300.0
        self.kept_for = 600.0
        #: Whether it says nothing to whoever wants to end one.
        self.silent = False

    def told(self) -> dict[str, int]:
        """How many there were, and what became of them."""
        kept = list(self.by_id.values())
        return {
            "asked": len(kept),
            "fetched": sum(response.fetched > 0 for response in kept),
            "ended": sum(response.cancelled for response in kept),
        }

    def matches(self, path: str) -> bool:
        return bool(_PATH.fullmatch(path))

    def hangs(self, path: str) -> bool:
        return self.silent and path.endswith("/cancel")

    def keep(self, id_: str, turn: Turn, request: Mapping[str, Any], key: str) -> None:
        turn = replace(turn, fault="") if turn.fault in _OF_THE_CONNECTION else turn
        self.by_id[id_] = Kept(turn, request, key)

    def answer(self, method: str, path: str, query: str, key: str) -> tuple[int, bytes] | Iterator[Frame]:
        """Status and body, or a stream."""
        found = _PATH.fullmatch(path)
        assert found
        id_, asked = found["id"], parse_qs(query)
        kept = self.by_id.get(id_)
        age = time.monotonic() - kept.began if kept else 0.0
        if kept is None or kept.key != key or age > self.kept_for or (method == "POST") != bool(found["cancel"]):
            return _refusal(404, f"Response with id '{id_}' not found.")
        if asked.keys() - {"stream", "include[]", "include_obfuscation"}:
            return _refusal(400, f"Unknown parameter in '{query}'.")
        if found["cancel"]:
            kept.cancelled = kept.cancelled or age < _length(kept, id_)
            return 200, _state(kept, id_, age)
        kept.fetched += 1
        # Whoever fetches it says anew what is to be in it.
        kept = replace(kept, request={**kept.request, "include": asked.get("include[]", [])})
        if "rejects_include" in kept.turn.quirks and "include[]" in asked:
            return _refusal(400, "Encrypted content is not supported with this model.")
        if asked.get("stream") != ["true"]:
            return 200, _state(kept, id_, age)
        if age > self.streamed_for:
            return _refusal(400, "This response can no longer be streamed because it is more than 5 minutes old.")
        return _told_again(kept, id_, age)


def _refusal(status: int, message: str) -> tuple[int, bytes]:
    return status, responses.error_body(status, "", message)


def _length(kept: Kept, id_: str) -> float:
    """Seconds that it takes."""
    return sum(wait for wait, _ in responses.frames(kept.turn, kept.request, id_))


def _state(kept: Kept, id_: str, age: float) -> bytes:
    at_work = age < _length(kept, id_)
    return responses.whole(
        kept.turn, kept.request, id_, "cancelled" if kept.cancelled else "in_progress" if at_work else ""
    )


def _told_again(kept: Kept, id_: str, age: float) -> Iterator[Frame]:
    if kept.cancelled:
        end = {"type": "response.cancelled", "response": json.loads(_state(kept, id_, age)), "sequence_number": 0}
        yield 0, b"event: response.cancelled\ndata: %b\n\n" % json.dumps(end).encode()
        return
    for wait, data in responses.frames(kept.turn, kept.request, id_):
        waited = min(wait, age)
        age -= waited
        yield wait - waited, data
