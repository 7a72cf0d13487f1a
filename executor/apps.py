from django.apps import AppConfig
from django.conf import settings
from django.core import checks


class ExecutorConfig(AppConfig):
    name = "executor"
    verbose_name = "Agents and tasks"

    def ready(self) -> None:
        from executor import mcp_servers, model_classes
        from executor.checks import (
            check_agents_file,
            check_event_handlers,
            check_model_classes,
            check_model_hosts,
            check_tasks,
        )
        from executor.housekeeping import housekeeping, tasks_that_exist
        from executor.probes import ask_key_test, forget_old
        from executor.shelf import forget_old as forget_variables
        from tools import cache, resources
        from tools.mcp import connection
        from users import api_keys

        model_classes.register_all(settings.MODEL_CLASSES)
        checks.register(check_model_classes)
        checks.register(check_agents_file)
        checks.register(check_model_hosts)
        checks.register(check_event_handlers)
        checks.register(check_tasks)
        api_keys.PROVIDERS.append(model_classes.key_providers)
        api_keys.PROVIDERS.append(lambda: {mcp_servers.PROVIDER: "MCP server"})
        api_keys.TESTERS.append(ask_key_test)
        connection.KEYS.append(mcp_servers.key_for)
        resources.IN_USE.append(tasks_that_exist)
        housekeeping.connect(lambda **_: resources.clean(), weak=False, dispatch_uid="clean resources")
        housekeeping.connect(lambda **_: cache.forget_expired(), weak=False, dispatch_uid="forget expired results")
        housekeeping.connect(lambda **_: mcp_servers.ask_all(), weak=False, dispatch_uid="ask MCP servers")
        housekeeping.connect(lambda **_: forget_variables(), weak=False, dispatch_uid="forget old variables")
        housekeeping.connect(lambda **_: forget_old(), weak=False, dispatch_uid="forget old probes")
