"""The one socket that every page opens."""

from django.urls import path

from conversations.consumers import LiveConsumer

websocket_urlpatterns = [path("live/", LiveConsumer.as_asgi())]  # type: ignore[arg-type]  # This is how Channels wants it.
