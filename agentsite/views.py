"""The one page that belongs to no app: the answer for load balancers and monitors."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from kombu.exceptions import OperationalError

from agentsite import health

PATH = "/healthz"
# A worker counts as alive for the 60 seconds that its last answer is kept; it is asked again at most this often.
ASK_EVERY = 30
WAIT = 1.0


@never_cache
@require_safe
async def healthz(request: HttpRequest) -> JsonResponse:
    """Say whether the parts are alive, in one word each: 503 without a database, otherwise 200.

    Nothing works without the database, so a load balancer should send people elsewhere. Without Redis or a worker
    pages and histories still open, and every other web process misses the same Redis and workers.
    """
    database = await health.database_answers()
    redis = await health.redis_answers()
    worker = redis and await _worker_lives()
    words = {
        name: "ok" if lives else "down"
        for name, lives in (("database", database), ("redis", redis), ("worker", worker))
    }
    status = "ok" if database and redis and worker else "degraded"
    return JsonResponse({"status": status, **words}, status=200 if database else 503)


async def _worker_lives() -> bool:
    """Whether a worker has answered within the last minute, asking again when that is getting old."""
    try:
        async with health.redis_client() as client:
            if await client.set(health.TRACES[1], 1, nx=True, ex=ASK_EVERY):
                await sync_to_async(health.send_ping)(health.QUESTION)
        return await health.pong_within(WAIT, health.QUESTION)
    except (*health.REDIS_ERRORS, OperationalError):
        return False


@sync_and_async_middleware
def healthz_first(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Middleware that answers /healthz before anything else looks at the request.

    A load balancer asks by the server's bare address, which ALLOWED_HOSTS refuses, rightly, to everybody else; this
    page uses no host name. It needs no session and no cookie either.
    """
    if iscoroutinefunction(get_response):

        async def answer(request: HttpRequest) -> HttpResponseBase:
            return await (healthz(request) if request.path == PATH else get_response(request))

        return answer

    def answer_sync(request: HttpRequest) -> HttpResponseBase:
        return async_to_sync(healthz)(request) if request.path == PATH else get_response(request)

    return answer_sync
