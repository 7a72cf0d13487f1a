"""What tests of the tools share: a call's context, a folder of functions, and two people."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tools.core.context import Context


@pytest.fixture
def call_context() -> Context:
    return Context(user_id=1, task_id=str(uuid4()), call_id="call-1", idempotency_key="key-1")


@pytest.fixture
def drop(tmp_path: Path) -> Callable[..., Path]:
    """Write modules into one folder: drop(name="source", ...) returns the folder."""

    def write(**sources: str) -> Path:
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
        return tmp_path

    return write


@pytest.fixture
def dropped(drop: Callable[..., Path], settings: Any) -> Iterator[Callable[..., Any]]:
    """Write modules into the folder of the settings and look at it again, as a restart would."""
    from tools.registry import reload_registry

    def write(**sources: str) -> Any:
        settings.FUNCTIONS_DIR = str(drop(**sources))
        return reload_registry()

    yield write
    settings.FUNCTIONS_DIR = "/nonexistent"
    reload_registry()


@pytest.fixture
def static_root(settings: Any) -> None:
    """WhiteNoise warns when pages are served before the static files were collected."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def alice(db: None) -> Any:
    from users.models import User

    return User.objects.create_user("alice")


@pytest.fixture
def charlie(db: None) -> Any:
    """An outsider."""
    from users.models import User

    return User.objects.create_user("charlie")
