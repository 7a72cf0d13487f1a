"""Every address of the site."""

from django.contrib import admin
from django.urls import include, path

from agentsite import views
from agentsite.metrics import metrics

urlpatterns = [
    path("healthz", views.healthz, name="healthz"),
    path("metrics", metrics, name="metrics"),
    path("accounts/", include("users.urls")),
    path("admin/", admin.site.urls),
    path("", include("conversations.urls")),
]
