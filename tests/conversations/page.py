"""A page as a browser holds it: what the server rendered, changed by the messages that its socket brought.

A small interpreter of what htmx and static/js/live.js do with `<hx-partial>`. It is as strict as they are where it
matters: the pieces of a message go in one after the other, and a place that is not there is skipped.
"""

from __future__ import annotations

import copy

from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString, PageElement


class Page:
    def __init__(self, html: str) -> None:
        self.soup = BeautifulSoup(html, "html.parser")

    @property
    def live_url(self) -> str:
        return str(self.soup.select_one("#live")["hx-ws:connect"])  # type: ignore[index]

    def receive(self, message: str) -> None:
        for partial in BeautifulSoup(message, "html.parser").find_all("hx-partial", recursive=False):
            for place in self.soup.select(str(partial["hx-target"])):
                self._swap(str(partial["hx-swap"]).split()[0], place, copy.copy(partial))

    def text(self, selector: str) -> str:
        """The words below the first element that `selector` finds, "" if none does."""
        element = self.soup.select_one(selector)
        if element is None:
            return ""
        element.smooth()  # Words that were added to a text belong to it.
        return " ".join(element.get_text(" ").split())

    def outline(self) -> list[str]:
        """One line for each element and text of the body: what two pages must have alike to look alike.

        Left out: tokens against forgery, texts that count seconds, and when the page was rendered.
        """
        body = self.soup.body
        assert body is not None
        body.smooth()
        return [f"{'  ' * depth}{line}" for depth, line in _lines(body, 0)]

    def _swap(self, style: str, place: Tag, new: Tag) -> None:
        match style:
            case "innerHTML":
                place.clear()
                place.extend(list(new.contents))
            case "innerMorph":
                _morph_children(place, new)
            case "outerMorph":
                _morph(place, _only_child(new))
            case "upsert":
                for element in new.find_all(True, recursive=False):
                    self._upsert(place, element)
            case "beforebegin":
                place.insert_before(*list(new.contents))
            case "afterend":
                place.insert_after(*list(new.contents))
            case "beforeend":
                place.extend(list(new.contents))
            case "delete":
                place.extract()
            case _:
                raise AssertionError(f"live.js and htmx know no swap called {style}")

    def _upsert(self, place: Tag, element: Tag) -> None:
        existing = self.soup.find(id=element["id"])
        if existing is not None:
            _morph(existing, element)
            return
        for child in place.find_all(True, recursive=False):
            if float(str(child.get("data-seq", "nan"))) > float(str(element.get("data-seq", "nan"))):
                child.insert_before(element)
                return
        place.append(element)


def _only_child(parent: Tag) -> Tag:
    (child,) = parent.find_all(True, recursive=False)
    return child


def _morph(old: Tag, new: Tag) -> None:
    """`old` becomes like `new`, and stays the same element; so do those inside it that keep their id."""
    if old.has_attr("hx-morph-skip"):
        return
    current = old.get("aria-current")
    old.name, old.attrs = new.name, dict(new.attrs)
    if current:  # live.js: the server does not know which page a fragment of the sidebar lands on.
        old.attrs["aria-current"] = current
    _morph_children(old, new)


def _morph_children(old: Tag, new: Tag) -> None:
    kept = {str(element["id"]): element for element in old.find_all(id=True)}
    children: list[PageElement] = list(new.contents)
    old.clear()
    for child in children:
        old.append(child)
        if not isinstance(child, Tag):
            continue
        for element in [child, *child.find_all(id=True)]:
            same = kept.pop(str(element.get("id")), None)
            if same is not None and element.find_parent(lambda parent: parent is old):
                element.replace_with(same.extract())
                _morph(same, element)


def _lines(element: Tag, depth: int) -> list[tuple[int, str]]:
    if element.get("name") == "csrfmiddlewaretoken":
        return []
    attributes = {name: value for name, value in element.attrs.items() if name != "hx-ws:connect"}
    shown = " ".join(f"{name}={value!r}" for name, value in sorted(attributes.items()))
    lines = [(depth, f"<{element.name} {shown}>".replace(" >", ">"))]
    if element.has_attr("data-since"):
        return lines
    words = ""
    for child in element.children:
        if isinstance(child, Tag):
            if words.strip():
                lines.append((depth + 1, " ".join(words.split())))
            words = ""
            lines += _lines(child, depth + 1)
        elif type(child) is NavigableString:
            words += child
    if words.strip():
        lines.append((depth + 1, " ".join(words.split())))
    return lines
