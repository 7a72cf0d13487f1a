"""What people may send us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from django import forms
from django.http import QueryDict

from conversations.access import find_agent
from conversations.models import TITLE_LENGTH
from executor.models import Agent
from tools import uploads
from tools.models import Resource
from users.models import User

MESSAGE_LENGTH = 200_000
FILES_GONE = "A file was sent or removed elsewhere, so it is not attached any more. Send the message again."


class MessageForm(forms.Form):
    """`user` is who writes: they may choose from the agents that they may use, and send files that they uploaded to
    the conversation `thread`, or for a new one."""

    text = forms.CharField(
        strip=False,
        max_length=MESSAGE_LENGTH,
        error_messages={
            "required": "Write something first.",
            "max_length": f"A message has at most {MESSAGE_LENGTH:,} characters. Send this in parts.",
            "null_characters_not_allowed": "It contains characters that are not text. Remove them and send it again.",
        },
    )
    agent = forms.CharField(required=False)
    key = forms.CharField(required=False, max_length=64)

    def __init__(self, data: Mapping[str, Any], *, user: User | None = None, thread: UUID | None = None) -> None:
        super().__init__(data)
        self._user = user
        self._thread = thread
        #: The files that it brings, by what the page calls them, as far as they are no drafts (any more).
        self.gone: list[str] = []

    def clean_text(self) -> str:
        text: str = self.cleaned_data["text"].replace("\r\n", "\n")
        # Half of a character pair cannot be stored or sent on.
        text = text.encode("utf-8", "replace").decode("utf-8")
        if not text.strip():
            raise forms.ValidationError("Write something first.")
        return text

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        name = cleaned.get("agent")
        agent = find_agent(self._user, name) if name else Agent.objects.usable_by(self._user).first()
        if agent is None:
            self.add_error(
                None,
                "This agent is not available any more. Choose another one." if name else "There is no agent yet.",
            )
        cleaned["agent"] = agent
        cleaned["files"] = self._files()
        return cleaned

    def _files(self) -> list[Resource]:
        asked = self.data.getlist("file") if self._user and isinstance(self.data, QueryDict) else []
        if not asked:
            return []
        found = {str(file.pk): file for file in uploads.drafts(cast("User", self._user), self._thread)}
        self.gone = [name for name in asked if name not in found]
        if self.gone:
            self.add_error(None, FILES_GONE)
        return [found[name] for name in dict.fromkeys(asked) if name in found]

    def sentence(self) -> str:
        """The first thing that is wrong."""
        return str(next(iter(self.errors.values()))[0])


class TitleForm(forms.Form):
    title = forms.CharField(
        max_length=TITLE_LENGTH,
        error_messages={
            "required": "A title needs at least one character.",
            "max_length": f"A title has at most {TITLE_LENGTH} characters.",
        },
    )

    def clean_title(self) -> str:
        return " ".join(self.cleaned_data["title"].encode("utf-8", "replace").decode("utf-8").split())

    def sentence(self) -> str:
        return str(next(iter(self.errors.values()))[0])
