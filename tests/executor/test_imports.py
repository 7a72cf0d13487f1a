"""SDKs take a second and a hundred megabytes: a web process has none of them, whatever it shows and checks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.agentsite.conftest import ROOT, environment

HEAVY = ("openai", "anthropic", "google.genai", "genai_prices", "mcp")

# What a web process does with agents, all of it: pages, choices, forms that are saved and refused, the file.
WEB = """
import sys
import agentsite.asgi
from django.conf import settings
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from executor.agents_file import load, read
from executor.core.llms.factory import LLMS
from executor.models import Agent, provider_choices
from executor.registry import AgentRegistry
from tests.executor.test_admin import agent_form
from users.models import User

call_command("migrate", verbosity=0)
call_command("check")
call_command("load_agents", verbosity=0)
client = Client()
client.force_login(User.objects.create_superuser("dora"))
assert {name for name, _ in provider_choices()} == set(LLMS) == set(AgentRegistry().types())
add = reverse("admin:executor_agent_add")
for provider in LLMS:
    form = agent_form(name=f"by-{provider}", provider=provider, model="m", base_url="http://h/v1")
    assert client.post(add, {**form, "base_url": "ftp://h"}).status_code == 200
    assert client.post(add, form).status_code == 302, provider
assert client.get(reverse("admin:executor_agent_changelist")).status_code == 200
for agent in Agent.objects.all():
    assert client.get(reverse("admin:executor_agent_change", args=[agent.pk])).status_code == 200
    assert client.get("/", {"agent": agent.name}).status_code == 200
server = {"name": "files", "url": "http://h/mcp", "timeout": "60"}
assert client.post(reverse("admin:tools_mcpserver_add"), server).status_code == 302
for name in ("tools_mcpserver_changelist", "tools_functionoverview_changelist"):
    assert client.get(reverse(f"admin:{name}")).status_code == 200
for page in ("account_settings", "keys", "servers", "usage", "remembered"):
    assert client.get(reverse(page)).status_code == 200, page
"""
LIST = f"""
import sys
print(*(name for name in {HEAVY} if name in sys.modules))
"""


def loaded(code: str, data: Path) -> list[str]:
    """Which of HEAVY a fresh interpreter has when it has run `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code + LIST],
        cwd=ROOT,
        env=environment(data, DJANGO_SETTINGS_MODULE="tests.settings", AGENTSITE_TEST_ROOT=str(data)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def test_a_web_process_has_no_sdk(tmp_path: Path) -> None:
    assert loaded(WEB, tmp_path) == []


def test_a_process_that_imports_them_is_seen(tmp_path: Path) -> None:
    assert loaded("import openai, genai_prices", tmp_path) == ["openai", "genai_prices"]
