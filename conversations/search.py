"""Finding what was said: in titles, in people's words and in agents' answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q
from django.utils.html import format_html
from django.utils.safestring import SafeString

from conversations.access import conversations_of
from conversations.markdown import plain
from conversations.models import Conversation, Turn
from executor.models import Step
from users.models import User

WORDS = 8
AROUND = 80
#: The steps in which something is said: by a model, or by the person meanwhile.
SAID = (Step.Kind.MODEL, Step.Kind.MESSAGE)


@dataclass(frozen=True, slots=True)
class Found:
    title: str
    url: str
    updated_at: datetime
    excerpt: str
    snippet: SafeString


def search(user: User, query: str, limit: int = 20) -> list[Found]:
    """Conversations that contain every word of `query`, the one last active first."""
    words = query.replace("\x00", "").split()[:WORDS]
    if not words:
        return []
    found = conversations_of(user)
    for word in words:
        answered = Step.objects.filter(kind__in=SAID, text__icontains=word).values("task")
        said = Turn.objects.filter(Q(text__icontains=word) | Q(task__in=answered), conversation__user=user)
        found = found.filter(Q(title__icontains=word) | Q(pk__in=said.values("conversation")))
    return [_found(conversation, words) for conversation in found.order_by("-active_at")[:limit]]


def _found(conversation: Conversation, words: list[str]) -> Found:
    excerpt = _excerpt(conversation, words[0])
    match = _find(words[0], excerpt)
    if match:
        snippet = format_html("{}<mark>{}</mark>{}", excerpt[: match.start()], match[0], excerpt[match.end() :])
    else:
        snippet = format_html("{}", excerpt)
    return Found(conversation.title, conversation.get_absolute_url(), conversation.active_at, excerpt, snippet)


def _excerpt(conversation: Conversation, word: str) -> str:
    """What surrounds `word` where it was said, or how the conversation begins."""
    # Variants that are not shown are found as well; what the page shows is quoted first.
    turn = conversation.turns.filter(text__icontains=word).order_by("-shown", "position").first()
    step = (
        None
        if turn
        else Step.objects.filter(task__turn__conversation=conversation, kind__in=SAID, text__icontains=word)
        .only("text")
        .order_by("-task__turn__shown", "task__turn__position", "seq")
        .first()
    )
    text = turn.text if turn else _words_around(word, step.text) if step else ""
    match = _find(word, text)
    if match is None:
        first = conversation.turns.filter(shown=True).first()
        shown = text or (first.text if first else "")
        return " ".join(shown.split())[: 2 * AROUND]
    start, end = max(0, match.start() - AROUND), match.end() + AROUND
    piece = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{piece}{'…' if end < len(text) else ''}"


def _words_around(word: str, markdown: str) -> str:
    """What is shown of the lines around `word`, enough of them to cut an excerpt from."""
    match = _find(word, markdown)
    if match is None:
        return ""
    start = markdown.rfind("\n", 0, max(0, match.start() - 5 * AROUND)) + 1
    end = markdown.find("\n", match.end() + 5 * AROUND)
    return plain(markdown[start : end if end >= 0 else None])


def _find(word: str, text: str) -> re.Match[str] | None:
    # Not by lower(), which makes some letters two.
    return re.search(re.escape(word), text, re.IGNORECASE)
