"""One site for all browser tests, one Chromium per module, one new person per test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from tests.browser.tab import PATIENCE, WATCH, Tab
from tests.chaos.site import PASSWORD, Site
from tests.fakes.model_server import ModelServer

FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PEOPLE = 120

# Everybody is logged in beforehand: forms and rate limits of logging in have tests of their own.
CAST = """
import json
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.hashers import make_password
from executor.models import Agent
from users.models import User
password = make_password({password!r})
sessions = {{}}
for number in range({people}):
    name = f"person{{number}}"
    user = User.objects.create(
        username=name, email=f"{{name}}@example.org", password=password, display_name="Ada",
    )
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(user.pk), settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    sessions[name] = session.session_key
Agent.objects.create(
    name="model", title="Model", provider="openai_compatible", model="queue", base_url={base_url!r}, position=1,
    max_iterations=210, description="A language model that says what the test wants.",
)
print(json.dumps(sessions))
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, _model_server: ModelServer) -> Iterator[Site]:
    """A running site with the demonstration and the agent "model", which is the fake model server."""
    with Site(tmp_path_factory.mktemp("site") / "data") as site:
        assert site.address
        yield site


@pytest.fixture(scope="session")
def sessions(site: Site, _model_server: ModelServer) -> Iterator[tuple[str, str]]:
    """Names of people and the cookies that they are logged in with."""
    code = CAST.format(password=PASSWORD, people=PEOPLE, base_url=_model_server.base_url)
    found: dict[str, str] = json.loads(site.python(code).splitlines()[-1])
    return iter(found.items())


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Playwright keeps an event loop running in this thread, so it must be gone before other modules run theirs."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        pytest.skip("There is no Chromium.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A data folder with the `FUNCTIONS` of the module of the test, and their ledger."""
    folder = tmp_path / "data" / "functions"
    folder.mkdir(parents=True)
    (folder / "office.py").write_text(request.module.FUNCTIONS)
    return tmp_path / "data"


@pytest.fixture
def office(place: Path, _model_server: ModelServer) -> Iterator[Site]:
    """A site of this test alone, with these functions and one person; see `enter`."""
    with Site(place) as site:
        assert site.address
        site.python(CAST.format(password=PASSWORD, people=1, base_url=_model_server.base_url))
        yield site


def enter(site: Site, context: BrowserContext, stranger: Callable[..., Tab]) -> Tab:
    """A tab of the one person at an `office`."""
    cookies = site.log_in("person0").cookies()
    context.clear_cookies()
    context.add_cookies([{"name": "sessionid", "value": cookies["sessionid"], "url": site.address}])
    return stranger(context, "person0", site)


@pytest.fixture
def open_browser(chromium: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """A browser without cookies. Options are those of Playwright."""
    expect.set_options(timeout=10_000)
    contexts: list[BrowserContext] = []

    def open_browser(**options: object) -> BrowserContext:
        options = {"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", **options}
        context = chromium.new_context(**options)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE)
        context.add_init_script(WATCH)
        contexts.append(context)
        return context

    yield open_browser
    for context in contexts:
        context.close()


@pytest.fixture
def stranger(open_browser: Callable[..., BrowserContext], site: Site) -> Iterator[Callable[..., Tab]]:
    """Open a tab of somebody who is not logged in, or one more of a `context`."""
    tabs: list[Tab] = []

    def stranger(context: BrowserContext | None = None, name: str = "", at: Site = site, **options: object) -> Tab:
        tabs.append(Tab(context or open_browser(**options), at, name))
        return tabs[-1]

    yield stranger
    for tab in tabs:
        tab.check()


@pytest.fixture
def somebody(
    open_browser: Callable[..., BrowserContext],
    stranger: Callable[..., Tab],
    site: Site,
    sessions: Iterator[tuple[str, str]],
) -> Callable[..., Tab]:
    """Open a tab of somebody new who is logged in. `stranger(tab.context)` opens another one of theirs."""

    def somebody(**options: object) -> Tab:
        context = open_browser(**options)
        name, key = next(sessions)
        context.add_cookies([{"name": "sessionid", "value": key, "url": site.address}])
        return stranger(context, name)

    return somebody


@pytest.fixture
def tab(somebody: Callable[..., Tab], model_server: ModelServer) -> Tab:
    """A tab of somebody new, on no page yet."""
    return somebody()
