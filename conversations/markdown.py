"""What models write, as HTML that is safe to show: rendered on the server, sanitised last.

`render` is for finished text. `BlockStream` is for text that is still being written: blocks that are complete are
rendered once, only the open one is rendered again, so a long answer costs no more than a short one per word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from typing import Any

import nh3
from django.utils.safestring import SafeString, mark_safe
from latex2mathml.converter import convert as latex_to_mathml
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

OWN_FILE = re.compile(r"/f/[0-9a-f-]{36}/(\?download)?$")
#: Longer code is shown without colours: a lexer is not worth seconds of everybody's time.
HIGHLIGHT_LIMIT = 50_000
MATH_LIMIT = 2_000
#: An open block that is longer is shown as it was written until it is complete: it is read again for every few words.
OPEN_LIMIT = 10_000
#: Text with more of them is shown as it was written: what might be a link is read to its end from each bracket.
BRACKET_LIMIT = 2_000

_TEXT_TAGS = "p br hr h1 h2 h3 h4 h5 h6 strong em s del code pre blockquote ul ol li a div span img"
_TABLE_TAGS = "table thead tbody tr th td"
_MATH_TAGS = (
    "math mrow mi mn mo ms mtext mspace mover munder munderover msup msub msubsup mfrac msqrt mroot mstyle mtable mtr "
    "mtd mpadded mphantom menclose"
)
_MATH_ATTRIBUTES = (
    "display mathvariant stretchy fence separator lspace rspace form accent accentunder columnalign rowspacing "
    "columnspacing linethickness minsize maxsize width height depth notation"
)
_TAGS = set(f"{_TEXT_TAGS} {_TABLE_TAGS} {_MATH_TAGS}".split())
_ATTRIBUTES: dict[str, set[str]] = {
    "a": {"href", "title", "class"},
    "img": {"src", "alt", "title", "loading"},
    "div": {"class", "data-language"},
    "span": {"class"},
    "pre": {"class"},
    "code": {"class"},
    "ol": {"start"},
    "th": {"class"},
    "td": {"class"},
    **{tag: set(_MATH_ATTRIBUTES.split()) for tag in _MATH_TAGS.split()},
}

_formatter = HtmlFormatter(nowrap=True)


def render(text: str) -> SafeString:
    """The whole of `text`, which is finished."""
    return _sanitise(_markdown.render(_harmless(text)))


@lru_cache(maxsize=256)  # A page that is watched shows the same code at each look.
def code_html(code: str, language: str) -> SafeString:
    """A block of code as in an answer, which can be scrolled by keyboard."""
    html = _sanitise(_code_block(language, _highlighted(_harmless(code), language)))
    return mark_safe(html.replace("<pre ", '<pre tabindex="0" ', 1).strip())  # noqa: S308  (sanitised just above)


def plain(text: str) -> str:
    """The words of `text` without its marks, in one line; of links and images what is shown of them."""
    breaks = ("softbreak", "hardbreak")
    blocks = (
        "".join(" " if child.type in breaks else child.content for child in token.children or [token])
        for token in _markdown.parse(_harmless(text))
    )
    return " ".join(" ".join(blocks).split())


class BlockStream:
    """Text that grows: `feed` gives what has become final since the last time, `open_html` the rest as it stands."""

    def __init__(self, text: str = "") -> None:
        self.done = SafeString("")  # The HTML of all complete blocks.
        self._tail = ""
        self._open: _Growing | None = None
        self.feed(text)

    def feed(self, text: str) -> SafeString:
        """Add `text`. Returns the HTML of the blocks that are complete now ("" mostly).

        A block is complete when another one follows it. Only whole lines tell: “-” may begin a list, or “---word”.
        """
        text = _harmless(text)
        self._tail += text
        if self._open and self._open.add(text) and not self._is_too_long:
            return SafeString("")
        self._open = None
        complete = self._take_complete() if "\n" in text else SafeString("")
        self.done += complete
        return complete

    def _take_complete(self) -> SafeString:
        lines = self._tail.split("\n")
        settled = len(lines) - 1
        blank = max((i for i in range(settled) if not lines[i].strip()), default=-1)
        # Once it is closed, a formula swallows what until then reads as other blocks. A blank line ends it, too.
        settled = next((i for i in range(blank + 1, settled) if "$$" in lines[i]), settled)
        tokens = _blocks.parse("\n".join(lines[:settled]))
        line = max((token.map[0] for token in tokens if token.level == 0 and token.map), default=0)
        if not line:
            return SafeString("")
        self._tail = "\n".join(lines[line:])
        return render("\n".join(lines[:line]) + "\n")

    @property
    def started(self) -> bool:
        return bool(self.done or self._tail)

    @property
    def _is_too_long(self) -> bool:
        """Whether reading the open block again takes too long. Code is only copied, so it may be long."""
        return len(self._tail) > OPEN_LIMIT and not self._tail.startswith(("```", "~~~"))

    @property
    def open_html(self) -> SafeString:
        """The block that is still being written. Code in it has no colours yet."""
        if not self._tail:
            return SafeString("")
        if self._is_too_long:
            return mark_safe("<p>" + escape(self._tail, quote=False).replace("\n", "<br>\n") + "</p>")  # noqa: S308
        if self._open is None:
            self._open = _Growing(self._tail, _sanitise(_open_markdown.render(self._tail)))
        return self._open.html


class _Growing:
    """The HTML of an open block, which plain words can be added to without reading the block again.

    Most of an answer is words in a paragraph or in a list's item, or lines of code. As long as nothing but these comes,
    they go in before the closing tags; anything that could mean something to Markdown is refused.
    """

    _CLOSING = re.compile(r"(?:</(?:p|li|ul|ol|blockquote)>\s*)+\Z")
    _CLOSING_CODE = re.compile(r"</code></pre></div>\s*\Z")
    # A line that begins with a word is nothing but words, whatever words follow.
    _WORDS_LINE = re.compile(r"\s{0,3}(?:> ?)*\s*(?:(?:[-*+]|\d{1,9}[.)]) +)*[^\W\d_]")
    _WORDS = re.compile(r"(?:[^\W_]|[ ,.?!'\"%/–—’“”-])+")
    _HELD = re.compile(r" *\Z")
    _HELD_CODE = re.compile(r"(?:\n[ \t]*)?\Z")
    _FENCE = re.compile(r"(?:```|~~~)[^`~\n]*\n[^`~]*[^`~\s][^`~]*\Z")
    _CODE = re.compile(r"[^`~\t\xa0\r]+")

    def __init__(self, tail: str, html: SafeString) -> None:
        self.html = html
        self._held = ""  # White space at the end shows only when something follows it.
        self._hold: re.Pattern[str] = self._HELD
        self._allowed: re.Pattern[str] | None = None
        if closing := self._CLOSING.search(html):
            words = tail.rstrip(" ")
            is_words = self._WORDS_LINE.match(tail.rpartition("\n")[2]) and self._WORDS.fullmatch(words[-1])
            # Whether a dollar sign begins a formula depends on what comes much later.
            if is_words and "$" not in tail and html[: closing.start()].endswith(words[-1]):
                self._begin(closing.start(), tail, self._WORDS, self._HELD)
        elif (closing := self._CLOSING_CODE.search(html)) and self._FENCE.match(tail):
            self._begin(closing.start(), tail, self._CODE, self._HELD_CODE)

    def add(self, text: str) -> bool:
        """Put `text` in, unless it could be more than words."""
        if self._allowed is None or not self._allowed.fullmatch(text):
            return False
        self._show(self._held + text)
        return True

    def _begin(self, at: int, tail: str, allowed: re.Pattern[str], hold: re.Pattern[str]) -> None:
        self._head, self._closing = str(self.html[:at]), str(self.html[at:])
        self._allowed, self._hold = allowed, hold
        self._held = _end(hold, tail)

    def _show(self, text: str) -> None:
        self._held = _end(self._hold, text)
        self._head += escape(text[: len(text) - len(self._held)], quote=False)
        self.html = mark_safe(self._head + self._closing)  # noqa: S308  (escaped just above)


def _end(pattern: re.Pattern[str], text: str) -> str:
    """What `pattern` finds at the end of `text`."""
    found = pattern.search(text)
    return found[0] if found else ""


def _harmless(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\x00", "\ufffd")


def _sanitise(html: str) -> SafeString:
    clean = nh3.clean(
        html,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
        strip_comments=True,
    )
    return mark_safe(clean)  # noqa: S308  (this is the sanitiser)


# --- how each kind of token becomes HTML -----------------------------------------------------------------------------


def _code(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    language = (tokens[index].info.split() or [""])[0][:30]
    return _code_block(language, _highlighted(tokens[index].content, language))


def _open_code(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    language = (tokens[index].info.split() or [""])[0][:30]
    return _code_block(language, escape(tokens[index].content, quote=False))


def _code_block(language: str, code: str) -> str:
    code = code.removesuffix("\n")  # The highlighter always ends with one.
    label = escape(language or "text")
    head = f'<div class="code-head"><span class="code-language">{label}</span></div>'
    pre = f'<pre class="highlight"><code>{code}</code></pre>'
    return f'<div class="code" data-language="{label}">{head}{pre}</div>\n'


def _highlighted(code: str, language: str) -> str:
    if not language or len(code) > HIGHLIGHT_LIMIT:
        return escape(code, quote=False)
    try:
        return str(highlight(code, get_lexer_by_name(language, stripnl=False, ensurenl=False), _formatter))
    except ClassNotFound:
        return escape(code, quote=False)


def _image(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Own files are shown. Anything else is a link: loading it would tell its server who reads this."""
    token = tokens[index]
    source, alt = str(token.attrs.get("src", "")), escape(token.content)
    if OWN_FILE.match(source):
        return f'<img src="{escape(source)}" alt="{alt}" loading="lazy">'
    return f'<a class="external-image" href="{escape(source)}">{alt or escape(source)}</a>'


def _table_open(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return '<div class="table-scroll"><table>\n'


def _table_close(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return "</table></div>\n"


def _cell_open(renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """Alignment as a class: inline styles are forbidden here."""
    token = tokens[index]
    align = str(token.attrs.get("style", "")).removeprefix("text-align:")
    return f'<{token.tag} class="{align}">' if align in ("left", "center", "right") else f"<{token.tag}>"


def _math(content: str, options: dict[str, Any]) -> str:
    try:
        if len(content) > MATH_LIMIT:
            raise ValueError("too long")
        return str(latex_to_mathml(content, display="block" if options["display_mode"] else "inline"))
    except Exception:  # The converter raises what it likes on what it cannot read.
        return f"<code>{escape(content)}</code>"


def _inline(state: StateCore) -> None:
    """What stands inside blocks: links, emphasis, formulas …"""
    for token in state.tokens:
        if token.type != "inline":
            continue
        token.children = []
        if token.content.count("[") > BRACKET_LIMIT:
            token.children.append(Token("text", "", 0, content=token.content))
        else:
            state.md.inline.parse(token.content, state.md, state.env, token.children)


def _build(code: Any) -> MarkdownIt:
    markdown = MarkdownIt("commonmark", {"html": False, "maxNesting": 100})
    markdown.enable(["table", "strikethrough"])
    markdown.core.ruler.at("inline", _inline)
    markdown.use(
        dollarmath_plugin,
        renderer=_math,
        allow_space=False,
        allow_digits=False,
        double_inline=True,
        allow_blank_lines=False,
    )
    for name, rule in {
        "fence": code,
        "code_block": code,
        "image": _image,
        "table_open": _table_open,
        "table_close": _table_close,
        "th_open": _cell_open,
        "td_open": _cell_open,
    }.items():
        markdown.add_render_rule(name, rule)
    return markdown


_markdown = _build(_code)
_open_markdown = _build(_open_code)
_blocks = _build(_open_code).disable("inline")  # Where blocks begin, and nothing of what is in them.
