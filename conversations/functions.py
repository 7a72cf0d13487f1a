"""What agents may ask about a person's earlier conversations."""

from __future__ import annotations

from conversations.search import search
from tools.core.context import Context
from tools.core.function import function
from users.models import User


@function(effect="read")
def search_conversations(query: str, context: Context, limit: int = 5) -> list[dict[str, str]]:
    """Search the person's own earlier conversations with agents.

    Args:
        query: Words that must all occur in a conversation: in its title, the person's messages or the answers.
        limit: How many conversations to return at most, 1 to 20.

    Returns:
        The conversations found, the most recent first, each with title, date, excerpt and address.
    """
    user = User.objects.get(pk=context.user_id or 0)
    return [
        {
            "title": found.title,
            "when": found.updated_at.date().isoformat(),
            "excerpt": found.excerpt,
            "url": found.url,
        }
        for found in search(user, query, max(1, min(limit, 20)))
    ]
