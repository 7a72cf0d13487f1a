"""Acme keeps the promises that hold for every model."""

from collections.abc import AsyncIterator

import pytest

from executor.core.llms.base import BaseLlm, Endpoint
from tests.executor.core.acme import Acme
from tests.executor.core.contract import WireContract
from tests.fakes.model_server import ModelServer


class TestAcme(WireContract):
    @pytest.fixture
    async def llm(self, model_server: ModelServer) -> AsyncIterator[BaseLlm]:
        llm = Acme(Endpoint("acme-small", model_server.base_url, "a-key-that-nobody-may-see"))
        yield llm
        await llm.aclose()
