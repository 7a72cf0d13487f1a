"""The Responses API: the contract of every model, the request as it is sent, what is replayed and where."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from executor.core.llms._http import close_http_client
from executor.core.llms.base import Endpoint
from executor.core.llms.gpt import Gpt
from tests.executor.core.contract import WireContract
from tests.fakes.model_server import ModelServer

KEY = "sk-a-key-that-nobody-may-see"


@pytest.fixture(autouse=True)
async def _closed_connections() -> AsyncIterator[None]:
    yield
    await close_http_client()


@pytest.fixture
def llm(model_server: ModelServer) -> Gpt:
    return Gpt(Endpoint("gpt-test", model_server.base_url, KEY))


class TestContract(WireContract):
    pass
