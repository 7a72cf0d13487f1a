"""/metrics: for Prometheus, which has a token, and for administrators."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

REFUSED = (
    "Metrics are for administrators, and for whoever sends “Authorization: Bearer …” with the METRICS_TOKEN of this "
    "site.\n"
)


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    if not (_has_token(request) or (request.user.is_authenticated and request.user.is_staff)):
        refused = HttpResponse(REFUSED, status=401, content_type="text/plain; charset=utf-8")
        refused["WWW-Authenticate"] = "Bearer"
        return refused
    from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4  # Where nobody asks, nothing of it is in memory.

    from executor.metrics import written

    return HttpResponse(written(), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _has_token(request: HttpRequest) -> bool:
    """Without a METRICS_TOKEN nobody has it."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    wanted = settings.METRICS_TOKEN
    return bool(wanted) and scheme.lower() == "bearer" and secrets.compare_digest(given.encode(), wanted.encode())
