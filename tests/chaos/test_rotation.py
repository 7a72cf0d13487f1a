"""Keys are put under a new key of the keyring while people use them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.agentsite.conftest import eventually, manage
from tests.chaos.site import Site
from tests.fakes.model_server import ModelServer
from tests.fakes.script import Turn
from users.vault import key_id

pytestmark = pytest.mark.chaos

KEYS = 10_000
HERS = "sk-of-alice-0123456789abcdef"

#: As many people as there are keys would only test the people: each key is the site's, for an address of its own.
ADD_KEYS = f"""
from users import vault
from users.models import ApiKey
places = [f"https://h{{n}}.example/v1" for n in range({KEYS})]
keys = [ApiKey(provider="openai_compatible", base_url=place, fingerprint="x") for place in places]
for n, key in enumerate(keys):
    key.secret = vault.encrypt(None, f"sk-of-the-site-{{n}}", key.place)
ApiKey.objects.bulk_create(keys, batch_size=500)
"""
READ_KEYS = """
from users import api_keys
from users.models import ApiKey
site = list(ApiKey.objects.filter(owner=None).order_by("pk"))
print(sum(api_keys.reveal(key) == f"sk-of-the-site-{n}" for n, key in enumerate(site)))
"""


def ring_keys_in_use(site: Site) -> set[str]:
    return {key_id(row["secret"]) for row in site.rows("SELECT secret FROM users_apikey")}


def test_ten_thousand_keys_are_rotated_while_tasks_run(tmp_path: Path, model_server: ModelServer) -> None:
    model_server.api_key = HERS
    data = tmp_path / "data"
    with Site(data) as site:
        assert site.address
        site.add_user("alice")
        fields = {"provider": "openai_compatible", "base_url": model_server.base_url, "parameters": {}}
        site.add_agent("slow", model="stream-60-20", **fields)
        site.add_agent("quick", model="quick", **fields)
        site.python(
            "from users import api_keys; from users.models import User; alice = User.objects.get(username='alice'); "
            f"api_keys.add(alice, 'openai_compatible', {HERS!r}, {model_server.base_url!r})"
        )
        site.python(ADD_KEYS)
        alice = site.log_in("alice")
        model_server.script([Turn(text="Yes.")] * 3, model="quick")
        (before,) = ring_keys_in_use(site)

        dry = manage(data, "rotate_keys", "--dry-run")
        assert (dry.returncode, ring_keys_in_use(site)) == (0, {before})
        assert manage(data, "rotate_keys", "--new-key").returncode == 0
        dry = manage(data, "rotate_keys", "--dry-run")
        assert dry.returncode == 0
        assert re.search(rf"{KEYS + 1:,}|{KEYS + 1}", dry.stdout)
        assert ring_keys_in_use(site) == {before}

        streaming = alice.ask("Talk.", agent="slow")
        eventually(lambda: site.task(streaming)["status"] == "running", "it talks")
        done = manage(data, "rotate_keys")
        assert done.returncode == 0, done.stderr
        (after,) = ring_keys_in_use(site)
        assert after != before
        # The worker that ran all along reads what is under the new key, which it was not started with.
        assert site.wait_until_over(alice.ask("And now?", agent="quick"))["status"] == "done"
        assert site.wait_until_over(streaming)["status"] == "done"
        assert site.python(READ_KEYS).strip() == str(KEYS)

        again = manage(data, "rotate_keys")
        assert (again.returncode, ring_keys_in_use(site)) == (0, {after})


@pytest.mark.parametrize(
    "keyring", ["garbled", "a:c2hvcnQ=", "other:" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="]
)
def test_a_wrong_keyring_is_a_sentence(tmp_path: Path, keyring: str) -> None:
    data = tmp_path / "data"
    assert manage(data, "migrate", "--verbosity", "0").returncode == 0
    added = manage(
        data, "shell", "-c", "from users import api_keys; api_keys.add(None, 'gpt', 'sk-of-the-site-0123456789')"
    )
    assert added.returncode == 0, added.stderr
    for options in (["--dry-run"], []):
        wrong = manage(data, "rotate_keys", *options, KEYRING=keyring)
        assert wrong.returncode in (1, 3)
        said = wrong.stdout + wrong.stderr
        assert re.search(r"KEYRING|keyring|need", said)
        assert "Traceback" not in said
    assert manage(data, "rotate_keys").returncode == 0, "the right one still reads it"
