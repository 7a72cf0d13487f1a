"""An agent as a value."""

from __future__ import annotations

import json

from executor.core.config import AgentConfig
from executor.core.limits import Limits


def test_a_config_comes_back_from_json_as_it_was() -> None:
    config = AgentConfig(
        name="helper",
        title="Helper",
        provider="openai_compatible",
        model="small",
        base_url="http://localhost:1/v1",
        api_key_variable="HELPER_KEY",
        instructions="Be brief.",
        functions=("look", "list"),
        limits=Limits(3, 60, 1000, 7),
        parameters={"temperature": 0.5, "stop": ["\n"]},
    )
    assert AgentConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_what_another_version_of_the_code_wrote_is_understood() -> None:
    config = AgentConfig.from_json({"name": "a", "title": "A", "provider": "demo", "from_the_future": True})
    assert config == AgentConfig(name="a", title="A", provider="demo")
