"""Settings → Keys: for each provider whether the person has a key, whether it works, and what it was used for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from allauth.decorators import rate_limit
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.timesince import timesince
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_GET, require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh

from conversations.access import get_key
from conversations.present import key_anchor, wants_key
from conversations.servers import local_addresses
from conversations.settings_forms import AddKeyForm, KeyForm, formats, key_providers, store_key
from conversations.views import Request
from executor import probes, usage
from executor.core.llms.factory import LLMS, llm_class
from executor.models import Agent
from users import api_keys
from users.models import ApiKey, KeyState, User


@dataclass(frozen=True, slots=True)
class KeyView:
    """`tone` is the colour of `state`. `spent` says what is known of the money, in words."""

    id: int
    fingerprint: str
    state: str
    tone: str
    problem: str
    note: str
    is_testing: bool
    added_at: datetime
    used_at: datetime | None
    used: str
    tested_at: datetime | None
    spent: str

    @classmethod
    def of(cls, key: ApiKey, spent: str = "") -> KeyView:
        state, tone = _STATES[key.state]
        problem, note = key.check_problem, key.check_note
        is_testing = probes.is_test_awaited(key)
        if key.state == KeyState.NEEDS_REENTRY:
            problem, note = "It cannot be read any more. Replace it with the same key or another.", ""
        elif is_testing:
            state, tone, problem, note = "Testing…", "", "", ""
        elif key.awaits_check:
            state, tone, note = "Not tested", "warn", ""
            problem = "No worker has answered. Test it again in a moment; if that does not help, tell an administrator."
        elif key.checked_at is None:
            state, tone = "Not tested", ""
        return cls(
            id=key.pk,
            fingerprint=key.fingerprint,
            state=state,
            tone=tone,
            problem=problem,
            note=note,
            is_testing=is_testing,
            added_at=key.created_at,
            used_at=key.last_used_at,
            used=_ago(key.last_used_at) if key.last_used_at else "",
            tested_at=key.checked_at,
            spent=spent,
        )


_STATES = {
    KeyState.READY: ("Works", "ok"),
    KeyState.FAILED: ("Failed its test", "danger"),
    KeyState.UNTESTED: ("Not tested", "warn"),
    KeyState.ON_TRIAL: ("Not tested", "warn"),
    KeyState.NEEDS_REENTRY: ("Needs re-entry", "warn"),
    KeyState.REVOKED: ("Revoked", ""),
}


@dataclass(frozen=True, slots=True)
class KeyCard:
    """A provider, or (`base_url`) a server, and the key for it. `trial` is one that takes its place when its test was
    passed; `form` is the one to enter it with."""

    provider: str
    anchor: str
    title: str
    base_url: str
    key: KeyView | None
    trial: KeyView | None
    has_site_key: bool
    key_page: str
    key_host: str
    form: KeyForm
    is_open: bool


@require_safe
@login_required
@never_cache
def keys(request: Request) -> HttpResponse:
    return _keys(request)


@require_POST
@login_required
@rate_limit(action="test_key")  # type: ignore[untyped-decorator]  # allauth carries no types
@never_cache
@sensitive_post_parameters("secret")
@sensitive_variables()
def add_key(request: Request) -> HttpResponse:
    """Add one where there is none. It is tested at once."""
    form = AddKeyForm(request.POST, places=_places(request.user).keys())
    if form.is_valid():
        place = form.cleaned_data["provider"], form.cleaned_data["base_url"]
        if _store(request, form, *place, replace=False):
            return _to_card(*place)
    return _keys(request, form, request.POST.get("provider", ""), request.POST.get("base_url", ""))


@require_POST
@login_required
@rate_limit(action="test_key")  # type: ignore[untyped-decorator]
@never_cache
@sensitive_post_parameters("secret")
@sensitive_variables()
def replace_key(request: Request, key_id: int) -> HttpResponse:
    key = get_key(request.user, key_id)
    form = KeyForm(request.POST)
    if form.is_valid() and _store(request, form, key.provider, key.base_url):
        return _to_card(key.provider, key.base_url)
    return _keys(request, form, key.provider, key.base_url)


@require_POST
@login_required
@rate_limit(action="test_key")  # type: ignore[untyped-decorator]
def test_key(request: Request, key_id: int) -> HttpResponse:
    key = get_key(request.user, key_id)
    trials = api_keys.trials().filter(owner=request.user, provider=key.provider, base_url=key.base_url)
    for each in (key, *trials):
        if not probes.is_test_awaited(each):
            probes.ask_key_test(each)
    return _to_card(key.provider, key.base_url)


@require_GET
@login_required
@never_cache
def key_state(request: Request, key_id: int) -> HttpResponse:
    """How its test goes: what the page asks until it is over. With `trial`, of one that is not in use before."""
    if request.htmx and "trial" in request.GET:
        found = api_keys.trials().filter(pk=key_id, owner=request.user).first()
        if found is None:  # It is in use now, or was not taken: the whole card says so.
            return HttpResponseClientRefresh()
        return render(request, "conversations/_key_trial.html", {"trial": KeyView.of(found)})
    key = get_key(request.user, key_id)
    return _state(request, key) if request.htmx else _to_card(key.provider, key.base_url)


@require_POST
@login_required
def revoke_key(request: Request, key_id: int) -> HttpResponse:
    key = get_key(request.user, key_id)
    api_keys.revoke(key)
    messages.success(request, f"The key {key.fingerprint} was revoked and wiped here. Delete it at the provider too.")
    return _to_card(key.provider, key.base_url)


@require_POST
@login_required
@rate_limit(action="ask_server")  # type: ignore[untyped-decorator]
def key_models(request: Request, key_id: int) -> HttpResponse:
    """Which models the key can ask."""
    key = get_key(request.user, key_id)
    return redirect("server", probes.ask(request.user, key.provider, key.base_url).pk)


# --- what they have in common ----------------------------------------------------------------------------------------


def _store(request: Request, form: KeyForm, provider: str, base_url: str, *, replace: bool = True) -> bool:
    """False if it cannot be; the form says why."""
    if not base_url and form.doubt(provider):
        return False
    return store_key(form, request.user, (provider, base_url), replace=replace)


def _keys(request: Request, refused: KeyForm | None = None, provider: str = "", base_url: str = "") -> HttpResponse:
    wanted = provider if refused else request.GET.get("for", "")
    base_url = base_url if refused else request.GET.get("at", "")
    cards = key_cards(request.user, refused, wanted, base_url)
    context = {
        "cards": [card for card in cards if not card.base_url],
        "servers": [card for card in cards if card.base_url],
        "local": bool(local_addresses(request.user)),
        "is_testing": any(key.is_testing for card in cards for key in (card.key, card.trial) if key),
    }
    return render(request, "conversations/keys.html", context, status=422 if refused else 200)


def key_cards(user: User, refused: KeyForm | None = None, wanted: str = "", base_url: str = "") -> list[KeyCard]:
    """A card for each provider, then one for each other place that the person has a key for, or that wants one."""
    stored = list(ApiKey.objects.filter(owner=user, revoked_at=None).order_by("created_at"))
    own = {(key.provider, key.base_url): key for key in stored if not key.on_trial}
    trials = {(key.provider, key.base_url): KeyView.of(key) for key in stored if key.on_trial}
    places, spent = api_keys.places(user), _spent(own.values())
    asked = [place for place, wants in _places(user).items() if wants or place == (wanted, base_url)]
    listed = dict.fromkeys([*asked, *own, *trials])
    cards, speaks = [], dict(formats())
    for number, place in enumerate(listed):
        cls = llm_class(place[0]) if place[0] in LLMS else None
        label = cls.label if cls and cls.label else place[0]
        key, is_wanted = own.get(place), place == (wanted, base_url)
        form = refused if refused and is_wanted else KeyForm()
        form.auto_id = f"key-{number}-%s"
        cards.append(
            KeyCard(
                provider=place[0],
                anchor=key_anchor(*place),
                title=speaks.get(place[0], place[0]) if place[1] else label,
                base_url=place[1],
                key=KeyView.of(key, spent.get(key.pk, "Nothing")) if key else None,
                trial=trials.get(place),
                has_site_key=not key and place in places,
                key_page=cls.key_page if cls and not place[1] else "",
                key_host=urlsplit(cls.key_page).netloc if cls else "",
                form=form,
                is_open=is_wanted,
            )
        )
    return cards


def _places(user: User) -> dict[tuple[str, str], bool]:
    """Where `user` can have keys for: the providers, and where an agent of theirs or everybody's asks. True for those
    that want one, as far as is known without asking."""
    places = {(name, ""): True for name in key_providers()}
    for agent in Agent.objects.usable_by(user).filter(api_key_variable="").exclude(base_url=""):
        places[agent.place] = wants_key(agent) or places.get(agent.place, False)
    return places


def _spent(keys: Iterable[ApiKey]) -> dict[int, str]:
    """What each key was spent on, in words; keys that were never used are left out."""
    asked = usage.answers().filter(api_key__in=list(keys)).values("api_key").annotate(**usage.SUMS)
    return {row["api_key"]: usage.use_of(row).price for row in asked}


def _state(request: Request, key: ApiKey) -> HttpResponse:
    spent = _spent([key]).get(key.pk, "Nothing")
    return render(request, "conversations/_key_state.html", {"key": KeyView.of(key, spent)})


def _ago(when: datetime) -> str:
    since = timezone.now() - when
    return "Just now" if since < timedelta(minutes=1) else f"{timesince(when, depth=1)} ago"


def _to_card(provider: str, base_url: str = "") -> HttpResponse:
    return redirect(f"{reverse('keys')}#{key_anchor(provider, base_url)}")
