"""An answer that its provider keeps outlives the worker that asked for it: real processes, one question, one bill."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.agentsite.conftest import eventually
from tests.chaos.site import Site, Visitor
from tests.fakes.model_server import ModelServer

pytestmark = pytest.mark.chaos

WORDS = " ".join(f"word{number}" for number in range(40))
USAGE = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}


@pytest.fixture
def site(tmp_path: Path, model_server: ModelServer) -> Iterator[Site]:
    with Site(tmp_path / "data") as site:
        assert site.address
        fields = {"provider": "gpt", "model": "gpt-6.1-sol", "base_url": model_server.base_url}
        site.add_agent("careful", parameters={"keep_response": True}, **fields)
        site.add_user("alice")
        yield site


def asked(site: Site, visitor: Visitor) -> UUID:
    """A task in the middle of its answer, some of which is on record."""
    turn = {"text": WORDS, "rate": 5, "usage": USAGE}
    task = visitor.ask(f"Go.\n@turns {json.dumps([turn])}", agent="careful")
    eventually(lambda: any("word5" in step["text"] for step in site.steps(task)), "it is being answered")
    return task


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_an_answer_is_asked_for_once_and_whole_when_its_worker_ends_in_the_middle_of_it(
    site: Site, model_server: ModelServer, how: signal.Signals
) -> None:
    alice = site.log_in("alice")
    task = asked(site, alice)
    pid = site.send("worker", how)
    site.wait_for_another("worker", than=pid)
    row = site.wait_until_over(task)
    assert (row["status"], row["error"]) == ("done", "")
    (step,) = site.steps(task)
    assert (step["status"], step["text"], step["attempt"]) == ("done", WORDS, 2)
    assert (row["fence"], row["model_calls"], row["input_tokens"], row["unpriced_calls"]) == (2, 1, 1000, 0)
    assert len(model_server.asked) == 1
    (kept,) = model_server.kept.by_id.values()
    assert (kept.fetched, kept.cancelled) == (1, False)
    page = alice.get(alice.conversation)
    assert page.count(f"<p>{WORDS}</p>") == 1


def test_stop_reaches_the_provider(site: Site, model_server: ModelServer) -> None:
    alice = site.log_in("alice")
    task = asked(site, alice)
    alice.post(f"/t/{task}/stop/")
    assert site.wait_until_over(task)["status"] == "stopped"
    (kept,) = model_server.kept.by_id.values()
    eventually(lambda: kept.cancelled, "the provider knows")
