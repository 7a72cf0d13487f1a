"""The product's settings, with what a test run must not share with an installation."""

import os
import tempfile
from pathlib import Path

# Every test process has a data folder of its own, thrown away with the machine's temporary files.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
os.environ.setdefault("AGENTSITE_TEST_ROOT", tempfile.mkdtemp(prefix="agentsite-test-"))
os.environ["AGENTSITE_DATA"] = str(Path(os.environ["AGENTSITE_TEST_ROOT"]) / _worker)

from agentsite.settings import *  # noqa: E402, F403
from agentsite.settings import DATA_DIR, DATABASES  # noqa: E402

if DATABASES["default"]["ENGINE"] == "agentsite.sqlite":
    # A file as in the product: threads see each other's writes, and wait for each other as they do there.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
ALLOWED_HOSTS = ["*"]
