"""Whom people are sent to when a provider refuses: to an administrator, unless the key or the agent is their own."""

from __future__ import annotations

import pytest

from executor.advice import advise
from executor.core.config import AgentConfig
from executor.core.errors import LLMError, LLMErrorKind
from executor.core.llms.base import Endpoint
from executor.credentials import Credentials
from users.models import ApiKey, User

ADMINISTRATOR, KEY, AGENT = "administrator", "Check your key under Settings → Keys", "Check your agent under Settings"


def hint(kind: LLMErrorKind, key: ApiKey | None, *, is_personal: bool = False) -> str:
    error = LLMError(kind, "The provider answered.")
    config = AgentConfig(name="helper", title="Helper", provider="gpt", model="m", is_personal=is_personal)
    advise(error, config, Credentials(Endpoint("m", "", "secret"), key))
    return error.hint


@pytest.mark.parametrize(
    ("kind", "own", "of_the_site", "own_agent"),
    [
        ("auth", KEY, ADMINISTRATOR, ADMINISTRATOR),
        ("permission", KEY, ADMINISTRATOR, ADMINISTRATOR),
        ("not_found", KEY, ADMINISTRATOR, AGENT),
        ("quota", "Add credit", "Add credit", "Add credit"),
    ],
)
def test_a_refusal_says_who_can_mend_it(kind: LLMErrorKind, own: str, of_the_site: str, own_agent: str) -> None:
    mine, sites = ApiKey(owner=User(pk=1)), ApiKey(owner=None)
    assert own in hint(kind, mine)
    assert ("administrator" in hint(kind, mine)) == (own == ADMINISTRATOR)
    assert of_the_site in hint(kind, sites)
    assert of_the_site in hint(kind, None)
    assert own_agent in hint(kind, sites, is_personal=True)
