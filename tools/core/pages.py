"""A web page as Markdown, made in a process of its own (see tools/core/apart.py).

python -m tools.core.pages utf-8 < page.html
"""

import sys

from tools.core import apart

CPU_SECONDS = 3

_UNSEEN = ["script", "style", "noscript", "template", "svg", "iframe", "object", "nav", "head"]


class PageError(ValueError):
    """The page cannot be read; the message says why."""


async def to_markdown(body: bytes, charset: str | None) -> str:
    """The words of an HTML page, with its headings, lists, links and tables. Raises PageError."""
    try:
        text = await apart.run("tools.core.pages", charset or "", body=body, seconds=CPU_SECONDS)
    except apart.Unreadable:
        raise PageError("The page is too large or too tangled to be read.") from None
    return text.decode()


def main() -> None:
    apart.limit(CPU_SECONDS)
    sys.stdout.buffer.write(_convert(sys.stdin.buffer.read(), sys.argv[1] or None).encode("utf-8", "replace"))


def _convert(body: bytes, charset: str | None) -> str:
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    page = BeautifulSoup(body, "html.parser", from_encoding=charset)
    title = page.title.get_text(" ", strip=True) if page.title else ""
    for element in page(_UNSEEN):
        element.decompose()
    text = MarkdownConverter(heading_style="ATX", strip=["img"]).convert_soup(page)
    lines = [line.rstrip() for line in text.splitlines()]
    compact = "\n".join(line for line, before in zip(lines, ["", *lines], strict=False) if line or before).strip()
    return f"Title: {title}\n\n{compact}" if title else compact


if __name__ == "__main__":
    main()
