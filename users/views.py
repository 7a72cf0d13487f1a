"""Pages about people that allauth does not bring."""

from allauth.decorators import rate_limit
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from users import firstrun
from users.forms import FirstAdminForm, SettingsForm
from users.models import User


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@sensitive_post_parameters()
def first_admin(request: HttpRequest, token: str) -> HttpResponse:
    response = _first_admin(request, token)
    # The address is the secret, so it goes into no Referer. ("no-referrer" would also hide the Origin from our own
    # CSRF check.)
    response["Referrer-Policy"] = "strict-origin"
    return response


def _first_admin(request: HttpRequest, token: str) -> HttpResponse:
    gone = {"first_admin_needed": firstrun.first_admin_needed()}
    if not firstrun.is_valid(token):
        return render(request, "users/first_admin_invalid.html", gone, status=410)
    form = FirstAdminForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        user = form.save(commit=False)
        try:
            created = firstrun.create_first_admin(token, user)
        except IntegrityError:
            form.add_error(None, "This user name or e-mail address was taken a moment ago. Choose another.")
        else:
            if not created:
                gone = {"first_admin_needed": firstrun.first_admin_needed()}
                return render(request, "users/first_admin_invalid.html", gone, status=410)
            login(request, user)
            return redirect("/")
    return render(request, "users/first_admin.html", {"form": form})


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@rate_limit(action="manage_email")  # type: ignore[untyped-decorator]  # allauth carries no types
@never_cache
@sensitive_post_parameters("current_password")
def account_settings(request: HttpRequest) -> HttpResponse:
    # The form writes into its instance even when it refuses; request.user is what the page shows as the truth.
    assert isinstance(request.user, User)
    person = User.objects.get(pk=request.user.pk)
    form = SettingsForm(request.POST or None, instance=person)
    if request.method == "POST" and form.is_valid():
        try:
            form.save()
        except IntegrityError:
            form.add_error("email", "Somebody uses this e-mail address already.")
        else:
            messages.success(request, "Saved.")
            return redirect("account_settings")
    return render(request, "users/settings.html", {"form": form})
