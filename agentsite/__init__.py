"""AgentSite put together: settings, addresses, processes. Nobody imports this package but its own modules."""

from agentsite.celery import app as celery_app

__all__ = ["celery_app"]
