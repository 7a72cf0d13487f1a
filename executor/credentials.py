"""Where a task's model is asked and with which key: the agent's, the person's own, or the site's.

Keys are read in the worker, at the time of the call, and kept nowhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

from django.conf import settings

from executor.core.config import AgentConfig
from executor.core.errors import LLMError, TaskExecutionError
from executor.core.llms.base import Endpoint
from executor.core.llms.factory import llm_class
from executor.keys import key_variable
from tools.core.hosts import AllowedHosts, canonical
from tools.core.http import is_public
from users import api_keys
from users.models import ApiKey, User
from users.vault import KeyringError, NeedsReentry


class KeyMissing(TaskExecutionError):
    """The person can add a key and try again."""

    kind = "no_key"


@dataclass(frozen=True, slots=True)
class Credentials:
    """`api_key` is the row of the key that is used; None if it came from the environment, or none is needed."""

    endpoint: Endpoint
    api_key: ApiKey | None = None


def credentials(config: AgentConfig, user: User) -> Credentials:
    """For a call by `config` on behalf of `user`. An agent's own variable goes before people's keys.

    Raises:
        KeyMissing: There is none, or it cannot be read any more.
        TaskExecutionError: An administrator has to mend something.
    """
    hosts = allowed_hosts(user) if config.is_personal else None
    if config.is_personal and (problem := address_problem(user, config.base_url)):
        raise TaskExecutionError(problem, hint="Choose another agent, or ask an administrator.")
    if variable := _variable(config):
        return Credentials(Endpoint(config.model, config.base_url, _from_environment(config, variable), hosts))
    key = api_keys.find(user, config.provider, config.base_url)
    label = place(config.provider, config.base_url)
    if key is None:
        if needs_key(config.provider, config.base_url):
            raise KeyMissing(f"There is no key for {label} yet.", hint=_ADD_ONE)
        return Credentials(Endpoint(config.model, config.base_url, "", hosts))
    try:
        secret = api_keys.reveal(key)
    except NeedsReentry:
        whose = "Your key" if key.owner_id else "The site’s key"
        who = "Enter it again under Settings → Keys" if key.owner_id else "Ask an administrator to enter it again"
        raise KeyMissing(f"{whose} for {label} cannot be read any more.", hint=f"{who}, then try again.") from None
    except KeyringError as error:
        raise TaskExecutionError(
            f"Keys cannot be read: {error}", hint="An administrator can correct the site’s keyring."
        ) from None
    api_keys.touch(key)
    return Credentials(Endpoint(config.model, config.base_url, secret, hosts), key)


_ADD_ONE = "Add one under Settings → Keys, then try again. The demonstration needs none."


def needs_key(provider: str, base_url: str = "") -> bool:
    """Whether nothing can be asked there without a key. A server of one's own tells when it is asked."""
    return not base_url and llm_class(provider).needs_key


def place(provider: str, base_url: str = "") -> str:
    """Where a model is asked, as people call it: the provider, or the address of a server."""
    return base_url or llm_class(provider).label or provider


def refused(used: Credentials, config: AgentConfig, error: LLMError) -> None:
    """Note that what was `used` was not accepted (401): at the stored key, which says so from now on, or, if none was
    sent, in `error`, which then is of the kind that a person mends by adding one."""
    if used.api_key:
        api_keys.record_check(used.api_key, error.message)
    elif not used.endpoint.api_key:
        error.message = f"{place(config.provider, config.base_url)} wants a key, and there is none for it yet."
        error.hint = _ADD_ONE
        missing: Any = KeyMissing.kind  # Which no language model says.
        error.kind = missing


def accepted(used: Credentials) -> None:
    """Take back what was noted at the key, if anything was."""
    if used.api_key and used.api_key.check_problem:
        api_keys.record_check(used.api_key, "")


def allowed_hosts(user: User) -> frozenset[str] | None:
    """Where the models of a person's own agents may lie besides the public internet; None for anywhere.

    Who may edit agents in admin could choose any address there.
    """
    return None if user.has_perm("executor.add_agent") else frozenset(settings.MODEL_HOSTS)


def address_problem(user: User, base_url: str) -> str:
    """Why a model of `user`'s own may not lie there, as a sentence; "" if it may, as far as the address itself tells.

    Names are looked up when they are asked, by `tools.core.http.GuardedTransport`.
    """
    hosts = allowed_hosts(user)
    url = urlsplit(base_url)
    host = canonical(url.hostname or "")
    if hosts is None or not base_url or AllowedHosts(hosts).allow(host, _port(url)):
        return ""
    try:
        is_private = not is_public(ip_address(host))
    except ValueError:
        is_private = "." not in host or host.endswith((".localhost", ".local", ".internal"))
    if is_private:
        return f"{host} is not on the public internet. An administrator can allow it in MODEL_HOSTS."
    if url.scheme != "https":
        return "Use an address with https://. Without it, only hosts that an administrator allows in MODEL_HOSTS do."
    return ""


def _port(url: SplitResult) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _variable(config: AgentConfig) -> str:
    try:
        return key_variable(config.api_key_variable)
    except ValueError as error:  # A version from before this rule.
        raise TaskExecutionError(
            f"The agent “{config.title}” names a variable that may not be its key. {error}",
            hint="An administrator can correct the agent's settings.",
        ) from None


def _from_environment(config: AgentConfig, variable: str) -> str:
    if key := os.environ.get(variable, ""):
        return key
    raise TaskExecutionError(
        f"The agent “{config.title}” has no key: the environment variable {variable} is not set.",
        hint="An administrator sets it and restarts AgentSite, or chooses another agent.",
    )
