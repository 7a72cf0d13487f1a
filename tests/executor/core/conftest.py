"""What tests of the core share: the fake model server, and an end for the connections to it."""

from collections.abc import AsyncIterator

import pytest

from executor.core.llms._http import close_http_client
from tests.fakes.fixtures import _model_server, model_server

__all__ = ["_model_server", "model_server"]


@pytest.fixture
async def closed_connections() -> AsyncIterator[None]:
    """Those of the loop of this test are closed behind it."""
    yield
    await close_http_client()
