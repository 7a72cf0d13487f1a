"""Answers that their providers keep: they outlive the worker that asked, and are fetched instead of paid for twice.

The step of such a question has the response's id from the moment at which that is known (`Journal.accept`). When its
worker ends, the step is pending, as that of a call is which is run again, until the next acquisition takes it up with
the same model and the same key (`Journal.take_up_model`).
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from executor.core.llms.base import BaseLlm

_ending: set[asyncio.Task[None]] = set()


class Kept(NamedTuple):
    """A response that is being written, and the model that it is fetched with."""

    llm: BaseLlm
    response_id: str

    def let_go(self) -> None:
        """Nobody waits for it any more. That its provider hears of that is not waited for either."""
        ending = asyncio.create_task(self.llm.cancel(self.response_id), name="cancel a response")
        _ending.add(ending)
        ending.add_done_callback(_ending.discard)
