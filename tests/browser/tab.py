"""A person in front of a page: what they do, what they see, and everything that went wrong meanwhile."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, Response, expect

from tests.agentsite.conftest import ROOT
from tests.chaos.site import Site
from tests.fakes.script import Call, Turn

#: Milliseconds after which a thing that should happen has not happened.
PATIENCE = 30_000

# Runs before every page's own scripts. `__answers` tells, for each task, what was ever wrong with its text on the
# screen: each text that was painted must go on from the one painted before. `__sockets` are those that were opened.
WATCH = """
(() => {
  const seen = (window.__answers = {});
  const look = () => {
    for (const task of document.querySelectorAll(".task")) {
      const text = (task.querySelector(".answer")?.textContent ?? "").replace(/\\s+/g, " ").trim();
      const answer = (seen[task.id] ??= { text: "", paints: 0, wrong: [] });
      if (text === answer.text) continue;
      if (!text.startsWith(answer.text)) answer.wrong.push([answer.text.slice(-120), text.slice(-120)]);
      answer.text = text;
      answer.paints += 1;
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
  window.__sockets = [];
  window.WebSocket = class extends WebSocket {
    constructor(...options) {
      super(...options);
      window.__sockets.push(this);
    }
  };
})();
"""

# What two pages must have alike to look alike. Left out: tokens against forgery, times that pass, what htmx notes on
# elements it has seen, and what a person has opened.
OUTLINE = """
() => {
  const lines = [];
  const walk = (node, depth) => {
    if (node.nodeType === Node.TEXT_NODE) {
      const text = node.data.replace(/\\s+/g, " ").trim();
      if (text) lines.push("  ".repeat(depth) + text);
    } else if (node.nodeType === Node.ELEMENT_NODE && !node.matches("noscript, [name=csrfmiddlewaretoken]")) {
      const shown = [...node.attributes]
        .filter(({ name }) => !/^(open|style|data-htmx-.*)$/.test(name))
        .map(({ name, value }) => [name, name === "class" ? value.replace(/ ?htmx-[\\w-]+/g, "") : value])
        .filter(([name, value]) => name !== "class" || value)
        .map(([name, value]) => `${name}="${value}"`);
      lines.push("  ".repeat(depth) + `<${[node.localName, ...shown.sort()].join(" ")}>`);
      if (node.matches("time[data-since], time[data-soon]")) return;
      for (const child of node.childNodes) walk(child, depth + 1);
    }
  };
  for (const turn of document.getElementById("turns").children) walk(turn, 0);
  return lines;
}
"""


def scripted(text: str, *turns: Turn) -> str:
    """A message that brings the fake model's answers with it: the same ones however often it is asked."""
    told = [
        {
            **{name: getattr(turn, name) for name in ("text", "reasoning", "rate", "first_token", "chunk")},
            **{name: getattr(turn, name) for name in ("fault", "after", "retry_after")},
            "calls": [{"name": call.name, "arguments": call.arguments} for call in turn.calls],
        }
        for turn in turns
    ]
    return f"{text}\n@turns {json.dumps(told)}"


def call(name: str, **arguments: Any) -> Call:
    return Call(name, arguments)


class Tab:
    """One page of one person's browser. Fails at the end for every problem that nobody expected."""

    def __init__(self, context: BrowserContext, site: Site, name: str = "") -> None:
        self.context = context
        self.site = site
        self.name = name  # As the person logs in.
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.problems: list[str] = []
        self._expected: list[str] = []
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("requestfailed", self._on_failed)
        self.page.on("response", self._on_response)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console: {message.text}")

    def _on_failed(self, request: Request) -> None:
        # Leaving a page ends its requests.
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"failed: {request.method} {request.url} {request.failure}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self.problems.append(f"status {response.status}: {response.url}")

    def expects(self, *patterns: str) -> None:
        """Problems in which one of these is found are part of the test."""
        self._expected += patterns

    def check(self) -> None:
        unexpected = [problem for problem in self.problems if not any(re.search(p, problem) for p in self._expected)]
        assert not unexpected, unexpected

    # --- going around ------------------------------------------------------------------------------------------------

    def go(self, path: str = "/") -> Tab:
        self.page.goto(self.site.address + path)
        return self

    def reload(self) -> None:
        self.page.reload()

    @property
    def path(self) -> str:
        return self.page.url.removeprefix(self.site.address)

    def find(self, selector: str) -> Locator:
        return self.page.locator(selector)

    # --- talking -----------------------------------------------------------------------------------------------------

    @property
    def composer(self) -> Locator:
        return self.find("#text")

    @property
    def tasks(self) -> Locator:
        return self.find("#turns .task")

    @property
    def answer(self) -> Locator:
        """The words of the newest answer, as far as it is written."""
        return self.find("#turns .answer").last

    def send(self, text: str) -> None:
        self.page.wait_for_load_state()  # Until the scripts are there, Enter breaks the line.
        self.composer.fill(text)
        self.composer.press("Enter")

    def say(self, text: str, *turns: Turn, agent: str = "model") -> None:
        """The first message of a new conversation, or the next one of the one that is shown."""
        if not self.path.startswith("/c/"):
            self.go(f"/?agent={agent}")
            self.send(scripted(text, *turns) if turns else text)
            self.page.wait_for_url("**/c/*/")
        else:
            before = self.tasks.count()
            self.send(scripted(text, *turns) if turns else text)
            expect(self.tasks).to_have_count(before + 1)

    def wait_for_words(self, number: int) -> None:
        """Until the newest answer shows so many words."""
        self.page.wait_for_function(
            "n => ([...document.querySelectorAll('#turns .answer')].at(-1)?.textContent.split(/\\s+/).length ?? 0) > n",
            arg=number,
        )

    def wait_until_over(self, status: str = "done") -> None:
        """Until nothing is at work on the page, and the last task ended as `status`."""
        expect(self.tasks.last).to_have_attribute("data-status", status, timeout=PATIENCE)
        expect(self.find(".task[data-active]")).to_have_count(0, timeout=PATIENCE)
        expect(self.find("#stop")).to_have_count(0)

    def last_task(self) -> UUID:
        """The id of the newest task on the page."""
        return UUID((self.tasks.last.get_attribute("id") or "").removeprefix("task-"))

    def words(self) -> str:
        return " ".join((self.answer.text_content() or "").split())

    def photograph(self, name: str) -> None:
        """Take the picture docs/images/<name>.png, with SCREENSHOTS=1 only."""
        if os.environ.get("SCREENSHOTS") == "1":
            self.page.mouse.move(0, 0)
            self.page.wait_for_timeout(400)  # Colours fade, pictures decode.
            self.page.screenshot(path=ROOT / "docs" / "images" / f"{name}.png")

    # --- looking closely ---------------------------------------------------------------------------------------------

    def outline(self) -> list[str]:
        lines: list[str] = self.page.evaluate(OUTLINE)
        return lines

    def check_never_took_back(self) -> int:
        """Every answer only ever grew on the screen, by going on. Returns how often the last one was painted."""
        answers: dict[str, dict[str, Any]] = self.page.evaluate("window.__answers")
        wrong = {task: answer["wrong"] for task, answer in answers.items() if answer["wrong"]}
        assert not wrong, wrong
        return int(list(answers.values())[-1]["paints"]) if answers else 0

    def run(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)


def numbered(count: int) -> str:
    """Words of which none is like another, so that nothing can be lost or doubled unseen."""
    return " ".join(f"word{number}" for number in range(1, count + 1))


def difference(live: Sequence[str], fresh: Sequence[str]) -> str:
    """The first lines in which two outlines differ, "" if they are alike."""
    for position, (one, other) in enumerate(zip([*live, "(end)"], [*fresh, "(end)"], strict=False)):
        if one != other:
            return f"line {position}:\n  live : {one.strip()}\n  fresh: {other.strip()}"
    return ""
