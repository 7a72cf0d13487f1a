from typing import Any

from asgiref.sync import async_to_sync
from django.apps import AppConfig


class ConversationsConfig(AppConfig):
    name = "conversations"
    verbose_name = "Conversations"

    def ready(self) -> None:
        from conversations.actions import empty_bin
        from executor.housekeeping import housekeeping
        from users.signals import rights_changed

        rights_changed.connect(close_sockets, dispatch_uid="close sockets")
        housekeeping.connect(lambda **_: empty_bin(), weak=False, dispatch_uid="empty the bin")


def close_sockets(user_id: int, **_: Any) -> None:
    """Let every open page of the person find out whether it may still listen."""
    from executor.hints import send_to_pages

    async_to_sync(send_to_pages)(user_id, {"type": "rights.changed"})
