"""What models write becomes safe HTML, whatever they write, and the same whether it came at once or in pieces."""

from __future__ import annotations

import re
import time
from typing import Any
from uuid import uuid4

import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from conversations import markdown
from conversations.markdown import BlockStream, render

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    "<iframe src=//evil.example></iframe>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\nscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](vbscript:x) [y](data:text/html;base64,PHNjcmlwdD4=) [z](file:///etc/passwd)",
    "![x](javascript:alert(1))",
    "![x](data:image/svg+xml;base64,PHN2Zz4=)",
    '![x" onerror="alert(1)](/f/1)',
    '[x](https://a.example "t\\" onclick=\\"alert(1)")',
    "<javascript:alert(1)>",
    '```"><script>alert(1)</script>\nx\n```',
    '```x" onclick="alert(1)\ny\n```',
    "$\\href{javascript:alert(1)}{x}$",
    "$\\text{<script>alert(1)</script>}$",
    "$$<img src=x onerror=alert(1)>$$",
    "$\\style{background:url(//evil.example)}{x}$",
    '$\\class{x" onclick="alert(1)}{y}$',
    "| a |\n|---|\n| <script>alert(1)</script> |",
    "<style>*{display:none}</style>",
    "<hx-partial hx-target=body>x</hx-partial>",
    "<div hx-get=/logout hx-trigger=load>x</div>",
    "<form action=/send><button>x</button></form>",
    "</div></article><script>alert(1)</script>",
    "[x]: javascript:alert(1)\n\n[x]",
    "\u2028<script\u2028>alert(1)</script>",
    "<!--><script>alert(1)</script>-->",
    "<![CDATA[<script>alert(1)</script>]]>",
]


def problems(html: str) -> list[str]:
    """What no page may contain, if it is in `html`."""
    found = []
    for element in BeautifulSoup(html, "html.parser").find_all(True):
        if element.name not in markdown._TAGS:
            found.append(f"<{element.name}>")
        for name, value in element.attrs.items():
            if name.startswith(("on", "hx-", "style", "id", "xlink")):
                found.append(f"{element.name} {name}={value}")
            if name == "href" and not re.match(r"(https?:|mailto:|/|#|\?|[^:]*$)", str(value)):
                found.append(f"href={value}")
            if name == "src" and not markdown.OWN_FILE.match(str(value)):
                found.append(f"src={value}")
    return found


def both_ways(text: str) -> str:
    stream = BlockStream(text)
    return str(render(text)) + stream.done + stream.open_html


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hostile_survives(text: str) -> None:
    for around in ("{}", "> {}", "- {}", "**{}**", "| a |\n|---|\n| {} |", "[{}](/x)", "![{}](/x)", "# {}", "~~{}~~ x"):
        assert problems(both_ways(around.format(text))) == []


@given(st.text("<>\"'`=/()[]!$\\|-:&#;* \nabonscriptjav", max_size=80))
def test_nothing_hostile_survives_of_any_text(text: str) -> None:
    assert problems(both_ways(text)) == []


@given(st.text(max_size=60))
def test_any_text_can_be_shown(text: str) -> None:
    both_ways(text)


def test_links_open_elsewhere_and_tell_nobody() -> None:
    link = BeautifulSoup(render("[a](https://example.org) <b@example.org>"), "html.parser").select("a")
    assert [one["href"] for one in link] == ["https://example.org", "mailto:b@example.org"]
    assert link[0]["target"] == "_blank"
    assert link[0]["rel"] == ["noopener", "noreferrer", "nofollow"]


def test_own_files_are_shown_and_images_from_elsewhere_are_links() -> None:
    own = f"/f/{uuid4()}/"
    page = BeautifulSoup(render(f"![A chart]({own}) ![spy](https://evil.example/?secret)"), "html.parser")
    assert [image["src"] for image in page.select("img")] == [own]
    link = page.select_one("a.external-image")
    assert link is not None
    assert (link["href"], link.text) == ("https://evil.example/?secret", "spy")


@pytest.mark.parametrize("path", ["/f/../accounts/logout/", "/f/x/", "//evil.example/f/", "/f/{}/../../x", "/f/{}/?x"])
def test_what_only_looks_like_an_own_file_is_not_loaded(path: str) -> None:
    assert "<img" not in render(f"![x]({path.format(uuid4())})")


def test_tables_are_aligned_by_class_and_scroll() -> None:
    html = render("| a | b | c |\n|:--|:-:|--:|\n| 1 | 2 | 3 |")
    assert "style" not in html
    assert [cell["class"] for cell in BeautifulSoup(html, "html.parser").select(".table-scroll td")] == [
        ["left"],
        ["center"],
        ["right"],
    ]


def test_mathematics_is_mathml_and_money_is_money() -> None:
    assert "<msup>" in render("So $x^2$ it is.")
    assert 'display="block"' in render("$$\n\\frac{1}{2}\n$$")
    assert "<math" not in render("It costs $5 or $6.")
    assert "<code>xxx" in render(f"${'x' * 3000}$")


def test_code_has_its_language_and_colours_once_it_is_complete() -> None:
    html = render("```python\nprint('<hi>')\n```")
    assert 'data-language="python"' in html
    assert '<span class="nb">print</span>' in html
    assert "&lt;hi&gt;" in html
    assert "<span class" not in render("```nonsense-language\nprint()\n```").replace('<span class="code-language"', "")


def test_code_that_is_too_long_has_no_colours() -> None:
    assert '"nb"' not in render("```python\n" + "print()\n" * 10_000 + "```")


@pytest.mark.parametrize("text", ["> " * 5000 + "x", "[" * 20_000, "*a **b " * 5000, "![" * 10_000, "$$" + "{" * 1900])
def test_huge_nesting_is_shown_somehow(text: str) -> None:
    assert problems(both_ways(text)) == []


def test_forty_levels_of_a_list_are_all_shown() -> None:
    assert "deepest" in render("".join(f"{'  ' * level}- level\n" for level in range(40)) + "  " * 40 + "- deepest")


def test_a_megabyte_of_code_is_shown() -> None:
    assert len(render("```\n" + "line of code\n" * 80_000 + "```")) > 1_000_000


# --- in pieces -------------------------------------------------------------------------------------------------------

#: What blocks are made of, so that generated texts are documents rather than noise.
PIECES = st.sampled_from(
    ["word", " ", "\n", "\n\n", "- a", "1. b", "  ", "    ", "```", "~~~", "```py\n", "> ", "# T", "---", "===",
     "| a |", "|---|", "*", "**", "`", "$", "$$", "$$\n", "\\", "<b>", "&amp;", "\t", "[a](b)", "é", "\r\n", "\x00",
     "+ ", "* ", "\\\n", "  \n", "\n\n\n", "3) ", "\n$$", "(x)\n", "!"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=25).map("".join)


def plain(html: str) -> str:
    """Without the colours of code, which an open block does not have yet."""
    return re.sub(r'<span class="(?!code-language)[^"]*">|</span>(?!</div>)', "", html)


@st.composite
def cut_texts(draw: Any) -> list[str]:
    text = draw(TEXTS)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(cut_texts())
def test_what_came_in_pieces_looks_like_what_came_at_once(pieces: list[str]) -> None:
    """Of any text without reference definitions (whose effect is on other blocks), cut anywhere."""
    stream = BlockStream()
    for piece in pieces:
        stream.feed(piece)
    assert plain(stream.done + stream.open_html) == plain(render("".join(pieces)))


@given(cut_texts())
def test_what_is_done_never_changes(pieces: list[str]) -> None:
    stream = BlockStream()
    for piece in pieces:
        before = stream.done
        added = stream.feed(piece)
        assert stream.done == before + added


@given(cut_texts())
def test_where_the_cuts_are_does_not_matter(pieces: list[str]) -> None:
    cut, whole = BlockStream(), BlockStream("".join(pieces))
    for piece in pieces:
        cut.feed(piece)
    assert (cut.done, cut.open_html) == (whole.done, whole.open_html)


@given(cut_texts())
def test_looking_in_between_does_not_matter(pieces: list[str]) -> None:
    """Words are added to what was drawn before where that is safe; it must look as if all had been read again."""
    looked = BlockStream()
    for end, piece in enumerate(pieces, start=1):
        looked.feed(piece)
        assert (looked.done, looked.open_html) == ((whole := BlockStream("".join(pieces[:end]))).done, whole.open_html)


def test_only_the_open_block_is_read_again() -> None:
    """However long the answer is, a word costs what its block costs."""
    stream = BlockStream()
    longest = 0
    for _ in range(200):
        for word in ("Some ", "words ", "here.", "\n\n"):
            stream.feed(word)
            longest = max(longest, len(stream._tail))
    assert longest <= 2 * len("Some words here.\n\n")


def test_a_long_open_block_is_shown_as_written_until_it_is_complete() -> None:
    stream = BlockStream("- *one*\n" * (markdown.OPEN_LIMIT // 8))
    assert "<em>one</em>" in stream.open_html
    stream.feed("- *one*\n- <b>two</b>")
    assert "- *one*<br>\n- &lt;b&gt;two&lt;/b&gt;" in stream.open_html
    assert "<li>" not in stream.open_html
    stream.feed("\n\nAfter.\n")
    assert "<em>one</em>" in stream.done
    assert stream.open_html == "<p>After.</p>\n"


def test_long_open_code_is_shown_as_code() -> None:
    stream = BlockStream("```python\n" + "word\n" * markdown.OPEN_LIMIT)
    assert stream.open_html.startswith('<div class="code"')


@pytest.mark.parametrize("line", ["- word\n", "word ", "| *a* |\n", "> a `b\n", "```\n"])
def test_in_a_long_block_neither_cuts_nor_looks_matter(line: str) -> None:
    looked, text = BlockStream(), ""
    step = line * (markdown.OPEN_LIMIT // len(line) // 3)
    for piece in [step] * 4 + ["some words", " more words", "\n\nafter\n", "it"]:
        text += piece
        looked.feed(piece)
        assert (looked.done, looked.open_html) == ((whole := BlockStream(text)).done, whole.open_html)


def test_text_with_very_many_brackets_is_shown_as_written() -> None:
    few, many = "[a](/b) " * markdown.BRACKET_LIMIT, "[a](/b) " * (markdown.BRACKET_LIMIT + 1)
    assert 'href="/b"' in render(few)
    html = render(f"*before*\n\n{many}<b>\n\n*after*")
    assert "<em>before</em>" in html
    assert "[a](/b) [a](/b) " in html
    assert "<a" not in html
    assert "&lt;b&gt;" in html
    assert "<em>after</em>" in html


@pytest.mark.parametrize("text", ["[" * 200_000, "![" * 100_000, "[a][" * 50_000])
def test_no_brackets_take_long(text: str) -> None:
    began = time.process_time()
    both_ways(text)
    assert time.process_time() - began < 5  # It takes some milliseconds, and took many seconds.
