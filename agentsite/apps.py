from django.apps import AppConfig

# Tasks find their application once this is loaded. Here and not in the package, so that the supervisor stays small.
from agentsite.celery import app as celery_app

__all__ = ["AgentsiteConfig", "celery_app"]


class AgentsiteConfig(AppConfig):
    name = "agentsite"
