"""The addresses of the chat."""

from django.urls import path

from conversations import views

urlpatterns = [
    path("", views.home, name="home"),
    path("send/", views.send_new, name="send_new"),
    path("c/<uuid:conversation_id>/", views.conversation, name="conversation"),
    path("c/<uuid:conversation_id>/send/", views.send, name="send"),
    path("c/<uuid:conversation_id>/rename/", views.rename, name="rename"),
    path("c/<uuid:conversation_id>/delete/", views.delete, name="delete"),
    path("c/<uuid:conversation_id>/restore/", views.restore, name="restore"),
    path("c/<uuid:conversation_id>/pin/", views.pin, name="pin"),
    path("c/<uuid:conversation_id>/older/<uuid:turn_id>/", views.older, name="older"),
    path("t/<uuid:task_id>/", views.task, name="task"),
    path("t/<uuid:task_id>/steps/", views.task_steps, name="task_steps"),
    path("t/<uuid:task_id>/answer.md", views.answer, name="answer"),
    path("t/<uuid:task_id>/stop/", views.stop, name="stop"),
    path("t/<uuid:task_id>/retry/", views.retry, name="retry"),
    path("f/<uuid:resource_id>/", views.file, name="file"),
    path("search/", views.search, name="search"),
]
