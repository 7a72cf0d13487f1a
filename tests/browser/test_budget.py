"""How much a page weighs: counted on the wire, as a browser with an empty cache gets it."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.tab import Tab
from tests.browser.test_scroll import conversation_of
from tests.fakes.script import Turn

pytestmark = pytest.mark.browser

KB = 1000


def cold_load(tab: Tab, path: str) -> tuple[dict[str, int], int]:
    """Bytes on the wire by address, and bytes of JavaScript unpacked."""
    wire: dict[str, int] = {}
    addresses: dict[str, str] = {}
    session = tab.context.new_cdp_session(tab.page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})

    def received(event: dict[str, Any]) -> None:
        addresses[event["requestId"]] = event["response"]["url"].removeprefix(tab.site.address)

    def finished(event: dict[str, Any]) -> None:
        if address := addresses.get(event["requestId"]):
            wire[address] = wire.get(address, 0) + int(event["encodedDataLength"])

    session.on("Network.responseReceived", received)
    session.on("Network.loadingFinished", finished)
    scripts: list[int] = []
    tab.page.on("response", lambda response: scripts.append(len(response.body())) if ".js" in response.url else None)
    tab.go(path)
    tab.page.wait_for_load_state("networkidle")
    session.detach()
    return {address: size for address, size in wire.items() if not address.startswith("data:")}, sum(scripts)


def test_the_chat_page_is_light(tab: Tab) -> None:
    tab.say("Hello", Turn("Hello."))
    tab.wait_until_over()
    wire, script = cold_load(tab, tab.path)
    assert len(wire) <= 12, wire
    assert sum(wire.values()) <= 150 * KB, wire
    assert 0 < script <= 200 * KB


def test_a_long_conversation_weighs_as_much_as_a_short_one(tab: Tab) -> None:
    short, long = conversation_of(tab, 50), conversation_of(tab, 2000)
    sizes = []
    for path in (short, long):
        wire, _ = cold_load(tab, path)
        expect(tab.find(".turn").last).to_be_in_viewport()  # Older ones may have been fetched by then.
        sizes.append(wire[path])
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)
