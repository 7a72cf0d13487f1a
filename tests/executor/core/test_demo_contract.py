"""The demonstration model keeps the promises that hold for every model."""

import pytest

from executor.core.llms.base import BaseLlm, Endpoint
from executor.core.llms.factory import create_llm
from tests.executor.core.contract import LlmContract


class TestContract(LlmContract):
    @pytest.fixture
    def llm(self) -> BaseLlm:
        return create_llm("demo", Endpoint("demo"))
