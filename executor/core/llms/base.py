"""The one way to ask a language model."""

from __future__ import annotations

import abc
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from executor.core.errors import expired
from executor.core.events import Failed, Finished, ModelEvent
from executor.core.llms.parameters import IMAGES, Parameter, problems
from executor.core.messages import Message, ToolSpec


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is asked and with which key. The key is shown nowhere, not even in `repr`.

    `allowed_hosts` is None where an administrator chose the address. Where somebody else did, it must lie on the public
    internet, or be one of these: "host" or "host:port".
    """

    model: str
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    allowed_hosts: frozenset[str] | None = None


class BaseLlm(abc.ABC):
    """A language model. An adapter is one file with one subclass; nothing else imports its SDK.

    `parameters` given to the constructor are the agent's, those given to a call go on top of them.
    """

    #: The agent type that the factory knows this class by.
    type: ClassVar[str]
    #: What people call the provider.
    label: ClassVar[str] = ""
    #: Whether nothing can be asked without a key, and where people get one.
    needs_key: ClassVar[bool] = False
    key_page: ClassVar[str] = ""
    #: A small model of the provider, with which a key is tested.
    test_model: ClassVar[str] = ""
    #: Whether its models see pictures, as far as nothing else is set (`images`).
    sees: ClassVar[bool] = False
    #: What an agent may set about it.
    PARAMETERS: ClassVar[tuple[Parameter, ...]] = ()

    def __init__(self, endpoint: Endpoint, **parameters: Any) -> None:
        self.endpoint = endpoint
        self.parameters = parameters

    @property
    def can_see(self) -> bool:
        """Whether it is given pictures. Otherwise they are named to it in words."""
        return bool(self.parameters.get(IMAGES.name, self.sees))

    @classmethod
    def check_parameters(cls, parameters: dict[str, Any]) -> list[str]:
        """What is wrong with an agent's parameters, a sentence each; nothing when they are fine."""
        return problems(cls.PARAMETERS, parameters)

    @abc.abstractmethod
    def stream(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec] = (), **parameters: Any
    ) -> AsyncGenerator[ModelEvent, None]:
        """Ask, and yield what comes: see `executor.core.events`.

        Ends with exactly one `Finished` or `Failed`; only `asyncio.CancelledError` is ever raised. Closing the iterator
        ends the request at the provider, unless it keeps the response (`Started.is_kept`).
        """

    async def resume(self, response_id: str, **parameters: Any) -> AsyncGenerator[ModelEvent, None]:
        """The answer to a question that was asked before, if the provider keeps it: from its first event, as `stream`
        has it. Fails with "expired" where it is gone; most providers keep nothing."""
        yield Failed(expired())

    async def cancel(self, response_id: str) -> None:  # noqa: B027  (most providers keep nothing)
        """End a kept response at the provider, as far as that can be done: raises nothing."""

    async def generate_content_async(self, messages: Sequence[Message], **kwargs: Any) -> Finished:
        """The whole answer at once. Raises `LLMError`."""
        async for event in self.stream(messages, **kwargs):
            if isinstance(event, Finished):
                return event
            if isinstance(event, Failed):
                raise event.error
        raise AssertionError("a stream ended without Finished or Failed")

    async def list_models(self) -> list[str]:
        """The names of the models that can be asked there. Raises `LLMError`."""
        return [self.endpoint.model] if self.endpoint.model else []

    async def aclose(self) -> None:  # noqa: B027  (most models have nothing to let go of)
        """Let go of what is shared by all calls on this event loop. Asking again afterwards is allowed."""
