"""Settings: one file, read from the environment, with defaults that run.

Every value an operator may set is an environment variable, listed in docs/operating.md. `manage.py up` needs none.
"""

import os
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from agentsite import data
from users import keyring

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
DATA_DIR = data.chosen()
SECRETS_FILE = data.ensure(DATA_DIR)
# What encrypts people's API keys. "" means that the file has it: it is read there when needed (users/vault.py), and
# processes that we start, which may be anything, do not inherit it.
KEYRING = env.str("KEYRING", default="")
env.read_env(SECRETS_FILE)
if not KEYRING:
    os.environ.pop("KEYRING", None)
keyring.parse(KEYRING or keyring.read(SECRETS_FILE))

# --- Django ----------------------------------------------------------------------------------------------------------

SECRET_KEY = env.str("SECRET_KEY")
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
HTTPS = env.bool("HTTPS", default=False)

ROOT_URLCONF = "agentsite.urls"
ASGI_APPLICATION = "agentsite.asgi.application"
# Requests that one web process works on at a time; more of them only get into each other's way (see asgi.py).
REQUESTS_AT_ONCE = env.int("REQUESTS_AT_ONCE", default=3)

INSTALLED_APPS = [
    "daphne",
    "agentsite",
    "conversations",
    "executor",
    "tools",
    "users",
    "channels",
    "django_htmx",
    "allauth",
    "allauth.account",
    "csp",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "agentsite.views.healthz_first",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
TIME_ZONE = env.str("TIME_ZONE", default="UTC")
USE_I18N = True
USE_TZ = True

# --- Database --------------------------------------------------------------------------------------------------------

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{DATA_DIR / 'db.sqlite3'}")}
if "ENGINE" not in DATABASES["default"]:
    raise ImproperlyConfigured("DATABASE_URL must look like postgres://user:password@host:5432/name")
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["ENGINE"] = "agentsite.sqlite"
    # To open the file and read its schema takes longer than most requests do with it.
    DATABASES["default"]["CONN_MAX_AGE"] = None
    # Writers take their lock when the transaction begins and wait for it, so "database is locked" does not happen.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON; PRAGMA cache_size=-8000;"
        ),
    }
else:
    # Requests run on threads that come and go, so connections belong to the process.
    DATABASES["default"].setdefault("OPTIONS", {})["pool"] = {
        "min_size": 1,
        "max_size": env.int("DATABASE_POOL", default=32),
        "timeout": 10,
        # Pauses between attempts grow for so long and then begin anew, so that a server that is back is soon noticed;
        # no shorter than the timeout, so that nobody waits while nothing is attempted.
        "reconnect_timeout": 10,
    }
    # After a restart of the server the pool still holds the connections of before.
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True

# The cache holds counters of the rate limits only. In the database it is as durable as what it protects.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "cache",
        # Beyond this many rows counters are thrown away: at the default of 300 anybody could push theirs out.
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}

# --- Redis: broker, channel layer, live streams ----------------------------------------------------------------------

REDIS_SOCKET = data.redis_socket(DATA_DIR)
REDIS_URL = env.str("REDIS_URL", default=f"unix://{REDIS_SOCKET}")

CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}},
}

# --- Worker ----------------------------------------------------------------------------------------------------------

# kombu spells a unix socket differently from redis-py.
CELERY_BROKER_URL = f"redis+socket://{urlsplit(REDIS_URL).path}" if REDIS_URL.startswith("unix://") else REDIS_URL
CELERY_WORKER_POOL = "threads"
CELERY_WORKER_CONCURRENCY = env.int("WORKER_CONCURRENCY", default=128)
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_IGNORE_RESULT = True
# The database decides what runs (executor/journal); a message is only a hint, so it is acknowledged at once and a
# failure to send one is not retried.
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    # Without these a person who sends a message while Redis is away waits six seconds for a hint that may get lost.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0,
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"

# --- Agents and functions --------------------------------------------------------------------------------------------

AGENTS_FILE = Path(env.str("AGENTS_FILE", default=str(BASE_DIR / "agents.yaml")))
# Language model classes of one's own, as name=package.module.Class (see docs/adding-a-model.md).
MODEL_CLASSES = env.list("MODEL_CLASSES", default=[])
# Modules in this folder are discovered as functions beside those that the apps bring (`functions` in each app).
FUNCTIONS_DIR = Path(env.str("FUNCTIONS_DIR", default=str(DATA_DIR / "functions")))
# Tasks of people's own, beside those that come with AgentSite (the folder `tasks` of the project).
TASKS_DIR = Path(env.str("TASKS_DIR", default=str(DATA_DIR / "tasks")))
# Commands that an administrator may choose as MCP servers: "files=/usr/bin/mcp-files /srv/docs; git=mcp-git".
MCP_COMMANDS = env.str("MCP_COMMANDS", default="")
# Hosts that functions may reach although their address is private. Everything public is reachable, nothing else is.
FETCH_ALLOWED_HOSTS = env.list("FETCH_ALLOWED_HOSTS", default=[])
# Hosts ("ollama", "10.0.0.7:8000") that models of people's own agents may have although their address is private.
# Who may edit agents in admin can connect to any.
MODEL_HOSTS = env.list("MODEL_HOSTS", default=[])
# How many tokens a model is taken to read at once where neither its agent nor the list of models says it, and how many
# are used of one that reads more: what a message costs grows with it. (An agent's own `context_window` goes before.)
CONTEXT_WINDOW = env.int("CONTEXT_WINDOW", default=32_768)
CONTEXT_TOKENS = env.int("CONTEXT_TOKENS", default=100_000)
# What runs the code of agents, apart from everything else; "" is nothing, and then no code is run (docs/sandbox.md).
SANDBOX_BACKEND = env.str("SANDBOX_BACKEND", default="tools.sandbox.bwrap.Backend")
# Options of that class, "name=value,name=value".
SANDBOX_OPTIONS = env.dict("SANDBOX_OPTIONS", default={})
# What one session may use, of which a task has one at most: seconds of a call, memory, processes, files, and how much
# is kept of what a call prints.
SANDBOX_SECONDS = env.float("SANDBOX_SECONDS", default=60.0)
SANDBOX_MEMORY_MB = env.int("SANDBOX_MEMORY_MB", default=600)
SANDBOX_PROCESSES = env.int("SANDBOX_PROCESSES", default=48)
SANDBOX_WORKSPACE_MB = env.int("SANDBOX_WORKSPACE_MB", default=256)
# So many of them one worker has at once; further calls wait for a while.
SANDBOX_SESSIONS = env.int("SANDBOX_SESSIONS", default=12)
SANDBOX_OUTPUT_KB = env.int("SANDBOX_OUTPUT_KB", default=1024)
# Functions that are told what happened in tasks (see docs/watching.md), as package.module.function.
EVENT_HANDLERS = env.list("EVENT_HANDLERS", default=[])
# How long a task waits for somebody to decide something before it is stopped.
DECISION_DAYS = env.int("DECISION_DAYS", default=7)
# How long files are kept once no conversation refers to them, and how long those that were never sent.
RESOURCE_DAYS = env.int("RESOURCE_DAYS", default=30)
DRAFT_DAYS = env.int("DRAFT_DAYS", default=7)
# How large a file may be that people send, and how much all files of a person may take where their row says nothing
# else; None is as much as they like. In megabytes.
UPLOAD_MB = env.int("UPLOAD_MB", default=25)
FILES_MB = env.int("FILES_MB", default=1024)
# What the tasks of a person may use on a day, where their row says nothing else; None is as much as they like.
DAY_LIMIT_TOKENS = env.int("DAY_LIMIT_TOKENS", default=None)
try:
    DAY_LIMIT_COST = env("DAY_LIMIT_COST", cast=Decimal, default=None)
except ArithmeticError as error:
    raise ImproperlyConfigured("DAY_LIMIT_COST must be an amount in US dollars, such as 2.50") from error

# --- Metrics ---------------------------------------------------------------------------------------------------------

# Who asks for /metrics with it need not be an administrator. "" means that there is none.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
# A small file for each process that counts something. prometheus_client reads the variable when it is imported.
METRICS_DIR = DATA_DIR / "run" / "metrics"
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(METRICS_DIR)

# --- People ----------------------------------------------------------------------------------------------------------

AUTH_USER_MODEL = "users.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
SIGNUP_OPEN = env.bool("SIGNUP_OPEN", default=True)
LOGIN_REDIRECT_URL = "/"
LOGIN_URL = "account_login"
ACCOUNT_ADAPTER = "users.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_FORMS = {"login": "users.forms.LoginForm"}
ACCOUNT_EMAIL_SUBJECT_PREFIX = "[AgentSite] "
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if HTTPS else "http"
# How often, in how long (s, m, h), per what: client address, person, or the account that is tried.
ACCOUNT_RATE_LIMITS = {
    "login": "30/m/ip",
    "login_failed": "10/m/ip,5/5m/key",
    "signup": "30/10m/ip",
    "reset_password": "10/10m/ip,3/10m/key",
    "reset_password_from_key": "10/m/ip",
    "change_password": "5/m/user",
    "manage_email": "10/m/user",
    "test_key": "12/m/user",
    "ask_server": "30/m/user",
}
# How many reverse proxies stand before this site and append to X-Forwarded-For. Without any the header is ignored,
# so that nobody escapes a rate limit by writing it.
ALLAUTH_TRUSTED_PROXY_COUNT = env.int("TRUSTED_PROXIES", default=0)
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
EMAIL_CONFIG = env.email_url("EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="AgentSite <agentsite@localhost>")

# --- Files -----------------------------------------------------------------------------------------------------------

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
MEDIA_ROOT = DATA_DIR / "resources"
# Where people's files and those of functions lie: a storage of Django, and what it is made with. See docs/files.md.
FILES_STORAGE = env.str("FILES_STORAGE", default="django.core.files.storage.FileSystemStorage")
FILES_STORAGE_OPTIONS = env.dict("FILES_STORAGE_OPTIONS", default={})
STORAGES = {
    "default": {"BACKEND": FILES_STORAGE, "OPTIONS": FILES_STORAGE_OPTIONS},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

# --- Security --------------------------------------------------------------------------------------------------------

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "media-src": ["'self'"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        "manifest-src": ["'self'"],
    }
}
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 12 * 1024 * 1024

# --- Logging ---------------------------------------------------------------------------------------------------------

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
# Classes of handlers that get every line as well (see docs/watching.md), as package.module.Class.
LOG_HANDLERS = {}
for path in env.list("LOG_HANDLERS", default=[]):
    try:
        LOG_HANDLERS[path] = {"()": import_string(path)}
    except Exception as error:
        raise ImproperlyConfigured(f"LOG_HANDLERS: {path} cannot be imported: {error}") from error
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{levelname:<7} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}, **LOG_HANDLERS},
    "root": {"handlers": ["stderr", *LOG_HANDLERS], "level": "WARNING"},
    "loggers": {
        **{
            name: {"level": LOG_LEVEL}
            for name in ("agentsite", "conversations", "executor", "tools", "users", "celery")
        },
        # What people may not do, or ask for wrongly, is answered on the page; only our own faults are worth a line.
        "django.request": {"level": "ERROR"},
    },
}
