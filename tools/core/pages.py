"""A web page as Markdown, made in a process of its own.

Parsers of real-world HTML take hours over pages that were made for it, and a thread cannot be stopped. The process gets
seconds of the processor and so much memory, and is killed with whoever waits for it.

    python -m tools.core.pages utf-8 < page.html
"""

import asyncio
import resource
import sys
from pathlib import Path

CPU_SECONDS = 3
MEMORY = 1024 * 1024 * 1024

_ROOT = Path(__file__).resolve().parents[2]
_UNSEEN = ["script", "style", "noscript", "template", "svg", "iframe", "object", "nav", "head"]


class PageError(ValueError):
    """The page cannot be read; the message says why."""


async def to_markdown(body: bytes, charset: str | None) -> str:
    """The words of an HTML page, with its headings, lists, links and tables. Raises PageError."""
    command = [sys.executable, "-m", "tools.core.pages", charset or ""]
    pipe = asyncio.subprocess.PIPE
    # It sees neither our environment, with its secrets, nor our output.
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL, cwd=_ROOT, env={}
    )
    try:
        text, _ = await process.communicate(body)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise PageError("The page is too large or too tangled to be read.")
    return text.decode()


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
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
