"""/healthz: what load balancers and monitors see."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.test import Client
from kombu.exceptions import OperationalError

from tests.agentsite.conftest import ROOT, environment

NO_REDIS = "unix:///nowhere/redis.sock"
ASK = """
import django
django.setup()
from django.test import Client
answer = Client().get("/healthz")
print(answer.status_code, answer.content.decode())
"""


@pytest.mark.django_db
def test_without_redis_it_is_degraded_but_keeps_serving(client: Client, settings: Any) -> None:
    settings.REDIS_URL = NO_REDIS
    response = client.get("/healthz")
    assert response.status_code == 200
    assert response.json() == {"status": "degraded", "database": "ok", "redis": "down", "worker": "down"}


@pytest.mark.django_db
def test_it_answers_under_any_host_name_is_never_cached_and_sets_no_cookie(client: Client, settings: Any) -> None:
    settings.REDIS_URL = NO_REDIS
    settings.ALLOWED_HOSTS = ["site.example"]
    response = client.get("/healthz", headers={"host": "10.0.0.7"})
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    assert not response.cookies
    assert client.get("/accounts/login/", headers={"host": "10.0.0.7"}).status_code == 400


def test_a_message_to_workers_fails_at_once_without_redis(settings: Any, tmp_path: Path) -> None:
    with Celery("test", broker=f"redis+socket://{tmp_path}/redis.sock") as app:
        app.conf.broker_transport_options = settings.CELERY_BROKER_TRANSPORT_OPTIONS
        app.conf.task_publish_retry = settings.CELERY_TASK_PUBLISH_RETRY
        began = time.monotonic()
        with pytest.raises(OperationalError):
            app.send_task("anything")
        assert time.monotonic() - began < 2


def test_it_only_answers_questions(client: Client) -> None:
    assert client.post("/healthz").status_code == 405


def test_without_a_database_it_says_unavailable(data: Path) -> None:
    asked = subprocess.run(
        [sys.executable, "-c", ASK],
        cwd=ROOT,
        env=environment(
            data,
            DJANGO_SETTINGS_MODULE="agentsite.settings",
            DATABASE_URL="sqlite:////dev/null/db.sqlite3",
            REDIS_URL=NO_REDIS,
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    status, _, body = asked.stdout.partition(" ")
    assert status == "503"
    assert json.loads(body) == {"status": "degraded", "database": "down", "redis": "down", "worker": "down"}
