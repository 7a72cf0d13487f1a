"""Settings → Servers: connect a model server, see and try its models, and make agents of one's own from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from allauth.decorators import rate_limit
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import IntegrityError, transaction
from django.db.models import Max
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.crypto import get_random_string
from django.utils.text import slugify
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from conversations import words
from conversations.access import get_own_agent, get_probe
from conversations.settings_forms import KeyForm, OwnAgentForm, ServerForm, store_key
from conversations.views import Request
from executor import probes
from executor.core.llms.factory import LLMS, llm_class
from executor.credentials import address_problem, allowed_hosts
from executor.models import Agent, Probe, Task
from tools.core.hosts import AllowedHosts
from users import api_keys
from users.models import ApiKey, KeyState, User
from users.vault import KeyringError, NeedsReentry

#: Where servers on the same machine usually listen.
LOCAL = {
    11434: "Ollama",
    1234: "LM Studio",
    8080: "llama.cpp",
    8000: "vLLM",
}
INSTRUCTIONS = "You are a helpful assistant. Use the functions when they help, and say what you found."
ITERATIONS = 30
ON_TRIAL = "Your old key is used until the new one has passed its test. “Keys” says how that went."
NAME_LENGTH = 120
#: More are found by searching.
SHOWN = 40


# --- connecting ------------------------------------------------------------------------------------------------------


@require_safe
@login_required
@never_cache
def servers(request: Request) -> HttpResponse:
    return _servers(request)


@require_POST
@login_required
@rate_limit(action="ask_server")  # type: ignore[untyped-decorator]  # allauth carries no types
@never_cache
@sensitive_post_parameters("secret")
@sensitive_variables()
def connect_server(request: Request) -> HttpResponse:
    """Ask a server for its models. Its key, if there is one, is kept as all keys are. One that is there already is used
    if none is entered, and replaced only if the person says so."""
    form = ServerForm(request.POST, user=request.user)
    if not form.is_valid():
        return _servers(request, form)
    entered = form.cleaned_data
    place = entered["provider"], entered["base_url"]
    if entered["secret"] and not store_key(form, request.user, place, replace=entered["replace"]):
        return _servers(request, form)
    if api_keys.trials().filter(owner=request.user, provider=place[0], base_url=place[1]).exists():
        messages.info(request, ON_TRIAL)
    return redirect("server", probes.ask(request.user, *place).pk)


# --- its models ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TriedView:
    """A model that was asked something. `state` is "waiting", "answered" or "failed"."""

    id: UUID
    model: str
    state: str
    problem: str
    took: str

    @classmethod
    def of(cls, probe: Probe) -> TriedView:
        problem = _problem(probe)
        state = "waiting" if probes.is_awaited(probe) else "failed" if problem else "answered"
        return cls(probe.pk, probe.model, state, problem, words.duration(probe.started_at, probe.ended_at))


@require_safe
@login_required
@never_cache
def server(request: Request, probe_id: UUID) -> HttpResponse:
    """The models that were found, or that they are being looked for; of a tried model, how it went."""
    probe = get_probe(request.user, probe_id)
    if probe.model:
        if not request.htmx:
            return redirect("servers")
        return render(request, "conversations/_tried.html", {"tried": TriedView.of(probe)})
    tried = _tried(request, probe)
    context = {**_models(request, probe, tried), "is_waiting": probes.is_awaited(probe)}
    if request.htmx:
        return render(request, "conversations/_models.html", context)
    context["must_look_again"] = context["is_waiting"] or (tried is not None and tried.state == "waiting")
    return render(request, "conversations/server.html", context)


@require_POST
@login_required
@rate_limit(action="ask_server")  # type: ignore[untyped-decorator]
def try_model(request: Request, probe_id: UUID) -> HttpResponse:
    """Ask one of the models a short question."""
    probe = get_probe(request.user, probe_id)
    model = request.POST.get("model", "")
    if model not in probe.found:
        messages.error(request, "The server has no such model any more.")
        return redirect("server", probe.pk)
    tried = probes.ask(request.user, probe.provider, probe.base_url, model)
    if request.htmx:
        return render(request, "conversations/_tried.html", {"tried": TriedView.of(tried)})
    return redirect(f"{reverse('server', args=[probe.pk])}?tried={tried.pk}")


@require_POST
@login_required
def use_model(request: Request, probe_id: UUID) -> HttpResponse:
    """Make an agent of one of the models: the person's own, or everybody's if they may."""
    probe = get_probe(request.user, probe_id)
    model = request.POST.get("model", "")
    problem = address_problem(request.user, probe.base_url)
    if model not in probe.found:
        problem = "The server has no such model any more."
    elif len(model) > NAME_LENGTH:
        problem = f"The name of this model is too long: it has more than {NAME_LENGTH} characters."
    if problem:
        messages.error(request, problem)
        return redirect("server", probe.pk)
    for_everybody = "everybody" in request.POST and request.user.has_perm("executor.add_agent")
    agent = make_agent(request.user, probe.provider, probe.base_url, model, for_everybody=for_everybody)
    messages.success(request, f"The agent “{agent.title}” is ready.")
    if for_everybody:
        _share_key(request, probe)
    return redirect(f"{reverse('home')}?agent={agent.name}")


def _share_key(request: Request, probe: Probe) -> None:
    """Give everybody the key, too, with which an agent for everybody was made; or say that they need another."""
    key, host = _key_of_their_own(request.user, probe), _host(probe.base_url, probe.provider)
    if key is None:
        return
    if "share_key" in request.POST and _may_share_keys(request.user):
        try:
            api_keys.share(key)
        except (api_keys.KeyThere, NeedsReentry, KeyringError) as error:
            messages.error(request, f"Your key was not shared. {error}")
        else:
            messages.success(request, f"Everybody asks {host} with your key {key.fingerprint} now, which pays for it.")
            return
    messages.warning(request, f"Your key is only yours: everybody else needs a key of their own for {host}.")


def _key_of_their_own(user: User, probe: Probe) -> ApiKey | None:
    """The key of `user` where others have none of the site's to ask with."""
    there = api_keys.live().filter(provider=probe.provider, base_url=probe.base_url)
    if there.filter(owner=None, restricted=False).exists():
        return None
    return there.filter(owner=user).first()


def _failed_key(user: User, probe: Probe) -> ApiKey | None:
    """The key of `user` there, if it may as well be replaced."""
    key = api_keys.live().filter(owner=user, provider=probe.provider, base_url=probe.base_url).first()
    return key if key and key.state in (KeyState.FAILED, KeyState.NEEDS_REENTRY) else None


def _may_share_keys(user: User) -> bool:
    return user.is_staff and user.has_perm("users.add_apikey")


def make_agent(user: User, provider: str, base_url: str, model: str, *, for_everybody: bool = False) -> Agent:
    """An agent with `model`; the one that there is already, if there is."""
    owner = None if for_everybody else user
    made = Agent.objects.filter(owner=owner, provider=provider, base_url=base_url, model=model, enabled=True).first()
    if made:
        return made
    last: int = Agent.objects.filter(owner=None).aggregate(last=Max("position"))["last"] or 0
    start = slugify(model.rpartition("/")[2]) or "model"
    start = start if for_everybody else f"{slugify(user.username)[:20]}-{start}"
    title = _free_title(user, _title(model, _host(base_url, provider)), provider, base_url, for_everybody)
    suffix = ""
    while True:
        try:
            with transaction.atomic():
                return Agent.objects.create(
                    name=f"{start[: 60 - len(suffix)]}{suffix}",
                    title=title,
                    description=f"{model} at {_host(base_url, provider)}"[:300],
                    provider=provider,
                    model=model,
                    base_url=base_url,
                    instructions=INSTRUCTIONS,
                    max_iterations=ITERATIONS,
                    owner=owner,
                    position=last + 1,
                )
        except IntegrityError:  # Somebody has this name already.
            if suffix:
                raise
            suffix = f"-{get_random_string(8, 'abcdefghijkmnpqrstuvwxyz23456789')}"


def _free_title(user: User, title: str, provider: str, base_url: str, for_everybody: bool) -> str:
    """`title`, with what tells it from those that `user` chooses from: whose it is, or where it lies."""
    others = list(Agent.objects.usable_by(user))
    namesakes = [agent for agent in others if agent.title == title]
    if not namesakes:
        return title
    same_place = any((agent.provider, agent.base_url) == (provider, base_url) for agent in namesakes)
    whose = "for everybody" if for_everybody else "only me"
    mark = f" ({whose})" if same_place else f" ({_host(base_url, provider)[:40]})"
    marked = f"{title[: 80 - len(mark)]}{mark}"
    return marked if marked not in {agent.title for agent in others} else f"{title[:70]} ({len(namesakes) + 1})"


def _title(model: str, host: str) -> str:
    """What the agent of a model is called: as the last part of the model's name, or all of it, if there is something to
    read in it."""
    for name in (model.rpartition("/")[2], model):
        if any(character.isalnum() for character in name):
            return "".join(filter(str.isprintable, name)).strip()[:80]
    return host[:80]


# --- agents of one's own ---------------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@never_cache
def edit_agent(request: Request, agent_id: int) -> HttpResponse:
    agent = get_own_agent(request.user, agent_id)
    form = OwnAgentForm(request.POST or None, instance=get_own_agent(request.user, agent_id))
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, "Saved.")
        return redirect(f"{reverse('servers')}#agents")
    context = {"agent": agent, "form": form, "host": _host(agent.base_url, agent.provider)}
    return render(request, "conversations/edit_agent.html", context, status=422 if form.errors else 200)


@require_POST
@login_required
def delete_agent(request: Request, agent_id: int) -> HttpResponse:
    """What was said with it stays, and its versions with that."""
    agent = get_own_agent(request.user, agent_id)
    if Task.objects.filter(agent_version__agent=agent).exists():
        Agent.objects.filter(pk=agent.pk).update(enabled=False)
    else:
        agent.delete()
    messages.success(request, f"The agent “{agent.title}” was deleted.")
    return redirect(f"{reverse('servers')}#agents")


# --- what they have in common ----------------------------------------------------------------------------------------


def _servers(request: Request, form: ServerForm | None = None) -> HttpResponse:
    own = Agent.objects.filter(owner=request.user, enabled=True)
    keys = api_keys.live().filter(owner=request.user)
    connected = dict.fromkeys([agent.place for agent in own] + [(key.provider, key.base_url) for key in keys])
    context = {
        "form": form or ServerForm(user=request.user),
        "local": local_addresses(request.user),
        "agents": [{"agent": agent, "host": _host(agent.base_url, agent.provider)} for agent in own],
        "keys": [
            {"id": key.pk, "label": _host("", key.provider)} for key in keys.filter(base_url="").order_by("provider")
        ],
        "connected": [{"provider": provider, "base_url": base_url} for provider, base_url in connected if base_url],
    }
    return render(request, "conversations/servers.html", context, status=422 if form else 200)


def local_addresses(user: User) -> list[tuple[str, str]]:
    """Name and address of the servers near this one that `user` may connect."""
    addresses = {f"http://127.0.0.1:{port}/v1": name for port, name in LOCAL.items()}
    if allowed_hosts(user) is not None:
        for host in AllowedHosts(settings.MODEL_HOSTS).hosts:
            addresses.setdefault(f"http://{host}/v1", LOCAL.get(host.port or 80, str(host)))
    return [(name, address) for address, name in addresses.items() if not address_problem(user, address)]


def _models(request: Request, probe: Probe, tried: TriedView | None) -> dict[str, Any]:
    query = request.GET.get("q", "")[:200].strip()
    wanted = query.lower().split()
    names = [name for name in sorted(probe.found) if all(word in name.lower() for word in wanted)]
    if tried and tried.model in names:  # In front, so that a page without scripts shows how it went.
        names = [tried.model, *(name for name in names if name != tried.model)]
    own = Agent.objects.filter(owner=request.user, provider=probe.provider, base_url=probe.base_url, enabled=True)
    agents = dict(own.values_list("model", "name"))
    return {
        "probe": probe,
        "host": _host(probe.base_url, probe.provider),
        "problem": "" if probes.is_awaited(probe) else _problem(probe),
        "models": [
            {"name": name, "agent": agents.get(name, ""), "tried": tried if tried and tried.model == name else None}
            for name in names[:SHOWN]
        ],
        "more": max(0, len(names) - SHOWN),
        "q": query,
        "tried": tried,
        "may_share": request.user.has_perm("executor.add_agent"),
        "key_form": KeyForm(),
        "failed_key": _failed_key(request.user, probe),
        "own_key": _key_of_their_own(request.user, probe),
        "may_share_key": _may_share_keys(request.user),
    }


def _tried(request: Request, probe: Probe) -> TriedView | None:
    """The model of this server that was tried last, by a page without scripts."""
    try:
        tried = Probe.objects.filter(pk=UUID(request.GET.get("tried", "")), user=request.user).first()
    except ValueError:
        return None
    same = tried and (tried.provider, tried.base_url) == (probe.provider, probe.base_url)
    return TriedView.of(tried) if tried and same else None


def _problem(probe: Probe) -> str:
    if probe.ended_at is None:
        return "No worker has answered. Try again in a moment; if that does not help, tell an administrator."
    return probe.problem


def _host(base_url: str, provider: str) -> str:
    """Where it is asked, in short."""
    return urlsplit(base_url).netloc or (llm_class(provider).label if provider in LLMS else provider)
