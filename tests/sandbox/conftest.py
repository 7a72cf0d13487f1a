"""A live sandbox of this machine, in the mode that fits the user who runs the tests. None of it is skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.sandbox.attacks import prepared
from tools.sandbox.base import Limits
from tools.sandbox.bwrap import Backend
from tools.sandbox.session import BwrapSession

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.sandbox)


@pytest.fixture(scope="session")
def backend() -> Backend:
    backend = Backend()
    availability = backend.check()
    assert availability.ok, f"{availability.reason} {availability.hint}"
    return backend


@pytest.fixture
def open_session(backend: Backend) -> Iterator[Callable[..., BwrapSession]]:
    """Opens sessions that are closed after the test; takes what differs from the usual limits."""
    opened: list[BwrapSession] = []

    def open_(**limits: object) -> BwrapSession:
        opened.append(backend.open("test", Limits(**limits)))  # type: ignore[arg-type]
        return opened[-1]

    yield open_
    for session in opened:
        session.close()


@pytest.fixture
def session(open_session: Callable[..., BwrapSession]) -> BwrapSession:
    return open_session()


@pytest.fixture(scope="module")
def inside(backend: Backend) -> Iterator[BwrapSession]:
    """One session for attempts that leave nothing behind."""
    session = prepared(backend.open("test", Limits()))
    yield session
    session.close()
