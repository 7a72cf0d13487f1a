"""The form of an agent in admin: each provider's settings as fields, who takes over, prices, the form of answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from bs4 import BeautifulSoup, Tag
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from executor.core.llms.factory import LLMS, llm_class
from executor.core.llms.known_models import known_models
from executor.core.llms.parameters import Parameter
from executor.models import Agent
from executor.parameter_fields import ParameterField
from tests.conftest import make_user
from tests.executor.test_admin import ADD, agent_form, sent_by_a_browser
from users.models import User

GPT = {"provider": "gpt", "model": "gpt-6.1-sol"}


@pytest.fixture
def as_dora(dora: User) -> Client:
    client = Client()
    client.force_login(dora)
    return client


def soup(client: Client, agent: Agent | None = None, **query: str) -> BeautifulSoup:
    url = reverse("admin:executor_agent_change", args=[agent.pk]) if agent else reverse(ADD)
    return BeautifulSoup(client.get(url, query).content.decode(), "html.parser")


def add(client: Client, **fields: Any) -> dict[str, list[str]]:
    """Send the form of a new agent "helper". Returns what it objects to, by field."""
    return objections(client.post(reverse(ADD), agent_form(**fields)))


def change(client: Client, agent: Agent, **fields: Any) -> dict[str, list[str]]:
    """Open the agent's form, change `fields`, and save it."""
    url = reverse("admin:executor_agent_change", args=[agent.pk])
    found = objections(client.post(url, {**sent_by_a_browser(client.get(url)), **fields}))
    agent.refresh_from_db()
    return found


def objections(response: Any) -> dict[str, list[str]]:
    return {} if response.status_code == 302 else dict(response.context["adminform"].form.errors)


def helper() -> Agent:
    return Agent.objects.get(name="helper")


def one(page: BeautifulSoup, selector: str) -> Tag:
    (found,) = page.select(selector)
    return found


class TestSettingsOfAProvider:
    def test_are_a_field_each_with_its_help(self, as_dora: Client) -> None:
        page = soup(as_dora)
        for name in LLMS:
            fieldset = one(page, f"fieldset.provider-{name}")
            for parameter in llm_class(name).PARAMETERS:
                field = one(page, f"#id_parameter-{name}-{parameter.name}")
                assert fieldset in field.parents
                assert parameter.help in " ".join(one(page, f"#{field['id']}_helptext").stripped_strings)

    def test_have_fields_of_their_kind(self, as_dora: Client) -> None:
        page = soup(as_dora)
        choices = [option["value"] for option in page.select("#id_parameter-claude-cache option")]
        assert choices == ["", "5m", "1h", "off"]
        flags = [option["value"] for option in page.select("#id_parameter-gemini-include_thoughts option")]
        assert flags == ["", "true", "false"]
        assert one(page, "#id_parameter-openai_compatible-temperature")["inputmode"] == "decimal"
        assert one(page, "#id_parameter-openai_compatible-stop").name == "textarea"

    def test_are_shown_of_the_chosen_provider_only(self, as_dora: Client, demo: Agent) -> None:
        def shown(page: BeautifulSoup) -> list[str]:
            return [
                name
                for fieldset in page.select("fieldset.provider-settings:not(.other-provider)")
                for name in LLMS
                if f"provider-{name}" in fieldset["class"]
            ]

        assert shown(soup(as_dora)) == []
        assert shown(soup(as_dora, provider="claude")) == ["claude"]
        assert shown(soup(as_dora, demo)) == ["demo"]
        refused = as_dora.post(reverse(ADD), agent_form(provider="gemini"))
        assert shown(BeautifulSoup(refused.content.decode(), "html.parser")) == ["gemini"]

    def test_are_saved_as_values_of_their_kind(self, as_dora: Client) -> None:
        fields = {
            "temperature": "0.2",
            "max_tokens": "500",
            "seed": "-7",
            "reasoning_effort": " high ",
            "stop": "END\r\nSTOP",
            "extra": '{"top_k": 40}',
        }
        typed = {f"parameter-openai_compatible-{name}": value for name, value in fields.items()}
        assert add(as_dora, provider="openai_compatible", base_url="http://h/v1", **typed) == {}
        assert helper().parameters == {
            "temperature": 0.2,
            "max_tokens": 500,
            "reasoning_effort": "high",
            "seed": -7,
            "stop": ["END", "STOP"],
            "extra": {"top_k": 40},
        }

    def test_that_are_flags_can_be_yes_no_or_left_to_the_provider(self, as_dora: Client) -> None:
        gemini = {"provider": "gemini", "model": "gemini-3.8-flash"}
        assert add(as_dora, **gemini, **{"parameter-gemini-include_thoughts": "false"}) == {}
        agent = helper()
        assert agent.parameters == {"include_thoughts": False}
        assert change(as_dora, agent, **{"parameter-gemini-include_thoughts": ""}) == {}
        assert agent.parameters == {}

    @pytest.mark.parametrize(
        ("provider", "parameters"),
        [
            ("openai_compatible", {"temperature": 1.0, "stop": ["END"], "seed": 3}),
            ("openai_compatible", {"temperature": 1, "stop": "[END]"}),
            ("openai_compatible", {"stop": ["\n\n", " x"], "extra": {"a": {"é": [1, None]}}}),
            ("gemini", {"safety": "off", "thinking_budget": -1, "include_thoughts": True}),
            ("demo", {"pause": 0}),
            ("claude", {}),
        ],
    )
    def test_that_nobody_touched_stay_as_they_are(
        self, as_dora: Client, provider: str, parameters: dict[str, Any]
    ) -> None:
        agent = Agent.objects.create(
            name="helper", title="H", provider=provider, model="m", base_url="http://h/v1", parameters=parameters
        )
        assert change(as_dora, agent, title="Another") == {}
        assert (agent.title, agent.parameters, agent.versions.count()) == ("Another", parameters, 2)
        assert repr(agent.parameters) == repr(parameters)

    @pytest.mark.parametrize(
        ("provider", "name", "typed", "objection"),
        [
            (
                "gpt",
                "effort",
                "huge",
                "effort must be one of none, minimal, low, medium, high, xhigh, max, not 'huge'.",
            ),
            ("gpt", "max_tokens", "15", "max_tokens must be a whole number of at least 16"),
            ("gpt", "max_tokens", "1.5", "max_tokens must be a whole number of at least 16"),
            ("gpt", "temperature", "hot", "temperature must be a number from 0 to 2, not 'hot'."),
            ("gpt", "temperature", "nan", "temperature must be a number from 0 to 2, not nan."),
            ("gpt", "extra", '{"store": true}', "extra must be a mapping of further request fields (JSON; without"),
            ("gpt", "extra", '{"a": }', "It is not valid JSON: Expecting value in line 1, column 7."),
            ("gpt", "extra", "[1]", "Write an object: { … }."),
            ("gpt", "extra", "[" * 9000, "It is not JSON that can be stored"),
            ("gpt", "idle_timeout", "9" * 5000, "idle_timeout must be a number from 0.001 to 3600, not "),
            ("gemini", "include_thoughts", "maybe", "include_thoughts must be true or false, not 'maybe'."),
            ("openai_compatible", "seed", "1e3", "seed must be a whole number, not '1e3'."),
            ("openai_compatible", "stop", "[1]", "stop must be a text or a list of texts, not [1]."),
        ],
    )
    def test_that_are_wrong_are_refused_beside_their_field_and_kept_as_typed(
        self, as_dora: Client, provider: str, name: str, typed: str, objection: str
    ) -> None:
        field = f"parameter-{provider}-{name}"
        form = agent_form(provider=provider, model="m", base_url="http://h/v1", **{field: typed})
        response = as_dora.post(reverse(ADD), form)
        ((where, (sentence,)),) = objections(response).items()
        assert where == field
        assert sentence.startswith(objection)
        assert not Agent.objects.exists()
        if typed not in ("huge", "maybe"):  # Which nobody can type: there is a list to choose from.
            assert sent_by_a_browser(response)[field] == typed

    def test_that_do_not_go_together_are_refused_beside_the_first(self, as_dora: Client) -> None:
        found = add(as_dora, **GPT, **{"parameter-gpt-temperature": "1", "parameter-gpt-effort": "low"})
        assert list(found) == ["parameter-gpt-temperature"]
        assert "refused by models that reason" in found["parameter-gpt-temperature"][0]
        assert add(as_dora, **GPT, **{"parameter-gpt-temperature": "1", "parameter-gpt-effort": "none"}) == {}

    def test_of_another_provider_are_not_looked_at(self, as_dora: Client, demo: Agent) -> None:
        others = {"parameter-gpt-temperature": "hot", "parameter-claude-extra": "{", "parameter-gemini-safety": "x"}
        assert change(as_dora, demo, **others) == {}
        assert LogEntry.objects.get().get_change_message() == "No fields changed."
        assert (demo.parameters, demo.versions.count()) == ({"pause": 0}, 1)

    def test_are_the_new_providers_only_when_it_changes(self, as_dora: Client, demo: Agent) -> None:
        assert change(as_dora, demo, **GPT, **{"parameter-gpt-effort": "low"}) == {}
        assert (demo.provider, demo.parameters) == ("gpt", {"effort": "low"})

    def test_that_the_provider_does_not_know_any_more_are_told_of_and_left_out(
        self, as_dora: Client, demo: Agent
    ) -> None:
        Agent.objects.update(parameters={"pause": 0, "colour": "red"})
        assert "left out when you save: colour." in one(soup(as_dora, demo), "fieldset.provider-demo").text
        assert change(as_dora, demo) == {}
        assert demo.parameters == {"pause": 0, "colour": "red"}, "nothing was changed, so nothing is saved"
        assert change(as_dora, demo, title="Another") == {}
        assert demo.parameters == demo.current_version().config["parameters"] == {"pause": 0}

    def test_show_a_choice_that_there_is_no_more(self, as_dora: Client) -> None:
        agent = Agent.objects.create(name="helper", title="H", **GPT, parameters={"effort": "utmost"})
        chosen = one(soup(as_dora, agent), "#id_parameter-gpt-effort option[selected]")
        assert chosen.text == "utmost (not known any more)"
        assert "effort must be one of" in change(as_dora, agent, title="T")["parameter-gpt-effort"][0]

    def test_can_be_seen_by_staff_who_may_not_change_them(self, demo: Agent) -> None:
        staff = make_user("helper", is_staff=True)
        staff.user_permissions.set(Permission.objects.filter(codename="view_agent"))
        client = Client()
        client.force_login(staff)
        page = soup(client, demo)
        assert '{"pause": 0}' in one(page, ".field-parameters").text
        assert not page.select("[name^=parameter-]")


class TestANewAgent:
    def test_comes_behind_the_others_unless_one_says_where(self, as_dora: Client, demo: Agent) -> None:
        Agent.objects.filter(pk=demo.pk).update(position=4)
        assert one(soup(as_dora), "#id_position")["value"] == "5"
        assert one(soup(as_dora, position="2"), "#id_position")["value"] == "2"

    def test_is_the_first_where_there_is_none(self, as_dora: Client) -> None:
        Agent.objects.all().delete()
        assert one(soup(as_dora), "#id_position")["value"] == "0"

    def test_is_saved_with_a_warning_if_its_key_is_not_set_here(
        self, as_dora: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HELPER_KEY", "set")
        for variable, warned in (("HELPER_KEY", False), ("OTHER_KEY", True)):
            form = agent_form(**GPT, api_key_variable=variable)
            saved = as_dora.post(reverse(ADD), form, follow=True).content.decode()
            assert helper().api_key_variable == variable
            assert (f"{variable} is not set in this environment" in saved) == warned
            helper().delete()


class TestAModel:
    def test_is_suggested_of_the_chosen_provider(self, as_dora: Client, demo: Agent) -> None:
        assert known_models()["gpt"][0] == "gpt-6.1-sol"
        assert known_models().keys() <= LLMS.keys()
        page = soup(as_dora, demo)
        assert one(page, "#id_model")["list"] == "models-demo"
        for provider, names in known_models().items():
            assert [option["value"] for option in page.select(f"#models-{provider} option")] == list(names)

    def test_is_asked_for_where_there_are_many(self, as_dora: Client) -> None:
        assert add(as_dora, provider="gpt") == {"model": ["Is missing: give the name of a model, such as gpt-6-luna."]}
        assert "is not the name of a model" in add(as_dora, provider="gemini", model="a b")["model"][0]
        assert add(as_dora, **GPT) == {}


class TestWhoTakesOver:
    def make(self, name: str, fallback: Agent | None = None, **fields: Any) -> Agent:
        return Agent.objects.create(name=name, title=name, provider="demo", fallback=fallback, **fields)

    def offered(self, client: Client, agent: Agent | None) -> set[str]:
        return {option.text for option in soup(client, agent).select("#id_fallback option[value]:not([value=''])")}

    def test_is_another_agent_and_goes_round_in_no_circle(self, as_dora: Client) -> None:
        last = self.make("last")
        middle = self.make("middle", last)
        first = self.make("first", middle)
        other = self.make("other", enabled=False)
        assert self.offered(as_dora, first) == {"last", "middle", "other (switched off: takes over from nobody)"}
        assert self.offered(as_dora, last) == {"other (switched off: takes over from nobody)"}
        assert self.offered(as_dora, None) == {
            "first",
            "last",
            "middle",
            "other (switched off: takes over from nobody)",
        }
        assert change(as_dora, last, fallback=str(first.pk)).keys() == {"fallback"}
        assert change(as_dora, last, fallback=str(last.pk)).keys() == {"fallback"}
        assert change(as_dora, last, fallback=str(other.pk)) == {}
        assert (last.fallback, last.config().fallback, last.versions.count()) == (other, "other", 2)

    def test_is_nobody_elses_own_agent(self, as_dora: Client, alice: User, bob: User) -> None:
        hers, more = self.make("hers", owner=alice), self.make("more", owner=alice)
        ours, his = self.make("ours"), self.make("his", owner=bob)
        assert self.offered(as_dora, hers) == {"more", "ours"}
        assert self.offered(as_dora, ours) == set()
        assert change(as_dora, ours, fallback=str(more.pk)).keys() == {"fallback"}
        assert change(as_dora, hers, fallback=str(his.pk)).keys() == {"fallback"}
        assert change(as_dora, hers, fallback=str(more.pk)) == {}


class TestTheRest:
    def test_prices_are_both_given_or_none(self, as_dora: Client) -> None:
        assert add(as_dora, input_price="0.5") == {"output_price": ["Give both prices, or none."]}
        assert add(as_dora, output_price="0") == {"input_price": ["Give both prices, or none."]}
        assert add(as_dora, input_price="x", output_price="1").keys() == {"input_price"}
        assert add(as_dora, input_price="-1", output_price="1").keys() == {"input_price"}
        assert add(as_dora, input_price="0.25", output_price="0") == {}
        assert (helper().input_price, helper().output_price) == (Decimal("0.25"), Decimal(0))

    def test_the_form_of_answers_is_a_json_schema_or_nothing(self, as_dora: Client) -> None:
        for wrong, objection in {
            '{"type": "thing"}': "It is no JSON Schema: type: 'thing'",
            "{}": "It must be a JSON Schema",
            "[]": "Write an object",
            "{": "It is not valid JSON",
        }.items():
            ((field, (sentence,)),) = add(as_dora, response_schema=wrong).items()
            assert (field, sentence.startswith(objection)) == ("response_schema", True), sentence
        assert add(as_dora, response_schema='{"type": "object"}') == {}
        agent = helper()
        assert agent.response_schema == {"type": "object"}
        assert change(as_dora, agent, response_schema=" ") == {}
        assert agent.response_schema is None
        assert change(as_dora, agent) == {}
        assert agent.versions.count() == 2

    def test_whose_it_is_can_be_seen_and_not_changed(self, as_dora: Client, demo: Agent, alice: User) -> None:
        assert one(soup(as_dora, demo), ".field-whose .readonly").text == "everybody’s"
        Agent.objects.update(owner=alice)
        assert one(soup(as_dora, demo), ".field-whose .readonly").text == "alice"
        assert change(as_dora, demo, owner="", title="Hers") == {}
        assert (demo.owner, demo.title) == (alice, "Hers")


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("number", [0, 0.5, 1.0, -2, 1e300]),
        ("whole", [0, -1, 2**62]),
        ("word", ["a", "[", "true"]),
        ("words", ["a", ["a"], ["a", "b"], ["[x"], ["\n"], ["a\nb", " "]]),
        ("flag", [True, False]),
        ("object", [{"a": 1}, {"é": {"b": [None]}}]),
    ],
)
def test_every_value_comes_back_from_what_is_shown_of_it(kind: Any, values: list[Any]) -> None:
    parameter = Parameter("p", kind)
    for value in values:
        field = ParameterField(parameter, value)
        assert field.read(field.clean(field.shown.replace("\n", "\r\n"))) == value
        assert not field.has_changed(None, field.shown)
        assert field.read("") is None


class TestWhomToAsk:
    def test_is_said_by_function_and_kept_with_the_version(self, as_dora: Client, demo: Agent) -> None:
        said = {"always_ask": "calculate, current_time", "never_ask": "*", "on_unknown": "tell_model"}
        assert change(as_dora, demo, **said) == {}
        assert demo.approvals == {"calculate": "always", "current_time": "always", "*": "never"}
        config = demo.current_version().agent_config()
        assert (config.approvals, config.on_unknown) == (demo.approvals, "tell_model")
        assert change(as_dora, demo, title="Another") == {}
        assert demo.approvals == {"calculate": "always", "current_time": "always", "*": "never"}
        assert change(as_dora, demo, always_ask="", never_ask=" ") == {}
        assert demo.approvals == {}

    def test_of_a_function_that_is_not_there_or_stands_twice_is_refused(self, as_dora: Client, demo: Agent) -> None:
        assert change(as_dora, demo, always_ask="calculat") == {"always_ask": ["There is no function calculat."]}
        found = change(as_dora, demo, always_ask="calculate", never_ask="calculate")
        assert found == {"never_ask": ["calculate stands in both fields. Leave it in one."]}
