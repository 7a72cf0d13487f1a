"""Results that are kept: what is asked again does not run again, wherever it is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission
from django.db import DatabaseError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from tools.cache import StoredCache, clear, forget_expired
from tools.core.context import Context
from tools.core.function import describe, function
from tools.core.toolbox import Outcome, Toolbox
from tools.models import CachedResult

pytestmark = pytest.mark.django_db(transaction=True)

T = TypeVar("T")
Person = Any


def in_database(call: Callable[[], T], /) -> Awaitable[T]:
    return sync_to_async(call)()


def toolbox(*functions: Callable[..., Any]) -> Toolbox:
    """As another worker makes it: with nothing that it knows from before."""
    return Toolbox([describe(function) for function in functions], cache=StoredCache(in_database))


def of(person: Person | None) -> Context:
    return Context(person and person.pk, task_id="t", call_id="c", idempotency_key="k")


async def ask(function: Callable[..., Any], person: Person | None, **arguments: Any) -> Outcome:
    return await toolbox(function).call(function.__name__, arguments, "", of(person))


async def aged(**by: float) -> None:
    """Let so much time pass for what is kept."""
    async for row in CachedResult.objects.all():
        row.expires_at -= timedelta(**by)
        await row.asave(update_fields=["expires_at"])


async def test_the_same_call_gets_the_result_of_then_until_its_time_is_over(alice: Person) -> None:
    ran = []

    @function(effect="read", cache=60)
    def look(at: str, times: int = 1) -> str:
        """Look."""
        ran.append(at)
        return f"{at} {len(ran)}"

    first = await ask(look, alice, at="sun", times=1)
    again = await ask(look, alice, times="1", at="sun")  # What counts are the validated arguments.
    assert (first.content, first.made_at) == ("sun 1", None)
    assert again.content == "sun 1"
    assert again.made_at is not None
    assert timezone.now() - again.made_at < timedelta(minutes=1)
    assert (await ask(look, alice, at="moon")).content == "moon 2"
    await aged(seconds=61)
    assert (await ask(look, alice, at="sun", times=1)).content == "sun 3"
    assert (await ask(look, alice, at="sun", times=1)).content == "sun 3"
    assert ran == ["sun", "moon", "sun"]


async def test_a_result_is_for_the_person_who_asked_unless_it_is_shared(alice: Person, charlie: Person) -> None:
    ran = []

    @function(effect="read", cache=60)
    def mine() -> int:
        """Tell."""
        ran.append("mine")
        return len(ran)

    @function(effect="read", cache=60, cache_shared=True)
    def everybodys() -> int:
        """Tell."""
        ran.append("everybodys")
        return len(ran)

    for person in (alice, charlie, alice, None, None):
        await ask(mine, person)
        await ask(everybodys, person)
    assert ran.count("everybodys") == 1
    assert ran.count("mine") == 4  # Of nobody, nothing is kept.
    await charlie.adelete()
    assert {row.user_id async for row in CachedResult.objects.all()} == {alice.pk, None}


async def test_what_failed_and_what_came_with_files_is_not_kept(alice: Person) -> None:
    answers: list[Exception | str] = [ValueError("not yet"), "now"]

    @function(effect="read", cache=60)
    def look() -> str:
        """Look."""
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @function(effect="read", cache=60)
    def draw(context: Context) -> str:
        """Draw."""
        context.save("drawing.txt", b"/", "text/plain")
        return "drawn"

    assert (await ask(look, alice)).is_error
    assert (await ask(look, alice)).content == "now"
    assert (await ask(look, alice)).content == "now"
    for _ in range(2):
        assert len((await ask(draw, alice)).files) == 1
    assert [row.function async for row in CachedResult.objects.all()] == ["look"]


async def test_another_version_of_the_function_runs(alice: Person, dropped: Callable[..., Any]) -> None:
    source = """
from tools.core.function import function

@function(effect="read", cache=60)
def tell() -> str:
    "Tell."
    return _words()

def _words() -> str:
    return "{}"
"""

    async def told(words: str) -> str:
        registry = await sync_to_async(dropped)(tells=source.format(words))
        box = Toolbox(registry.select(["tell"]), cache=StoredCache(in_database))
        return (await box.call("tell", {}, "", of(alice))).content

    assert [await told("old"), await told("new"), await told("old")] == ["old", "new", "old"]
    assert await CachedResult.objects.acount() == 2


async def test_without_the_database_functions_simply_run(alice: Person) -> None:
    def broken(call: Callable[[], T], /) -> Awaitable[T]:
        raise DatabaseError("gone")

    @function(effect="read", cache=60)
    def look() -> str:
        """Look."""
        return "seen"

    box = Toolbox([describe(look)], cache=StoredCache(broken))
    assert await box.call("look", {}, "", of(alice)) == Outcome("seen")


def keep(name: str, number: int = 1, **expires: float) -> None:
    now = timezone.now()
    for index in range(number):
        expires_at = now + timedelta(**(expires or {"hours": 1}))
        CachedResult.objects.create(
            key=f"{name}-{index}", function=name, content="secret", made_at=now, expires_at=expires_at
        )


def test_what_expired_goes_with_the_housekeeping() -> None:
    from executor.housekeeping import housekeeping

    keep("old", minutes=-1)
    keep("new")
    forget_expired()
    assert [row.function for row in CachedResult.objects.all()] == ["new"]
    keep("old", minutes=-1)
    housekeeping.send(sender=None)
    assert [row.function for row in CachedResult.objects.all()] == ["new"]


def test_clearing_forgets_one_function_or_all() -> None:
    keep("calculate", 2)
    keep("current_time")
    assert clear("calculate") == 2
    assert [row.function for row in CachedResult.objects.all()] == ["current_time"]
    assert clear() == 1
    assert not CachedResult.objects.exists()


@pytest.mark.usefixtures("static_root")
def test_administrators_see_how_much_is_kept_and_clear_it(admin_client: Client) -> None:
    keep("calculate", 2)
    keep("current_time")
    page = admin_client.get(reverse("admin:tools_functionoverview_changelist")).content.decode()
    assert "3 results kept in all" in page
    assert "2 kept results, the oldest of" in page
    assert "secret" not in page
    url = reverse("admin:tools_functionoverview_clear")
    answer = admin_client.post(url, {"function": "calculate"}, follow=True)
    assert "2 kept results were cleared of calculate." in answer.content.decode()
    assert [row.function for row in CachedResult.objects.all()] == ["current_time"]
    assert "1 kept result was cleared." in admin_client.post(url, follow=True).content.decode()
    assert admin_client.get(url).status_code == 405


@pytest.mark.usefixtures("static_root")
def test_who_may_only_look_at_functions_clears_nothing(client: Client, alice: Person) -> None:
    keep("calculate")
    alice.is_staff = True
    alice.save(update_fields=["is_staff"])
    alice.user_permissions.add(Permission.objects.get(codename="view_functionoverview"))
    client.force_login(alice)
    page = client.get(reverse("admin:tools_functionoverview_changelist"))
    assert "1 kept result" in page.content.decode()
    assert "Clear" not in page.content.decode()
    assert client.post(reverse("admin:tools_functionoverview_clear")).status_code == 403
    assert CachedResult.objects.exists()
