from django.apps import AppConfig
from django.core import checks


class ToolsConfig(AppConfig):
    name = "tools"
    verbose_name = "Tools"

    def ready(self) -> None:
        from tools.checks import check_functions, check_hosts, check_mcp_commands, check_sandbox, check_storage

        checks.register(check_functions)
        checks.register(check_hosts)
        checks.register(check_mcp_commands)
        checks.register(check_sandbox)
        checks.register(check_storage)
