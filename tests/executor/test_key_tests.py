"""Tests of keys, and questions to servers: what a worker asks, with which key, and what it writes down."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from django.conf import settings as django_settings
from django.db.models.functions import Now

from executor import probes
from executor.core.llms._http import close_http_client
from executor.models import Agent, Probe
from executor.worker import WorkerProcess
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn
from users import api_keys
from users.models import ApiKey, KeyState, User

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("_database_threads")]

RIGHT, WRONG = "sk-canary-the-right-one-0123456789", "sk-canary-the-wrong-one-0123456789"
FORMATS = ["gpt", "claude", "gemini", "openai_compatible"]


@pytest.fixture
def ada(transactional_db: None) -> User:
    return User.objects.create_user("ada")


@pytest.fixture(autouse=True)
def allowed(settings: Any, model_server: ModelServer) -> None:
    """The administrator allows the server of these tests, and it takes one key only."""
    settings.MODEL_HOSTS = [urlsplit(model_server.address).netloc]
    model_server.api_key = RIGHT


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    async def answer() -> None:
        try:
            async with asyncio.timeout(20):
                await coroutine
        finally:
            await close_http_client()

    asyncio.run(answer())


def address(server: ModelServer, provider: str) -> str:
    return server.address if provider in ("claude", "gemini") else server.base_url


def after_a_test(key: ApiKey) -> ApiKey:
    probes.ask_key_test(key)
    run(probes.answer_key_test(key.pk))
    return ApiKey.objects.get(pk=key.pk)


def answered(probe: Probe) -> Probe:
    run(probes.answer_probe(probe.pk))
    return Probe.objects.get(pk=probe.pk)


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", FORMATS)
def test_a_key_works_if_a_model_answers_it(ada: User, model_server: ModelServer, provider: str) -> None:
    key = after_a_test(api_keys.add(ada, provider, RIGHT, address(model_server, provider)))
    assert (key.state, key.check_problem, key.check_note) == (KeyState.READY, "", "")
    assert not key.awaits_check
    (asked,) = model_server.asked
    assert RIGHT in json.dumps(asked.headers)


@pytest.mark.parametrize("provider", FORMATS)
def test_a_key_that_is_refused_has_the_providers_reason_and_shows_nothing_of_itself(
    ada: User, model_server: ModelServer, provider: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = after_a_test(api_keys.add(ada, provider, WRONG, address(model_server, provider)))
    assert key.state == KeyState.FAILED
    assert "Incorrect API key provided: •••" in key.check_problem
    told = json.dumps([*ApiKey.objects.values()], default=str) + caplog.text
    assert WRONG not in told
    assert WRONG[:14] not in told


def test_the_model_that_an_agent_uses_there_is_asked(ada: User, model_server: ModelServer) -> None:
    Agent.objects.create(
        name="own", title="Own", provider="claude", model="stream-1-0", base_url=model_server.address, owner=ada
    )
    assert after_a_test(api_keys.add(ada, "claude", RIGHT, model_server.address)).state == KeyState.READY
    (asked,) = model_server.asked
    assert asked.body["model"] == "stream-1-0"


def test_a_key_without_that_model_is_fine_and_says_so(ada: User, model_server: ModelServer) -> None:
    model_server.script([Turn(fault="404")])
    key = after_a_test(api_keys.add(ada, "claude", RIGHT, model_server.address))
    assert key.state == KeyState.READY
    assert key.check_note == "It is accepted, but the model it was tested with, echo, is not available to it."


@pytest.mark.parametrize(
    ("fault", "reason"), [("quota", "You exceeded your current quota"), ("403", "Your key may not use this model")]
)
def test_a_key_that_is_known_and_may_not_ask_has_failed(
    ada: User, model_server: ModelServer, fault: Any, reason: str
) -> None:
    model_server.script([Turn(fault=fault)])
    key = after_a_test(api_keys.add(ada, "gpt", RIGHT, model_server.base_url))
    assert reason in key.check_problem


def test_a_test_that_works_takes_back_the_one_that_failed(ada: User, model_server: ModelServer) -> None:
    model_server.script([Turn(fault="403")])
    key = after_a_test(api_keys.add(ada, "gpt", RIGHT, model_server.base_url))
    assert key.state == KeyState.FAILED
    assert after_a_test(key).state == KeyState.READY


@pytest.mark.parametrize(
    ("base_url", "reason"),
    [
        ("http://127.0.0.1:1/v1", "http://127.0.0.1:1 could not be reached"),
        ("http://nowhere.invalid/v1", "The name in http://nowhere.invalid could not be looked up."),
    ],
)
def test_a_key_whose_server_does_not_answer_has_not_failed(
    ada: User, settings: Any, base_url: str, reason: str
) -> None:
    settings.MODEL_HOSTS = ["127.0.0.1:1", "nowhere.invalid:80"]
    key = after_a_test(api_keys.add(ada, "gpt", RIGHT, base_url))
    assert key.state == KeyState.UNTESTED
    assert key.check_problem.startswith(f"Could not be tested: {reason}")
    assert "Errno" not in key.check_problem


@pytest.mark.parametrize("provider", FORMATS)
@pytest.mark.parametrize("fault", ["400", "500", "529", "html_502", "html_200", "error_event"])
def test_a_key_has_failed_only_where_it_was_refused(
    ada: User, model_server: ModelServer, provider: str, fault: Any
) -> None:
    model_server.script([Turn(fault=fault, after=0)] * 4)
    key = after_a_test(api_keys.add(ada, provider, RIGHT, address(model_server, provider)))
    assert key.state == KeyState.UNTESTED, key.check_problem
    assert key.check_problem.startswith("Could not be tested: The ")


def test_a_new_key_takes_over_when_it_has_passed_its_test(ada: User, model_server: ModelServer) -> None:
    old = after_a_test(api_keys.add(ada, "gpt", RIGHT, model_server.base_url))
    wrong = after_a_test(api_keys.add(ada, "gpt", WRONG, model_server.base_url, on_trial=True))
    assert (wrong.state, wrong.secret) == (KeyState.REVOKED, "")
    assert api_keys.find(ada, "gpt", model_server.base_url) == old
    assert "is not: The provider answered 401" in ApiKey.objects.get(pk=old.pk).check_note
    right = after_a_test(api_keys.add(ada, "gpt", RIGHT, model_server.base_url, on_trial=True))
    assert api_keys.find(ada, "gpt", model_server.base_url) == right
    assert right.state == KeyState.READY
    assert list(ApiKey.objects.exclude(secret="")) == [right]


@pytest.mark.parametrize("provider", FORMATS)
def test_a_server_that_broke_does_not_judge_the_key_whatever_it_says(ada: User, settings: Any, provider: str) -> None:
    said = {"message": "Boom.", "type": "invalid_request_error", "code": "invalid_api_key"}
    with broken_server(json.dumps({"error": said}).encode()) as port:
        settings.MODEL_HOSTS = [f"127.0.0.1:{port}"]
        key = after_a_test(api_keys.add(ada, provider, RIGHT, f"http://127.0.0.1:{port}"))
    assert (key.state, key.check_problem) == (
        KeyState.UNTESTED,
        "Could not be tested: The provider answered 500: Boom.",
    )


@contextmanager
def broken_server(body: bytes) -> Iterator[int]:
    """Answers 500 and `body` to everything. Its port."""

    class Broken(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(500)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_key_that_was_revoked_meanwhile_is_sent_nowhere(ada: User, model_server: ModelServer) -> None:
    key = api_keys.add(ada, "gpt", RIGHT, model_server.base_url)
    api_keys.revoke(key)
    assert after_a_test(key).checked_at is None
    assert model_server.requests == []


def test_a_key_that_cannot_be_read_says_so_and_is_sent_nowhere(ada: User, model_server: ModelServer) -> None:
    key = api_keys.add(ada, "gpt", RIGHT, model_server.base_url)
    ApiKey.objects.filter(pk=key.pk).update(secret=api_keys.add(ada, "claude", RIGHT).secret)
    key = after_a_test(key)
    assert key.state == KeyState.NEEDS_REENTRY
    assert "Enter it again" in key.check_problem
    assert model_server.requests == []


def test_a_wrong_keyring_is_told_without_its_content(ada: User, model_server: ModelServer, settings: Any) -> None:
    key = api_keys.add(ada, "gpt", RIGHT, model_server.base_url)
    settings.KEYRING = "garbled"
    key = after_a_test(key)
    assert "KEYRING" in key.check_problem
    assert "garbled" not in key.check_problem


def test_a_key_is_not_sent_to_a_private_address_that_nobody_allows(
    ada: User, model_server: ModelServer, settings: Any
) -> None:
    settings.MODEL_HOSTS = []
    key = after_a_test(api_keys.add(ada, "gpt", RIGHT, model_server.base_url))
    reason = "127.0.0.1 is not on the public internet. An administrator can allow it in MODEL_HOSTS."
    assert key.check_problem == f"Could not be tested: {reason}"
    assert model_server.requests == []


def test_a_name_that_leads_to_a_private_address_is_refused_when_it_is_asked(
    ada: User, model_server: ModelServer, settings: Any
) -> None:
    settings.MODEL_HOSTS = []
    # The address looks public; looking it up shows that it is this machine.
    key = after_a_test(api_keys.add(ada, "gpt", RIGHT, f"https://127.1:{model_server.port}/v1"))
    assert "is not on the public internet" in key.check_problem
    assert model_server.requests == []


def test_the_message_to_the_worker_holds_nothing_but_an_id(ada: User, redis_server: str) -> None:
    key = api_keys.add(ada, "gpt", RIGHT)
    probes.ask_key_test(key)
    probe = probes.ask(ada, "gpt")
    wanted: list[list[object]] = [[key.pk], [str(probe.pk)]]
    with redis.from_url(redis_server) as client:
        until = time.monotonic() + 10
        while True:  # Other tests have left messages there.
            messages = [json.loads(message) for message in client.lrange("celery", 0, -1)]
            bodies = [json.loads(base64.b64decode(message["body"]))[0] for message in messages]
            if all(body in bodies for body in wanted):
                break
            assert time.monotonic() < until, "No message was sent."
            time.sleep(0.02)
    assert RIGHT not in json.dumps(messages)
    assert django_settings.CELERY_TASK_IGNORE_RESULT, "Results would lie about in Redis."


# --- questions to servers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", FORMATS)
def test_a_server_is_asked_for_its_models_and_one_of_them_whether_it_answers(
    ada: User, model_server: ModelServer, provider: str
) -> None:
    base_url = address(model_server, provider)
    api_keys.add(ada, provider, RIGHT, base_url)
    listed = answered(probes.ask(ada, provider, base_url))
    assert (listed.found, listed.problem) == (["echo", "scripted", "stream-200-50"], "")
    tried = answered(probes.ask(ada, provider, base_url, "echo"))
    assert (tried.problem, bool(tried.ended_at)) == ("", True)
    assert len(model_server.asked) == 1


def test_a_server_that_does_not_answer_well_has_its_reason(ada: User, model_server: ModelServer) -> None:
    listed = answered(probes.ask(ada, "openai_compatible", model_server.base_url))
    assert listed.problem == f"{model_server.base_url} wants a key, and there is none for it yet."
    model_server.api_key = ""
    model_server.script([Turn(fault="400")])
    assert "Invalid value" in answered(probes.ask(ada, "openai_compatible", model_server.base_url, "echo")).problem


def test_a_provider_without_a_key_is_not_asked(ada: User) -> None:
    assert answered(probes.ask(ada, "gpt")).problem == "There is no key for OpenAI yet."


def test_what_is_no_address_of_a_server_is_told_in_a_sentence(ada: User) -> None:
    assert "is not the address of a model server" in answered(probes.ask(ada, "openai_compatible")).problem


def test_a_message_that_comes_twice_asks_once(ada: User, model_server: ModelServer) -> None:
    api_keys.add(ada, "openai_compatible", RIGHT, model_server.base_url)
    probe = probes.ask(ada, "openai_compatible", model_server.base_url, "echo")
    first = answered(probe)
    assert answered(probe).ended_at == first.ended_at
    assert len(model_server.asked) == 1


def test_a_worker_that_goes_away_does_not_wait_for_an_answer(
    ada: User, model_server: ModelServer, redis_server: str
) -> None:
    model_server.script([Turn(fault="hang")])
    api_keys.add(ada, "openai_compatible", RIGHT, model_server.base_url)
    probe = probes.ask(ada, "openai_compatible", model_server.base_url, "echo")
    with closing(WorkerProcess(1)) as worker:
        thread = threading.Thread(target=worker.answer, args=(probes.answer_probe(probe.pk),))
        thread.start()
        until = time.monotonic() + 10
        while not model_server.asked:
            assert time.monotonic() < until
            time.sleep(0.02)
        worker.drain()
        thread.join(5)
        assert not thread.is_alive()
        worker.answer(probes.answer_probe(probes.ask(ada, "gpt").pk))  # Nor does it begin another one.
    assert not Probe.objects.exclude(ended_at=None).exists()


def test_after_thirty_seconds_without_a_worker_nothing_is_awaited_any_more(ada: User) -> None:
    probe, key = probes.ask(ada, "gpt"), api_keys.add(ada, "gpt", RIGHT)
    probes.ask_key_test(key)
    assert probes.is_awaited(probe)
    assert probes.is_test_awaited(key)
    before = Now() - timedelta(seconds=31)
    Probe.objects.update(created_at=before)
    ApiKey.objects.update(check_asked_at=before)
    assert not probes.is_awaited(Probe.objects.get())
    assert not probes.is_test_awaited(ApiKey.objects.get())
    Probe.objects.update(started_at=Now())
    assert probes.is_awaited(Probe.objects.get()), "somebody is at it"


def test_questions_are_forgotten_after_a_day(ada: User) -> None:
    old, new = probes.ask(ada, "gpt"), probes.ask(ada, "gpt")
    Probe.objects.filter(pk=old.pk).update(created_at=Now() - timedelta(hours=25))
    probes.forget_old()
    assert list(Probe.objects.all()) == [new]
