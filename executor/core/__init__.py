"""The core: plain Python and asyncio. No Django, no Celery, no network; what it needs is passed in."""
