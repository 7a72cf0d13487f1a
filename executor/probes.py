"""Short questions to providers and servers: does this key work, which models are there, does this one answer.

A page asks; a worker answers into the row, the key's or the probe's. The message between them holds the row's id.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from executor import mcp_servers
from executor.core.config import AgentConfig
from executor.core.errors import LLMError, TaskExecutionError
from executor.core.events import Failed, ReasoningDelta, TextDelta
from executor.core.llms.base import BaseLlm, Endpoint
from executor.core.llms.factory import create_llm, llm_class
from executor.core.messages import user as user_message
from executor.credentials import address_problem, allowed_hosts, credentials, refused
from executor.database import in_database
from executor.hints import ask_worker
from executor.models import Agent, Probe
from users import api_keys
from users.models import UNTESTED, ApiKey, User
from users.vault import KeyringError, NeedsReentry

logger = logging.getLogger(__name__)

QUESTION = "Answer with the one word “yes”."
#: When nobody has begun after so long, there is no worker.
WORKER_WITHIN = timedelta(seconds=30)
#: Seconds that a key's test may take: less, so that it tells before the page gives it up.
KEY_TEST_WITHIN = 25.0
#: … and that a model may take, which a local server perhaps reads from a disk first.
ANSWER_WITHIN = 90.0
KEPT_FOR = timedelta(days=1)
# The key was refused, or what it stands for may not ask. Everything else says nothing of it.
_REFUSALS = ("auth", "permission", "quota")
# Of a server's models, these do not talk.
_SILENT = ("embed", "rerank", "whisper", "tts", "moderation", "image", "dall-e")


# --- asking, in the web process --------------------------------------------------------------------------------------


def ask_key_test(key: ApiKey) -> None:
    """Have `key` tested. The answer is in its row: `checked_at`, `check_problem`, `check_note`."""
    with transaction.atomic():
        api_keys.ask_check(key)
        transaction.on_commit(partial(ask_worker, "executor.test_key", key.pk))


def ask(user: User, provider: str, base_url: str = "", model: str = "") -> Probe:
    """Have `model` asked something; without one, have the models listed. With the key that `user` has there, if any."""
    with transaction.atomic():
        probe = Probe.objects.create(user=user, provider=provider, base_url=base_url, model=model)
        probe.refresh_from_db(fields=["created_at"])
        transaction.on_commit(partial(ask_worker, "executor.probe", str(probe.pk)))
    return probe


def is_awaited(probe: Probe) -> bool:
    """Whether an answer may still come."""
    if probe.ended_at:
        return False
    patience = timedelta(seconds=ANSWER_WITHIN + 10) if probe.started_at else WORKER_WITHIN
    return timezone.now() - (probe.started_at or probe.created_at) < patience


def is_test_awaited(key: ApiKey) -> bool:
    """… and may still come to the test of a key."""
    asked = key.check_asked_at
    return key.awaits_check and asked is not None and timezone.now() - asked < WORKER_WITHIN


def forget_old() -> None:
    Probe.objects.filter(created_at__lt=Now() - KEPT_FOR).delete()


# --- answering, on a worker's loop -----------------------------------------------------------------------------------


async def answer_key_test(key_id: int) -> None:
    """Test the key by a small real call, and record how it went."""
    key = await in_database(ApiKey.objects.select_related("owner").filter(pk=key_id, revoked_at=None).first)
    if key is None:  # Revoked or replaced a moment ago.
        return
    problem = note = ""
    is_refused, is_mcp = False, key.provider == mcp_servers.PROVIDER
    try:
        async with asyncio.timeout(KEY_TEST_WITHIN):
            note = await (mcp_servers.test_key(key) if is_mcp else _test(key))
    except TaskExecutionError as error:
        problem, is_refused = error.message, _refuses(error)
    except TimeoutError:
        problem = f"There was no answer within {KEY_TEST_WITHIN:g} seconds."
    except (NeedsReentry, KeyringError) as error:
        problem = str(error)
    except Exception:
        logger.exception("The test of key %s failed unexpectedly", key_id)
        problem = "Something went wrong inside AgentSite. The worker's log has the details."
    told = problem if is_refused or not problem else f"{UNTESTED}{problem}"
    await in_database(api_keys.record_check, key, told, note)
    if key.on_trial:
        await in_database(api_keys.end_trial, key)
        if is_mcp and not problem:
            await in_database(mcp_servers.ask_at, key.base_url)


def _refuses(error: TaskExecutionError) -> bool:
    """Whether it is a judgement of the key. A server that broke makes none, whatever it says."""
    return isinstance(error, LLMError) and error.kind in _REFUSALS and (error.status or 0) < 500


async def _test(key: ApiKey) -> str:
    """What there is to say of a key that works. Raises TaskExecutionError, NeedsReentry, KeyringError."""
    owner = key.owner
    # Where everybody's agents ask, an administrator has put the address.
    is_guarded = owner is not None and not await in_database(_is_everybodys, key)
    if owner and is_guarded and (problem := await in_database(address_problem, owner, key.base_url)):
        raise TaskExecutionError(problem)
    hosts = await in_database(allowed_hosts, owner) if owner and is_guarded else None
    secret = await in_database(api_keys.reveal, key)
    endpoint = partial(Endpoint, base_url=key.base_url, api_key=secret, allowed_hosts=hosts)
    model = llm_class(key.provider).test_model
    if key.base_url or not model:  # A server has models of its own.
        listed = await _llm(key.provider, endpoint(model)).list_models()
        used = await in_database(_used_there, key)
        model = next(iter([*used, *filter(_talks, listed), *listed]), "")
        if not model:
            return "It is accepted. There is no model to ask."
    try:
        await _answer(_llm(key.provider, endpoint(model)))
    except LLMError as error:
        if error.kind != "not_found":
            raise
        await _llm(key.provider, endpoint(model)).list_models()
        return f"It is accepted, but the model it was tested with, {model}, is not available to it."
    return ""


def _is_everybodys(key: ApiKey) -> bool:
    agents = Agent.objects.usable_by(None).filter(provider=key.provider)
    return any(agent.place == (key.provider, key.base_url) for agent in agents)


def _used_there(key: ApiKey) -> list[str]:
    """The models that agents have at the key's address."""
    agents = Agent.objects.usable_by(key.owner).filter(provider=key.provider, base_url=key.base_url)
    return [model for model in agents.values_list("model", flat=True) if model]


def _talks(model: str) -> bool:
    return not any(word in model.lower() for word in _SILENT)


async def answer_probe(probe_id: UUID) -> None:
    """Ask what the probe asks, and write the answer into its row."""
    began = await in_database(Probe.objects.filter(pk=probe_id, started_at=None).update, started_at=Now())
    if not began:  # Deleted, or a message that came twice.
        return
    probe = await in_database(Probe.objects.select_related("user").get, pk=probe_id)
    problem, found = "", list[str]()
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            cls = llm_class(probe.provider)
            # Some want a model's name before they list all.
            model = probe.model or cls.test_model
            config = AgentConfig("", cls.label, probe.provider, model, probe.base_url, is_personal=True)
            used = await in_database(credentials, config, probe.user)
            llm = _llm(probe.provider, used.endpoint)
            try:
                if probe.model:
                    await _answer(llm)
                else:
                    found = await llm.list_models()
            except LLMError as error:
                if error.kind == "auth":
                    await in_database(refused, used, config, error)
                raise
    except TaskExecutionError as error:
        problem = error.message
    except TimeoutError:
        problem = f"There was no answer within {ANSWER_WITHIN:g} seconds."
    except Exception:
        logger.exception("%s failed unexpectedly", probe)
        problem = "Something went wrong inside AgentSite. The worker's log has the details."
    rows = Probe.objects.filter(pk=probe_id)
    await in_database(rows.update, problem=problem, found=found, ended_at=Now())


def _llm(provider: str, endpoint: Endpoint) -> BaseLlm:
    try:
        return create_llm(provider, endpoint)
    except ValueError as error:
        raise TaskExecutionError(str(error)) from error


async def _answer(llm: BaseLlm) -> None:
    """Return as soon as the model says or thinks something, or has nothing to say. Raises LLMError."""
    async with aclosing(llm.stream([user_message(QUESTION)])) as events:
        async for event in events:
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, TextDelta | ReasoningDelta):
                return
