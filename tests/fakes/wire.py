"""What the model server needs to know about a wire format. Each is a module with these functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from tests.fakes.script import Turn
from tests.fakes.streaming import Frame


class Wire(Protocol):
    def matches(self, path: str) -> bool:
        """Whether a POST to `path` asks a model in this format."""

    def key(self, headers: Mapping[str, str]) -> str:
        """The key that the request came with (header names in lower case), "" for none."""

    def model(self, path: str, request: Any) -> str: ...

    def headers_objection(self, headers: Mapping[str, str]) -> str:
        """Why a request with these headers is refused (400), "" when they are fine."""

    def objection(self, path: str, request: Any) -> str:
        """Why the body is refused (400), "" when it is fine. (Gemini's path says which model is asked.)"""

    def messages(self, request: Any) -> list[dict[str, Any]]:
        """What was said, for the script: dicts with `role` (user, assistant or tool) and `content`, a text."""

    def error_body(self, status: int, fault: str, message: str) -> bytes:
        """The body of a refusal. `fault` is one of `Fault`, or "" for what the request itself is to blame for."""

    def frames(self, turn: Turn, request: Any, response_id: str) -> Iterator[Frame]:
        """The streamed answer, piece by piece; whoever writes them keeps the time."""

    def whole(self, turn: Turn, request: Any, response_id: str) -> bytes:
        """The answer in one piece."""

    def models(self, names: Sequence[str]) -> bytes:
        """The list of models that this server has."""

    def lists_models(self, path: str, headers: Mapping[str, str]) -> bool:
        """Whether a GET of `path` asks for the list of models in this format."""
