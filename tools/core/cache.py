"""Results that functions with `cache=seconds` gave, for those who ask the same again: how they are known."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pydantic_core import to_jsonable_python

from tools.core.function import Function
from tools.core.schema import Arguments


@dataclass(frozen=True, slots=True)
class Question:
    """A call, as far as it decides what comes back. `user_id` is None where the result is everybody's."""

    key: str
    function: str
    user_id: int | None
    seconds: float

    @classmethod
    def of(cls, function: Function, given: Arguments, user_id: int | None) -> Question | None:
        """The same version of a function, the same validated arguments and, unless it shares its results, the same
        person. None if nothing is kept of such a call."""
        if function.cache is None or (user_id is None and not function.cache_shared):
            return None
        arguments = json.dumps(to_jsonable_python(given.given(), fallback=repr), sort_keys=True)
        owner = None if function.cache_shared else user_id
        told = json.dumps([function.module, function.name, function.version, owner, arguments])
        return cls(hashlib.sha256(told.encode()).hexdigest(), function.name, owner, function.cache)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the model read then."""

    content: str
    made_at: datetime


class Cache(Protocol):
    """Where results are kept. Neither method raises: without the cache, functions simply run."""

    async def find(self, question: Question) -> Kept | None: ...

    async def keep(self, question: Question, content: str) -> None: ...
