"""The pictures of docs/images, taken of the real product. They are written there with SCREENSHOTS=1 only."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.agentsite.conftest import ROOT
from tests.browser.tab import Tab, call
from tests.chaos.site import Site
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

EARLIER = ("Compare three mortgage offers", "Which trains go to Vienna on Sunday?", "Summarise the minutes of Tuesday")
ANSWER = """\
Two things decide it: **how often you read** and **how often you write**.

| | Index | No index |
|:--|--:|--:|
| Find one order | 0.3 ms | 410 ms |
| Add one order | 1.1 ms | 0.9 ms |

Your report reads 40,000 orders a day and adds 2,000, so an index on `customer` pays off:

```python
class Order(models.Model):
    customer = models.ForeignKey(Customer, models.CASCADE, db_index=True)
    placed_at = models.DateTimeField()
```

It costs about 4 MB and makes each new order a little slower, which nobody will notice. When the report also sorts by
date, take one index over both columns instead."""

INSULATION = Turn(
    "First its area, and what that costs.",
    calls=(call("calculate", expression="11.5 * 8.2"), call("calculate", expression="94.3 * 48")),
)


def pays_off(cost: str, about: str, years: str) -> list[Turn]:
    """What comes of an insulation that costs so much."""
    return [
        Turn("Now what it saves in a year.", calls=(call("calculate", expression="94.3 * 9.5"),)),
        Turn("And when it has paid for itself.", calls=(call("calculate", expression=f"{cost} / 895.85"),)),
        Turn(
            f"**Yes.** It costs about {about} €, saves about 900 € a year, and has paid for itself after **{years}**."
            "\n\nThis takes for granted that heat stays as dear as it is."
        ),
    ]


@pytest.fixture
def shoot(tmp_path: Path) -> Callable[..., None]:
    folder = ROOT / "docs" / "images" if os.environ.get("SCREENSHOTS") == "1" else tmp_path
    folder.mkdir(parents=True, exist_ok=True)

    def shoot(tab: Tab, name: str) -> None:
        """Take the picture of what the tab shows, and see that there is something on it."""
        tab.page.mouse.move(0, 0)
        tab.page.wait_for_timeout(400)  # Colours fade, pictures decode.
        path = folder / f"{name}.png"
        tab.page.screenshot(path=path)
        # A blank picture of this size has a few kB.
        assert len(zlib.compress(path.read_bytes())) > 15_000, f"{path} is blank"

    return shoot


HISTORY = """
from datetime import timedelta
from django.utils import timezone
from conversations.models import Conversation
from users.models import User
# The Ada of the test before makes room.
User.objects.filter(username="ada").update(username="not-" + {name!r}, email="not-" + {name!r} + "@example.org")
user = User.objects.get(username={name!r})
user.username, user.email = "ada", "ada@example.org"
user.is_staff = user.is_superuser = {admin}
user.save()
for days, title in enumerate({titles!r}, start=1):
    when = timezone.now() - timedelta(days=days)
    Conversation.objects.create(user=user, title=title, active_at=when, seen_at=when, pinned=days == 2)
"""
AGENTS = """
from executor.models import Agent
Agent.objects.filter(name="model").update(title="Scribe", model="gemma3:4b")
Agent.objects.update_or_create(name="analyst", defaults={{
    "title": "Analyst", "provider": "openai_compatible", "model": "qwen3:8b", "base_url": {base_url!r}, "position": 2,
    "description": "Answers, counts and draws. Runs on our own machine.", "enabled": True,
    "instructions": "You are a careful analyst. Use the functions when they help, and say what you found.",
}})
"""


@pytest.fixture
def ada(somebody: Callable[..., Tab], site: Site, model_server: ModelServer) -> Iterator[Callable[..., Tab]]:
    """Somebody with a history, in a browser of the given kind."""
    site.python(AGENTS.format(base_url=model_server.base_url))

    def ada(admin: bool = False, **options: object) -> Tab:
        tab = somebody(**{"viewport": {"width": 1280, "height": 860}, **options})
        site.python(HISTORY.format(name=tab.name, titles=EARLIER, admin=admin))
        return tab

    yield ada
    site.python(
        "from executor.models import Agent; Agent.objects.filter(name='analyst').update(enabled=False)\n"
        "Agent.objects.filter(name='model').update(title='Model', model='queue')"
    )


def analyse(tab: Tab) -> None:
    tab.go("/?agent=demo")
    tab.page.get_by_role("button", name="Analyse a text").click()
    tab.page.wait_for_url("**/c/*/")
    tab.wait_until_over()
    tab.page.wait_for_function("() => document.querySelector('.task > .files img').naturalWidth > 100")


def test_a_conversation_on_a_desk_and_in_the_dark(ada: Callable[..., Tab], shoot: Callable[..., None]) -> None:
    tab = ada()
    tab.go("/?agent=demo")
    shoot(tab, "empty")
    tab.page.set_viewport_size({"width": 1280, "height": 1440})
    analyse(tab)
    shoot(tab, "desktop")
    tab.page.set_viewport_size({"width": 1280, "height": 1180})
    tab.find(".work > summary").click()
    tab.find(".step summary").filter(has_text="Draw chart").click()
    expect(tab.find(".step-detail img")).to_be_visible()
    tab.run("scrollTo({ top: 0, behavior: 'instant' })")
    shoot(tab, "steps")
    tab.page.set_viewport_size({"width": 1280, "height": 1440})
    tab.page.emulate_media(color_scheme="dark")
    tab.reload()
    tab.page.wait_for_function("() => document.querySelector('.task > .files img').complete")
    shoot(tab, "dark")


def test_a_conversation_on_a_phone(ada: Callable[..., Tab], shoot: Callable[..., None]) -> None:
    tab = ada(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2)
    analyse(tab)
    shoot(tab, "phone")


def test_code_that_ran_and_the_files_of_its_conversation(
    ada: Callable[..., Tab], shoot: Callable[..., None], site: Site
) -> None:
    tab = ada(viewport={"width": 1280, "height": 1440})
    tab.go("/?agent=demo")
    tab.page.get_by_role("button", name="Chart a file with code").click()
    tab.page.wait_for_url("**/c/*/")
    tab.wait_until_over()
    tab.find(".work > summary").click()
    tab.find(".step summary").filter(has_text="failed").click()
    expect(tab.find(".cell-error")).to_be_visible()
    tab.run("scrollTo({ top: 0, behavior: 'instant' })")
    shoot(tab, "code")
    tab.page.set_viewport_size({"width": 1280, "height": 860})
    tab.go(f"{tab.page.url.partition('/c/')[1]}{tab.page.url.partition('/c/')[2]}files/")
    expect(tab.find("h1").first).to_be_visible()
    shoot(tab, "files")
    phone = ada(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2)
    phone.page.emulate_media(color_scheme="dark")
    phone.go("/?agent=demo")
    phone.page.get_by_role("button", name="Write code that passes its tests").first.click()
    phone.page.wait_for_url("**/c/*/")
    phone.wait_until_over()
    phone.find(".work > summary").click()
    phone.find(".step summary").filter(has_text="failed").click()
    expect(phone.find(".cell-error")).to_be_visible()
    shoot(phone, "code-phone")


def test_an_answer_on_its_way_and_one_that_failed(
    ada: Callable[..., Tab], shoot: Callable[..., None], model_server: ModelServer
) -> None:
    tab = ada()
    loads = (call("calculate", expression="40000 / 2000"), call("calculate", expression="40000 * (410 - 0.3) / 1000"))
    model_server.script(
        [
            Turn("I look at the load first.", calls=loads),
            Turn(ANSWER, rate=25),
            Turn("I count them.", calls=(call("calculate", expression="2000 * 365"),)),
            Turn(fault="quota"),
        ]
    )
    tab.go("/?agent=analyst")
    tab.send("Should I put an index on orders? We read 40,000 a day and add 2,000")
    tab.page.wait_for_url("**/c/*/")
    tab.wait_for_words(75)
    shoot(tab, "streaming")
    tab.wait_until_over()
    tab.send("How many will there be after a year?")
    expect(tab.tasks).to_have_count(2)
    tab.wait_until_over("failed")
    shoot(tab, "failure")


def test_a_step_that_is_forked_and_what_came_of_it(
    ada: Callable[..., Tab], shoot: Callable[..., None], model_server: ModelServer
) -> None:
    tab = ada()
    model_server.script([INSULATION, *pays_off("4526.4", "4,530", "five years")])
    tab.go("/?agent=analyst")
    tab.send("Is it worth insulating our attic? It is 11.5 m by 8.2 m, and a square metre costs 48 €")
    tab.wait_until_over()
    tab.page.get_by_role("link", name="What it did, step by step").click()
    third = tab.find(".line-step").nth(2)
    third.get_by_text("Change and run").click()
    third.locator("[name=argument-expression]").fill("94.3 * 62")
    tab.run("document.querySelectorAll('.line-step')[1].scrollIntoView({ block: 'start' }); scrollBy(0, -80)")
    shoot(tab, "fork")
    model_server.script(pays_off("5846.6", "5,850", "six and a half years"))
    third.get_by_role("button", name="Run with these").click()
    tab.page.wait_for_url("**/c/*/*")
    tab.wait_until_over()
    expect(tab.find(".variants")).to_contain_text("2/2")
    tab.find(".work > summary").click()
    expect(tab.find(".step")).not_to_have_count(0)
    shoot(tab, "forked")


def test_settings_and_administration(ada: Callable[..., Tab], shoot: Callable[..., None], site: Site) -> None:
    tab = ada(admin=True)
    site.python(AGENTS.format(base_url="http://127.0.0.1:11434/v1"))
    tab.go("/accounts/settings/")
    shoot(tab, "settings")
    tab.go("/admin/executor/agent/")
    shoot(tab, "admin-list")
    tab.find("#result_list a").filter(has_text="Analyst").click()
    expect(tab.find("[name=base_url]")).to_have_value("http://127.0.0.1:11434/v1")
    shoot(tab, "admin-agent")
