from django.apps import AppConfig


class ExecutorConfig(AppConfig):
    name = "executor"
    verbose_name = "Agents and tasks"

    def ready(self) -> None:
        from executor.housekeeping import housekeeping, tasks_that_exist
        from tools import resources

        resources.IN_USE.append(tasks_that_exist)
        housekeeping.connect(lambda **_: resources.clean(), weak=False, dispatch_uid="clean resources")
