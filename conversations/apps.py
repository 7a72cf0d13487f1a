from typing import Any

from django.apps import AppConfig


class ConversationsConfig(AppConfig):
    name = "conversations"
    verbose_name = "Conversations"

    def ready(self) -> None:
        from conversations.actions import empty_bin, leave_line, lock_line, take_place
        from executor.actions import retried, retrying
        from executor.housekeeping import housekeeping
        from executor.queue import leaving
        from users.signals import rights_changed

        rights_changed.connect(close_sockets, dispatch_uid="close sockets")
        leaving.connect(leave_line, dispatch_uid="leave the line")
        retrying.connect(lock_line, dispatch_uid="lock the line")
        retried.connect(take_place, dispatch_uid="take its place")
        housekeeping.connect(lambda **_: empty_bin(), weak=False, dispatch_uid="empty the bin")


def close_sockets(user_id: int, **_: Any) -> None:
    """Let every open page of the person find out whether it may still listen."""
    from executor.hints import tell_pages_soon

    tell_pages_soon(user_id, {"type": "rights.changed"})
