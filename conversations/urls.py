"""The addresses of the chat."""

from django.urls import path

from conversations import decide, keys, servers, usage, views

urlpatterns = [
    path("", views.home, name="home"),
    path("send/", views.send_new, name="send_new"),
    path("c/<uuid:conversation_id>/", views.conversation, name="conversation"),
    path("c/<uuid:conversation_id>/send/", views.send, name="send"),
    path("c/<uuid:conversation_id>/rename/", views.rename, name="rename"),
    path("c/<uuid:conversation_id>/delete/", views.delete, name="delete"),
    path("c/<uuid:conversation_id>/restore/", views.restore, name="restore"),
    path("c/<uuid:conversation_id>/pin/", views.pin, name="pin"),
    path("c/<uuid:conversation_id>/usage/", usage.conversation_usage, name="conversation_usage"),
    path("c/<uuid:conversation_id>/older/<uuid:turn_id>/", views.older, name="older"),
    path("t/<uuid:task_id>/", views.task, name="task"),
    path("t/<uuid:task_id>/steps/", views.task_steps, name="task_steps"),
    path("t/<uuid:task_id>/answer.md", views.answer, name="answer"),
    path("t/<uuid:task_id>/stop/", views.stop, name="stop"),
    path("t/<uuid:task_id>/now/", views.send_now, name="send_now"),
    path("t/<uuid:task_id>/take-back/", views.take_back, name="take_back"),
    path("t/<uuid:task_id>/retry/", views.retry, name="retry"),
    path("d/<int:decision_id>/", decide.decide, name="decide"),
    path("f/<uuid:resource_id>/", views.file, name="file"),
    path("search/", views.search, name="search"),
    path("settings/usage/", usage.usage, name="usage"),
    path("settings/usage.csv", usage.usage_csv, name="usage_csv"),
    path("settings/keys/", keys.keys, name="keys"),
    path("settings/keys/add/", keys.add_key, name="add_key"),
    path("settings/keys/<int:key_id>/", keys.key_state, name="key_state"),
    path("settings/keys/<int:key_id>/test/", keys.test_key, name="test_key"),
    path("settings/keys/<int:key_id>/replace/", keys.replace_key, name="replace_key"),
    path("settings/keys/<int:key_id>/revoke/", keys.revoke_key, name="revoke_key"),
    path("settings/keys/<int:key_id>/models/", keys.key_models, name="key_models"),
    path("settings/servers/", servers.servers, name="servers"),
    path("settings/servers/connect/", servers.connect_server, name="connect_server"),
    path("settings/servers/<uuid:probe_id>/", servers.server, name="server"),
    path("settings/servers/<uuid:probe_id>/try/", servers.try_model, name="try_model"),
    path("settings/servers/<uuid:probe_id>/use/", servers.use_model, name="use_model"),
    path("settings/agents/<int:agent_id>/", servers.edit_agent, name="edit_agent"),
    path("settings/agents/<int:agent_id>/delete/", servers.delete_agent, name="delete_agent"),
]
