"""The fake model server as a fixture. A conftest.py imports it: `from tests.fakes.fixtures import *`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.model_server import ModelServer

# So that it tells the values where a promise is broken. Its file is not named like one of tests.
pytest.register_assert_rewrite("tests.executor.core.contract")


@pytest.fixture(scope="session")
def _model_server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def model_server(_model_server: ModelServer) -> Iterator[ModelServer]:
    """A fresh script and record for each test; the process behind it is shared."""
    _model_server.reset()
    yield _model_server
    _model_server.reset()
