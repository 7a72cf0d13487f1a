"""/metrics: who may look, and what they get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from agentsite import prepare
from users.models import User

pytestmark = pytest.mark.django_db(transaction=True)


def status(client: Client, authorization: str | None = None) -> int:
    headers = {} if authorization is None else {"Authorization": authorization}
    return client.get("/metrics", headers=headers).status_code


def test_an_administrator_gets_prometheus_text(dora: User) -> None:
    client = Client()
    client.force_login(dora)
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "\nagentsite_queue_length 0.0\n" in response.content.decode()
    assert "no-store" in response.headers["Cache-Control"]
    dora.is_active = False
    dora.save(update_fields=["is_active"])
    assert status(client) == 401


def test_people_and_visitors_are_told_who_may(alice: User) -> None:
    person = Client()
    person.force_login(alice)
    for client in (person, Client()):
        response = client.get("/metrics")
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert "METRICS_TOKEN" in response.content.decode()
        assert "agentsite_" not in response.content.decode()


def test_who_has_the_token_may_and_nobody_else(settings: Any) -> None:
    settings.METRICS_TOKEN = "s3cret"
    given = "Bearer s3cret"
    assert status(Client(), given) == 200
    assert status(Client(), given.replace("Bearer", "bearer")) == 200
    for wrong in (
        "Bearer secret",
        "Bearer",
        "Bearer ",
        "Bearer sécret",
        given.replace("Bearer", "Basic"),
        f"{given} x",
        "",
    ):
        assert status(Client(), wrong) == 401, wrong


def test_without_a_token_nobody_has_it(settings: Any) -> None:
    settings.METRICS_TOKEN = ""
    assert {status(Client(), wrong) for wrong in ("Bearer ", "Bearer", "", None)} == {401}


def test_it_is_only_read(dora: User) -> None:
    client = Client()
    client.force_login(dora)
    assert client.post("/metrics").status_code == 405


def test_up_begins_to_count_anew(settings: Any, tmp_path: Path) -> None:
    settings.METRICS_DIR = tmp_path
    (tmp_path / "counter_1.db").write_bytes(b"of a process that is gone")
    (tmp_path / "something-else").touch()
    prepare.counts()
    assert [file.name for file in tmp_path.iterdir()] == ["something-else"]
