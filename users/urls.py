"""Addresses under /accounts/.

The views of allauth are listed one by one: including its whole table would also open several addresses per person,
e-mail verification and log-in by code, none of which this site uses, and each later release could add more.
"""

from allauth.account import views as allauth
from django.urls import path, re_path

from users import views
from users.adapter import signup_open

urlpatterns = [
    path(
        "login/",
        allauth.LoginView.as_view(extra_context={"signup_open": signup_open}),
        name="account_login",
    ),
    path("logout/", allauth.logout, name="account_logout"),
    path("inactive/", allauth.account_inactive, name="account_inactive"),
    path("signup/", allauth.signup, name="account_signup"),
    path("password/change/", allauth.password_change, name="account_change_password"),
    path("password/set/", allauth.password_set, name="account_set_password"),
    path("password/reset/", allauth.password_reset, name="account_reset_password"),
    path("password/reset/done/", allauth.password_reset_done, name="account_reset_password_done"),
    path("password/reset/key/done/", allauth.password_reset_from_key_done, name="account_reset_password_from_key_done"),
    re_path(
        r"^password/reset/key/(?P<uidb36>[0-9A-Za-z]{1,13})-(?P<key>[\w-]{1,100})/$",
        allauth.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path("settings/", views.account_settings, name="account_settings"),
    path("first-admin/<str:token>/", views.first_admin, name="first_admin"),
]
