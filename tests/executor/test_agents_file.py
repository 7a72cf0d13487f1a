"""agents.yaml and `manage.py load_agents`."""

from __future__ import annotations

import re
from decimal import Decimal
from io import StringIO
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError

from executor.agents_file import FileError, read
from executor.checks import check_agents_file
from executor.models import Agent
from tests.agentsite.conftest import ROOT, manage
from tools.registry import get_registry
from users.models import User

ONE = """\
agents:
  - name: helper
    title: Helper
    provider: demo
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agents.yaml"


def one(*lines: str) -> str:
    """A file with one agent that has these lines besides."""
    return ONE + "".join(f"    {line}\n" for line in lines)


def mistakes(file: Path, text: str, **environment: str) -> list[str]:
    file.write_text(dedent(text))
    with pytest.raises(FileError) as raised:
        read(file, environment)
    return raised.value.mistakes


def load(file: Path, text: str, *arguments: str) -> tuple[list[str], str]:
    """Run the command. Returns its lines, and what it warned of."""
    file.write_text(dedent(text))
    out, err = StringIO(), StringIO()
    call_command("load_agents", str(file), *arguments, stdout=out, stderr=err, no_color=True)
    return out.getvalue().splitlines(), err.getvalue()


class TestReading:
    def test_gives_every_field(self, file: Path) -> None:
        file.write_text(
            dedent("""\
            agents:
              - name: helper
                title: Helper
                description: Helps.
                provider: openai_compatible
                model: m
                base_url: http://ollama:11434/v1
                api_key_variable: SOME_KEY
                instructions: |
                  Be brief.
                  Be kind.
                functions: [calculate]
                limits: {iterations: 7, seconds: 60, tool_calls: 0, tokens: 5000, cost: 0.5}
                parameters: {temperature: 0.2}
                response_schema: {type: object}
                fallback: spare
                price: {input: 0.25, output: "2"}
                suggestions:
                  - {title: Try, prompt: This}
                enabled: false
            """)
        )
        (agent,) = read(file, {})
        assert agent.columns() == {
            "name": "helper",
            "title": "Helper",
            "description": "Helps.",
            "provider": "openai_compatible",
            "model": "m",
            "base_url": "http://ollama:11434/v1",
            "api_key_variable": "SOME_KEY",
            "instructions": "Be brief.\nBe kind.\n",
            "functions": ["calculate"],
            "max_iterations": 7,
            "max_seconds": 60,
            "max_tool_calls": 0,
            "max_tokens": 5000,
            "max_cost": Decimal("0.5"),
            "parameters": {"temperature": 0.2},
            "response_schema": {"type": "object"},
            "fallback": "spare",
            "input_price": Decimal("0.25"),
            "output_price": Decimal(2),
            "suggestions": [{"title": "Try", "prompt": "This"}],
            "enabled": False,
        }

    def test_knows_anchors_and_merges(self, file: Path) -> None:
        file.write_text(ONE.replace("- name", "- &it\n    name") + "  - {<<: *it, name: other}\n")
        assert [(agent.name, agent.title) for agent in read(file, {})] == [("helper", "Helper"), ("other", "Helper")]


class TestTheEnvironment:
    @pytest.mark.parametrize(
        ("written", "environment", "read_as"),
        [
            ("${MODEL}", {"MODEL": "large"}, "large"),
            ("${MODEL:-small}", {"MODEL": "large"}, "large"),
            ("${MODEL:-small}", {}, "small"),
            ("${MODEL:-small}", {"MODEL": ""}, "small"),
            ("${MODEL:-}", {}, ""),
            ("a-${MODEL}-${B:-b}", {"MODEL": "m"}, "a-m-b"),
            ("$${MODEL} costs $5", {"MODEL": "m"}, "${MODEL} costs $5"),
            ("${MODEL}", {"MODEL": "${OTHER}"}, "${OTHER}"),
            ("${MODEL}", {"MODEL": "[1, 2]: {x: !!bool yes}"}, "[1, 2]: {x: !!bool yes}"),
            ("${MODEL}", {"MODEL": "12"}, "12"),
        ],
    )
    def test_is_put_in_as_text(self, file: Path, written: str, environment: dict[str, str], read_as: str) -> None:
        file.write_text(one(f"model: {written}"))
        assert read(file, environment)[0].model == read_as

    def test_reaches_into_numbers_lists_and_parameters(self, file: Path) -> None:
        lines = ["base_url: http://h/v1", "limits: {iterations: '${N}'}", "functions: ['${F}']"]
        text = one(*lines, "model: m", "parameters: {stop: ['${P}']}").replace("demo", "openai_compatible")
        file.write_text(text)
        agent = read(file, {"N": "12", "F": "calculate", "P": "p"})[0]
        assert (agent.limits.iterations, agent.functions, agent.parameters) == (12, ["calculate"], {"stop": ["p"]})

    @pytest.mark.parametrize(
        ("written", "mistake"),
        [
            ("${NOPE}", "the environment variable NOPE is not set. Set it, or write ${NOPE:-a default}."),
            ("${NO PE}", "after ${ a name and } must follow, as in ${NAME}. For a plain ${ write $${."),
        ],
    )
    def test_that_lacks_something_is_a_mistake(self, file: Path, written: str, mistake: str) -> None:
        assert mistakes(file, one(f"model: {written}")) == [f"agents.yaml, line 5, agents[0].model: {mistake}"]

    @pytest.mark.parametrize("line", ["limits: {iterations: '${KEY}'}", "provider: ${KEY}", "enabled: ${KEY}"])
    def test_is_never_repeated_in_a_mistake(self, file: Path, line: str) -> None:
        text = one(line) if "provider" not in line else ONE.replace("provider: demo", line)
        (mistake,) = mistakes(file, text, KEY="sk-hunter2")
        assert "hunter2" not in mistake
        assert "${KEY}" in mistake

    def test_is_not_repeated_by_the_provider_either(self, file: Path) -> None:
        text = ONE.replace("demo", "openai_compatible") + "    base_url: http://h\n    parameters: {seed: '${KEY}'}\n"
        (mistake,) = mistakes(file, text, KEY="sk-hunter2")
        assert "seed must be a whole number" in mistake
        assert "hunter2" not in mistake


class TestMistakes:
    @pytest.mark.parametrize(
        ("line", "mistake"),
        [
            ("limits: {iterations: many}", '.limits.iterations: must be a whole number of at least 1, not "many".'),
            ("approvals: {calculate: sometimes}", '.approvals.calculate: must be always or never, not "sometimes".'),
            ("approvals: always", '.approvals: must be a mapping of function names, or "*" for all others'),
            ("on_unknown: guess", '.on_unknown: must be one of: ask, tell_model, fail, not "guess".'),
            ("limits: {iterations: 0}", ".limits.iterations: must be a whole number of at least 1, not 0."),
            ("limits: {iterations: yes}", ".limits.iterations: must be a whole number of at least 1, not true."),
            ("limits: {iterations: 2.5}", ".limits.iterations: must be a whole number of at least 1, not 2.5."),
            ("limits: {tool_calls: 9999999999}", ".limits.tool_calls: must be at most 2147483647, not 9999999999."),
            ("limits: {tokens: 0}", ".limits.tokens: must be a whole number of at least 1, not 0."),
            ("limits: {cost: -1}", ".limits.cost: must be US dollars, with up to 4 decimals, such as 0.25, not -1."),
            (
                "limits: {cost: 0.12345}",
                ".limits.cost: must be US dollars, with up to 4 decimals, such as 0.25, not 0.12",
            ),
            ("limits: {cost: no}", ".limits.cost: must be US dollars, with up to 4 decimals, such as 0.25, not false."),
            (
                "limits: {turns: 1}",
                ".limits.turns: there is no such field. Use: iterations, seconds, tool_calls, tokens, cost.",
            ),
            ("limits: 5", ".limits: must be a mapping with iterations, seconds, tool_calls, tokens, cost, not 5."),
            ("description:", ".description: must be a text, not nothing."),
            ("model: 4.1", ".model: must be a text, not 4.1. Put it in quotes."),
            (f"model: {'x' * 121}", ".model: must have at most 120 characters, not 121."),
            (
                "functions: calculate",
                '.functions: must be a list of function names, or ["*"] for all, not "calculate".',
            ),
            ("functions: [1]", ".functions[0]: must be the name of a function, not 1."),
            ("suggestions: [{title: x}]", ".suggestions[0].prompt: is missing: give it a text."),
            ("suggestions: [{title: '', prompt: x}]", ".suggestions[0].title: must not be empty."),
            ("suggestions: [x]", '.suggestions[0]: must be a mapping of fields, not "x".'),
            ("enabled: maybe", '.enabled: must be true or false, not "maybe".'),
            ("colour: red", ".colour: there is no such field. Use: name, title, description, provider, model, "),
            ("title: Twice", ".title: it is given twice. Remove one."),
            ("parameters: {a: 2024-01-01}", ".parameters: must be a mapping of what the provider understands"),
            ("parameters: {a: .inf}", ".parameters: must be a mapping of what the provider understands"),
            ('model: "a\\0b"', ".model: it contains characters that are not text."),
            ("model: 2024-99-99", ".model: '2024-99-99' cannot be read as a value. Put it in quotes."),
            ("model: !secret x", ".model: 'x' cannot be read as a value. Put it in quotes."),
            ("base_url: ftp://host", ".base_url: must be an address such as http://127.0.0.1:11434/v1"),
            ("price: 5", ".price: must be a mapping with input and output, not 5."),
            ("price: {input: 1}", ".price.output: is missing: give it dollars per million tokens, with up to 4"),
            (
                "price: {input: -1, output: 1}",
                ".price.input: must be dollars per million tokens, with up to 4 decimals",
            ),
            ("price: {input: .nan, output: 1}", ".price.input: must be dollars per million tokens"),
            ("price: {input: yes, output: 1}", ".price.input: must be dollars per million tokens"),
            ("price: {input: 0.00001, output: 1}", ".price.input: must be dollars per million tokens"),
            ("price: {in: 1, input: 1, output: 1}", ".price.in: there is no such field. Use: input, output."),
            ("response_schema: [x]", ".response_schema: must be a JSON Schema: a mapping such as {type: object"),
            ("response_schema: {}", ".response_schema: It must be a JSON Schema: an object such as"),
            ("response_schema: {type: thing}", ".response_schema: It is no JSON Schema: type: 'thing'"),
            ("response_schema: {const: 2024-01-01}", ".response_schema: must be a JSON Schema: a mapping such as"),
            ("fallback: [x]", '.fallback: must be the name of an agent, not ["x"].'),
            ("fallback: helper", ".fallback: helper → helper goes round in a circle. Leave one of them out."),
            ("parameters: {pause: 11}", ".parameters.pause: pause must be a number from 0 to 10, not 11."),
            (
                "parameters: {effort: low}",
                ".parameters.effort: There is no parameter 'effort'. Use: context_window, pause.",
            ),
        ],
    )
    def test_name_file_line_and_field(self, file: Path, line: str, mistake: str) -> None:
        (found,) = mistakes(file, one(line))
        assert found.startswith(f"agents.yaml, line 5, agents[0]{mistake}")

    @pytest.mark.parametrize(
        ("line", "field"),
        [
            ("api_key: sk-hunter2", "api_key: a key does not belong in this file"),
            ("api_key_variable: sk-hunter2", "api_key_variable: must be the name of an environment variable"),
            ("base_url: http://me:hunter2@host/v1", "base_url: must be an address"),
        ],
    )
    def test_say_where_a_key_belongs_and_do_not_repeat_it(self, file: Path, line: str, field: str) -> None:
        (found,) = mistakes(file, one(line))
        assert field in found
        assert "hunter2" not in found

    def test_are_all_told_at_once_in_the_order_of_the_lines(self, file: Path) -> None:
        found = mistakes(
            file,
            """\
            agents:
              - name: a b
                provider: nobody
                model: ${NOPE}
              - name: second
                title: Second
                provider: openai_compatible
                base_url: http://localhost/v1
                enabled: maybe
                parameters:
                  temperature: 9
              - name: second
                title: Third
                provider: demo
                limits:
                  seconds: -1
              - name: second
                title: Fourth
                provider: demo
            extra: 1
            """,
        )
        assert [mistake.partition(": ")[0] for mistake in found] == [
            "agents.yaml, line 2, agents[0].name",
            "agents.yaml, line 2, agents[0].title",
            "agents.yaml, line 3, agents[0].provider",
            "agents.yaml, line 4, agents[0].model",
            "agents.yaml, line 9, agents[1].enabled",
            "agents.yaml, line 11, agents[1].parameters.temperature",
            "agents.yaml, line 12, agents[2].name",
            "agents.yaml, line 16, agents[2].limits.seconds",
            "agents.yaml, line 17, agents[3].name",
            "agents.yaml, line 20, extra",
        ]
        assert "must be one of: " in found[2]
        assert "openai_compatible" in found[2]
        assert "temperature must be a number from 0 to 2, not 9." in found[5]
        for twice in (found[6], found[8]):
            assert '"second" stands in line 5 already. Give it another name.' in twice

    @pytest.mark.parametrize("second", ["{name: helper, title: T, provider: demo}", "{<<: *it}"])
    def test_tell_of_a_name_that_is_given_twice_wherever_it_stands(self, file: Path, second: str) -> None:
        (found,) = mistakes(file, ONE.replace("- name", "- &it\n    name") + f"  - {second}\n")
        assert '"helper" stands in line 3 already.' in found

    def test_of_a_server_without_address_name_the_field(self, file: Path) -> None:
        (found,) = mistakes(file, ONE.replace("demo", "openai_compatible"))
        assert found.startswith("agents.yaml, line 2, agents[0].base_url: ")

    @pytest.mark.parametrize(
        ("text", "mistake"),
        [
            ("agents:\n  - name: [\n", "agents.yaml, line 3: it is not valid YAML"),
            ("agents:\n\t- x", "agents.yaml, line 2: it is not valid YAML"),
            ("a: 1\n---\nb: 2", "agents.yaml, line 2: it is not valid YAML"),
            ("a\x01b", "agents.yaml: it is not valid YAML"),
            ("", "agents.yaml, line 1, agents: is missing: give it a list of agents."),
            ("[]", 'agents.yaml, line 1: must be a mapping with the list "agents", not [].'),
            ("agents: {}", "agents.yaml, line 1, agents: must be a list of agents, not {}."),
            ("agents: [x]", 'agents.yaml, line 1, agents[0]: must be a mapping of fields, not "x".'),
            ("agents: &a [*a]", "agents.yaml: it is nested too deeply."),
            (f"agents: {'[' * 5000}", "agents.yaml: it is nested too deeply."),
        ],
    )
    def test_in_the_yaml_itself_are_told_likewise(self, file: Path, text: str, mistake: str) -> None:
        (found,) = mistakes(file, text)
        assert found.startswith(mistake)

    def test_tell_that_a_file_is_missing_or_no_text(self, file: Path) -> None:
        with pytest.raises(FileError, match=r"agents\.yaml cannot be read: No such file"):
            read(file, {})
        file.write_bytes(b"agents: \xff")
        with pytest.raises(FileError, match=r"agents\.yaml is not text in UTF-8"):
            read(file, {})


class TestWhoTakesOver:
    def test_is_in_the_file_or_in_the_database(self, file: Path) -> None:
        lines = one("fallback: spare")
        file.write_text(lines)
        assert read(file, {}, others={"spare": None})[0].fallback == "spare"
        assert read(file, {}, others=None)[0].fallback == "spare", "nobody knows"
        with pytest.raises(FileError) as raised:
            read(file, {}, others={"other": None})
        assert raised.value.mistakes == [
            'agents.yaml, line 5, agents[0].fallback: there is no agent "spare". There are: other.'
        ]
        file.write_text(lines + "  - {name: spare, title: Spare, provider: demo}\n")
        assert len(read(file, {}, others={})) == 2

    @pytest.mark.parametrize(
        ("spare", "others", "circle"),
        [
            ("fallback: helper", {}, "helper → spare → helper"),
            ("fallback: third", {"third": "helper"}, "helper → spare → third → helper"),
            ("description: As it is in the database.", {"spare": "helper"}, "helper → spare → helper"),
        ],
    )
    def test_never_goes_round_in_a_circle(self, file: Path, spare: str, others: dict[str, Any], circle: str) -> None:
        file.write_text(one("fallback: spare") + f"  - name: spare\n    title: S\n    provider: demo\n    {spare}\n")
        with pytest.raises(FileError) as raised:
            read(file, {}, others=others)
        assert raised.value.mistakes == [
            f"agents.yaml, line 5, agents[0].fallback: {circle} goes round in a circle. Leave one of them out."
        ]

    @pytest.mark.django_db
    def test_is_there_when_it_is_needed_wherever_it_stands(self, file: Path) -> None:
        text = (
            one("fallback: spare", "price: {input: 1, output: 2.5}") + "  - {name: spare, title: S, provider: demo}\n"
        )
        assert load(file, text)[0] == ["helper: added", "spare: added"]
        helper, spare = Agent.objects.all()
        assert (helper.name, helper.fallback, helper.versions.count()) == ("helper", spare, 1)
        assert helper.config().price == {"input": "1.0000", "output": "2.5000"}
        assert load(file, text)[0] == ["helper: unchanged", "spare: unchanged"]

    @pytest.mark.django_db
    def test_is_taken_away_by_an_empty_word_and_a_price_by_nothing(self, file: Path) -> None:
        load(
            file,
            one("fallback: spare", "price: {input: 1, output: 2}") + "  - {name: spare, title: S, provider: demo}\n",
        )
        load(file, ONE)
        assert Agent.objects.get(name="helper").fallback is not None
        assert load(file, one("fallback: ''", "price:", "response_schema:"))[0] == ["helper: changed (version 2)"]
        helper = Agent.objects.get(name="helper")
        assert (helper.fallback, helper.input_price, helper.output_price) == (None, None, None)

    @pytest.mark.django_db
    def test_is_nobodys_own_agent_and_no_file_changes_one(self, file: Path, alice: User) -> None:
        Agent.objects.create(name="mine", title="Mine", provider="demo", owner=alice)
        with pytest.raises(CommandError, match=r'there is no agent "mine"\. There are: none yet'):
            load(file, one("fallback: mine"))
        with pytest.raises(CommandError, match="mine: somebody's own agent has this name"):
            load(file, ONE.replace("name: helper", "name: mine"))
        assert Agent.objects.get().title == "Mine"


class TestEveryProvider:
    @pytest.mark.parametrize(
        ("provider", "line", "mistake"),
        [
            ("gpt", "parameters: {effort: huge}", ".parameters.effort: effort must be one of none, minimal, low"),
            ("gpt", "parameters: {temperature: 1, effort: low}", ".parameters: temperature is refused by models that"),
            ("claude", "parameters: {temperature: 1}", ".parameters.temperature: There is no parameter 'temperature'"),
            ("gemini", "parameters: {safety: none}", ".parameters.safety: safety must be one of block_low_and_above"),
            ("gemini", "parameters: {safety: off}", ".parameters.safety: safety must be one of block_low_and_above"),
            ("gemini", "parameters: {thinking_level: low, thinking_budget: 0}", ".parameters: thinking_level and"),
            ("gemini", "model: a b", ".model: 'a b' is not the name of a model."),
            ("openai_compatible", "parameters: {top_p: 2}", ".parameters.top_p: top_p must be a number from 0 to 1"),
        ],
    )
    def test_has_the_last_word_about_its_parameters(self, file: Path, provider: str, line: str, mistake: str) -> None:
        text = ONE.replace("demo", f"{provider}\n    base_url: http://h/v1") + f"    {line}\n"
        (found,) = mistakes(file, text if line.startswith("model") else text + "    model: m\n")
        assert found.startswith(f"agents.yaml, line 6, agents[0]{mistake}")

    def test_takes_words_for_words_only_in_quotes_and_says_so(self, file: Path) -> None:
        text = ONE.replace("demo", "claude\n    model: m\n    parameters: {cache: off}")
        (found,) = mistakes(file, text)
        assert "not False. If it is a word, put it in quotes" in found
        file.write_text(text.replace("off", "'off'"))
        assert read(file, {})[0].parameters == {"cache": "off"}

    @pytest.mark.parametrize("provider", ["gpt", "claude", "gemini"])
    def test_that_has_many_models_wants_to_know_which(self, file: Path, provider: str) -> None:
        (found,) = mistakes(file, ONE.replace("demo", provider))
        assert found.startswith("agents.yaml, line 2, agents[0].model: is missing: give the name of a model, such as ")
        file.write_text(ONE.replace("demo", f"{provider}\n    model: m"))
        assert read(file, {})[0].provider == provider


@pytest.mark.django_db
class TestLoading:
    def test_adds_then_leaves_alone_then_changes(self, file: Path) -> None:
        assert load(file, ONE)[0] == ["helper: added"]
        assert load(file, ONE)[0] == ["helper: unchanged"]
        assert load(file, one("instructions: Be brief."))[0] == ["helper: changed (version 2)"]
        agent = Agent.objects.get()
        assert (agent.instructions, agent.versions.count()) == ("Be brief.", 2)

    def test_changes_only_what_the_file_says(self, file: Path) -> None:
        load(file, one("limits: {iterations: 9}"))
        Agent.objects.update(instructions="Mine.", max_seconds=1, enabled=False)
        assert load(file, one("limits: {iterations: 10}"))[0] == ["helper: changed (version 2)"]
        agent = Agent.objects.get()
        assert (agent.instructions, agent.max_seconds, agent.enabled) == ("Mine.", 1, False)
        assert agent.max_iterations == 10

    def test_deletes_nothing(self, file: Path, demo: Agent) -> None:
        load(file, ONE)
        assert set(Agent.objects.values_list("name", flat=True)) == {"demo", "helper"}

    def test_keeps_the_order_of_the_file(self, file: Path) -> None:
        load(file, ONE + "  - {name: second, title: A, provider: demo}\n")
        assert list(Agent.objects.values_list("name", flat=True)) == ["helper", "second"]

    def test_loads_nothing_when_there_is_a_mistake_anywhere(self, file: Path) -> None:
        with pytest.raises(CommandError, match=r"line 5, agents\[1\].title: is missing") as raised:
            load(file, ONE + "  - {name: second, provider: demo}\n")
        assert raised.value.returncode == 1
        assert not Agent.objects.exists()

    def test_only_looks_with_check(self, file: Path) -> None:
        assert load(file, ONE, "--check")[0] == ["helper: in order"]
        assert not Agent.objects.exists()
        with pytest.raises(CommandError):
            load(file, one("colour: red"), "--check")

    def test_warns_of_functions_and_keys_that_are_missing_now(self, file: Path) -> None:
        lines, warned = load(file, one("functions: [calculate, gone]", "api_key_variable: NO_SUCH_KEY"))
        assert lines == ["helper: added"]
        assert "there is no function gone now" in warned
        assert "NO_SUCH_KEY is not set" in warned
        assert Agent.objects.get().functions == ["calculate", "gone"]

    def test_takes_what_the_settings_name_by_itself(self) -> None:
        call_command("load_agents", verbosity=0)
        demo = Agent.objects.get(name="demo")
        assert demo.max_iterations == 210
        assert len(demo.suggestions) == 7


def test_as_a_process_it_ends_with_1_and_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "agents.yaml"
    file.write_text(one("colour: red"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "db.sqlite3").touch()
    for arguments in ([str(file)], [str(tmp_path / "nothing.yaml")], [str(settings.AGENTS_FILE)]):
        done = manage(tmp_path / "data", "load_agents", *arguments)  # The last one: a database without tables.
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("CommandError: ")


def test_check_warns_of_mistakes_without_failing(file: Path, settings: Any) -> None:
    settings.AGENTS_FILE = file
    file.write_text(ONE)
    assert check_agents_file() == []
    file.write_text(one("colour: red"))
    (warning,) = check_agents_file()
    assert warning.msg.startswith("agents.yaml, line 5, agents[0].colour")
    call_command("check", stderr=StringIO())
    with pytest.raises(SystemCheckError, match="line 5"):
        call_command("check", fail_level="WARNING", stderr=StringIO())


class TestTheFileThatIsShipped:
    def test_has_examples_that_work_once_they_are_uncommented(self, file: Path) -> None:
        shipped = (ROOT / "agents.yaml").read_text()
        file.write_text(re.sub(r"(?m)^  # (?=- |  )", "  ", shipped))
        agents = {agent.name: agent for agent in read(file, {"GATEWAY_URL": "http://gw/v1", "GATEWAY_MODEL": "m"})}
        assert list(agents) == ["demo", "gpt", "claude", "gemini", "solver", "solver-demo", "local", "gateway"]
        assert agents["local"].base_url == "http://127.0.0.1:11434/v1"
        assert get_registry().unknown(agents["gateway"].functions) == []


def test_the_problem_solver_runs_code_with_whichever_model_the_environment_names() -> None:
    def solver(environment: dict[str, str]) -> Any:
        return next(one for one in read(settings.AGENTS_FILE, environment, others={}) if one.name == "solver")

    assert solver({}).provider == "gpt"
    named = solver({"SOLVER_PROVIDER": "claude", "SOLVER_MODEL": "claude-sonnet-5-5"})
    assert (named.provider, named.model) == ("claude", "claude-sonnet-5-5")
    assert "run_python" in named.functions
