"""Whose key a task is asked with, and where it is sent."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission

from executor.core.config import AgentConfig
from executor.core.errors import TaskExecutionError
from executor.credentials import KeyMissing, credentials
from users import api_keys
from users.models import ApiKey, User

pytestmark = pytest.mark.django_db

GPT = AgentConfig("gpt", "GPT", "gpt", model="gpt-6.1-sol")
GATEWAY = AgentConfig("gateway", "Gateway", "openai_compatible", model="m", base_url="https://gateway.example/v1")
OWN, SITES = "sk-of-the-person-0123456789-own", "sk-of-the-site-0123456789-site"


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


def test_a_persons_own_key_goes_before_the_sites(ada: User) -> None:
    site = api_keys.add(None, "gpt", SITES)
    found = credentials(GPT, ada)
    assert (found.endpoint.api_key, found.api_key) == (SITES, site)
    own = api_keys.add(ada, "gpt", OWN)
    found = credentials(GPT, ada)
    assert (found.endpoint.api_key, found.api_key) == (OWN, own)
    assert found.endpoint.allowed_hosts is None
    own.refresh_from_db()
    assert own.last_used_at is not None


def test_a_sites_key_for_some_is_not_for_others(ada: User) -> None:
    team = Group.objects.create(name="Team")
    api_keys.add(None, "gpt", SITES, groups=[team])
    with pytest.raises(KeyMissing):
        credentials(GPT, ada)
    ada.groups.add(team)
    assert credentials(GPT, ada).endpoint.api_key == SITES


def test_the_agents_own_variable_goes_before_all_keys(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    api_keys.add(ada, "gpt", OWN)
    monkeypatch.setitem(os.environ, "SOME_API_KEY", "sk-of-the-agent")
    found = credentials(replace(GPT, api_key_variable="SOME_API_KEY"), ada)
    assert (found.endpoint.api_key, found.api_key) == ("sk-of-the-agent", None)


def test_a_key_is_sent_nowhere_but_to_its_address(ada: User) -> None:
    api_keys.add(ada, "openai_compatible", OWN, "https://gateway.example/v1/")
    assert credentials(GATEWAY, ada).endpoint.api_key == OWN
    elsewhere = replace(GATEWAY, base_url="https://other.example/v1")
    assert credentials(elsewhere, ada).endpoint.api_key == "", "a server of one's own may need none"
    api_keys.add(ada, "gpt", OWN)
    assert credentials(replace(GPT, base_url="https://gateway.example/v1"), ada).endpoint.api_key == ""


def test_no_key_says_where_to_add_one(ada: User) -> None:
    with pytest.raises(KeyMissing) as missing:
        credentials(GPT, ada)
    assert missing.value.message == "There is no key for OpenAI yet."
    assert "Settings → Keys" in missing.value.hint
    assert credentials(AgentConfig("demo", "Demo", "demo"), ada).endpoint.api_key == ""


@pytest.mark.parametrize(
    ("whose", "hint"), [("own", "Enter it again under Settings"), ("site", "Ask an administrator to enter it again")]
)
def test_a_key_that_cannot_be_read_any_more_says_who_can_help(ada: User, whose: str, hint: str) -> None:
    key = api_keys.add(ada if whose == "own" else None, "gpt", OWN)
    ApiKey.objects.filter(pk=key.pk).update(secret=api_keys.add(ada, "claude", OWN).secret)
    with pytest.raises(KeyMissing) as missing:
        credentials(GPT, ada)
    assert "cannot be read any more" in missing.value.message
    assert missing.value.hint.startswith(hint)


def test_a_wrong_keyring_is_the_administrators_matter(ada: User, settings: Any) -> None:
    api_keys.add(ada, "gpt", OWN)
    settings.KEYRING = "garbled"
    with pytest.raises(TaskExecutionError) as failure:
        credentials(GPT, ada)
    assert not isinstance(failure.value, KeyMissing)
    assert "administrator" in failure.value.hint
    assert "garbled" not in failure.value.message


def test_a_personal_agent_reaches_what_the_administrator_allows(ada: User, settings: Any) -> None:
    settings.MODEL_HOSTS = ["ollama:11434"]
    personal = replace(GATEWAY, is_personal=True)
    assert credentials(personal, ada).endpoint.allowed_hosts == frozenset({"ollama:11434"})
    ada.user_permissions.add(Permission.objects.get(codename="add_agent"))
    assert credentials(personal, User.objects.get(pk=ada.pk)).endpoint.allowed_hosts is None
