from django.apps import AppConfig
from django.core import checks


class ExecutorConfig(AppConfig):
    name = "executor"
    verbose_name = "Agents and tasks"

    def ready(self) -> None:
        from executor.checks import check_agents_file
        from executor.housekeeping import housekeeping, tasks_that_exist
        from tools import resources

        checks.register(check_agents_file)
        resources.IN_USE.append(tasks_that_exist)
        housekeeping.connect(lambda **_: resources.clean(), weak=False, dispatch_uid="clean resources")
