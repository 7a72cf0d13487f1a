"""A declared task as plain data, as YAML and JSON have it, and as the class that runs it.

    Tides = executor_class({"name": "tides", "steps": [{"id": "text", "instruction": "Explain the tides."}]})
    result = await Tides(llm).execute({})

`declaration_of` goes the other way; of a class that is code it says where that is (`class`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from executor.core.answer_template import fill, placeholders
from executor.core.errors import StepValidationError
from executor.core.executor import TaskExecutor
from executor.core.fields import Place, field_sentence, no_flag, path_text, plain_json, value_text
from executor.core.steps import InputKind, TaskInput, TaskStep, inputs_of
from executor.core.validation import schema_problem

_WORD = r"^[a-z][a-z0-9_]*$"
_A_WORD = "a word of small letters, digits and underscores, such as first_draft"
_KINDS = get_args(InputKind)


def _kind(value: str) -> str:
    if value not in _KINDS:
        raise ValueError
    return value


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid")


# The descriptions are what a mistake is told with: "must be {description}".


class InputEntry(_Fields):
    name: str = Field(pattern=_WORD, max_length=60, description=_A_WORD)
    label: str = Field("", max_length=120, description="a text")
    kind: Annotated[str, AfterValidator(_kind)] = Field("text", description=f"one of: {', '.join(_KINDS)}")
    help: str = Field("", max_length=500, description="a text")
    required: bool = Field(True, description="true or false")
    choices: list[str] = Field([], description="a list of texts")
    default: Annotated[Any, AfterValidator(plain_json)] = Field(None, description="a text, a number, true or false")

    def made(self) -> TaskInput:
        kind: Any = self.kind
        return TaskInput(self.name, self.label, kind, self.help, self.required, tuple(self.choices), self.default)


class StepEntry(_Fields):
    id: str = Field(pattern=_WORD, max_length=60, description=_A_WORD)
    name: str = Field("", max_length=120, description="a text")
    instruction: str = Field("", max_length=50_000, description="a text")
    required_info: list[str] = Field([], description="a list of names of inputs and earlier steps")
    functions: list[str] = Field([], description="a list of function names")
    output: Annotated[dict[str, Any] | None, AfterValidator(plain_json)] = Field(
        None, description="a JSON Schema: a mapping such as {type: object, properties: …}"
    )
    retries: Annotated[int, BeforeValidator(no_flag)] = Field(1, ge=0, le=10, description="a whole number from 0 to 10")
    timeout: Annotated[float | None, BeforeValidator(no_flag)] = Field(
        None, gt=0, le=86_400, allow_inf_nan=False, description="seconds, more than 0"
    )
    agent: str = Field("", max_length=60, description="the name of an agent")

    def made(self) -> TaskStep:
        return TaskStep(
            self.id,
            self.name or title_of(self.id),
            self.instruction,
            tuple(self.required_info),
            self.output,
            tuple(self.functions),
            self.retries,
            self.timeout,
            self.agent,
        )


class TaskEntry(_Fields):
    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]*$", max_length=60, description="a name of small letters, digits and dashes"
    )
    title: str = Field("", max_length=120, description="a text")
    description: str = Field("", max_length=1000, description="a text")
    agent: str = Field("", max_length=60, description="the name of an agent")
    inputs: list[InputEntry] | None = Field(None, description="a list of mappings with name, label, kind and so on")
    steps: list[StepEntry] = Field(min_length=1, description="a list of mappings with id, name, instruction and so on")
    answer: str = Field("", max_length=50_000, description="a text")


class DeclarationError(Exception):
    """The data declares no task. `mistakes` has all that is wrong with it, a line each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class WithoutCode(TaskExecutor):
    """The base class of tasks that are declared without code."""

    template: ClassVar[str] = ""

    def answer(self, output: dict[str, Any]) -> str:
        return fill(self.template, output) if self.template else super().answer(output)


# --- from data to a class, and back ----------------------------------------------------------------------------------


def executor_class(data: Mapping[str, Any]) -> type[TaskExecutor]:
    """Raises DeclarationError with everything that is wrong."""
    try:
        entry = TaskEntry.model_validate(dict(data))
    except ValidationError as error:
        told = [(problem["loc"], sentence(problem, problem["loc"], _shown)) for problem in error.errors()]
        raise DeclarationError([_line(place, said) for place, said in told]) from error
    if wrong := [_line(place, said) for place, said in problems(entry)]:
        raise DeclarationError(wrong)
    return class_of(entry)


def class_of(entry: TaskEntry) -> type[TaskExecutor]:
    """The class of an entry that has no `problems`."""
    body = {
        "__doc__": entry.description,
        "__module__": __name__,
        "name": entry.name,
        "title": entry.title or title_of(entry.name),
        "description": entry.description,
        "agent": entry.agent,
        "inputs": None if entry.inputs is None else tuple(each.made() for each in entry.inputs),
        "task_steps": tuple(each.made() for each in entry.steps),
        "template": entry.answer,
    }
    return type(entry.name, (WithoutCode,), body)


def declaration_of(cls: type[TaskExecutor]) -> dict[str, Any]:
    """What a class declares, as JSON. With `class`, its place, if it is code."""
    steps = [
        {
            "id": step.id,
            "name": step.name,
            "instruction": step.instruction,
            "required_info": list(step.required_info),
            "functions": list(step.functions),
            "output": step.response_schema,
            "retries": step.retries,
            "timeout": step.timeout,
            "agent": step.agent,
        }
        for step in cls.task_steps
    ]
    inputs = [
        {
            "name": asked.name,
            "label": asked.title,
            "kind": asked.kind,
            "help": asked.help,
            "required": asked.required,
            "choices": list(asked.choices),
            "default": asked.default,
        }
        for asked in cls.asks_for()
    ]
    told = {"name": cls.name, "title": cls.title, "description": cls.description, "agent": cls.agent}
    if issubclass(cls, WithoutCode):
        return {**told, "inputs": inputs, "steps": steps, "answer": cls.template}
    return {**told, "inputs": inputs, "steps": steps, "class": f"{cls.__module__}.{cls.__qualname__}"}


def title_of(name: str) -> str:
    """ "research-brief" as people read it: "Research brief"."""
    words = re.sub(r"[-_]+", " ", name).strip()
    return words[:1].upper() + words[1:]


# --- what is wrong ---------------------------------------------------------------------------------------------------


def problems(entry: TaskEntry) -> Iterator[tuple[Place, str]]:
    """What is wrong although each field by itself is right, as (place, sentence)."""
    inputs = [each.made() for each in entry.inputs or ()]
    yield from _twice("inputs", "name", [each.name for each in inputs])
    yield from _twice("steps", "id", [each.id for each in entry.steps])
    for index, asked in enumerate(inputs):
        yield from (((("inputs", index, *inside)), said) for inside, said in _input_problems(asked))
    if entry.inputs is None:
        inputs = list(inputs_of([each.made() for each in entry.steps]))
    known = {each.name for each in inputs}
    for index, step in enumerate(entry.steps):
        place: Place = ("steps", index)
        if step.id in {each.name for each in inputs}:
            yield (*place, "id"), f"{value_text(step.id)} is the name of an input already. Give the step another one."
        for at, name in enumerate(step.required_info):
            if name not in known:
                there = ", ".join(sorted(known)) or "nothing yet"
                said = f"no input and no earlier step is called {value_text(name)}. There is: {there}."
                yield (*place, "required_info", at), said
        if step.output is not None and (said := schema_problem(step.output)):
            yield (*place, "output"), said
        if not (step.instruction or step.name):
            yield (*place, "instruction"), "is missing: say what the model is to do."
        known.add(step.id)
    yield from ((("answer",), said) for said in _answer_problems(entry))


def _twice(field: str, key: str, names: list[str]) -> Iterator[tuple[Place, str]]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (field, index, key), f"{value_text(name)} is there already. Give it another name."


def _input_problems(asked: TaskInput) -> Iterator[tuple[Place, str]]:
    if asked.kind == "choice" and not asked.choices:
        yield ("choices",), "is missing: list what can be chosen."
    if asked.kind != "choice" and asked.choices:
        yield ("choices",), "is only for kind: choice. Leave it out, or change the kind."
    if asked.default is not None:
        try:
            asked.read(asked.default)
        except StepValidationError as error:
            yield ("default",), f"does not fit: {error.message}"


def _answer_problems(entry: TaskEntry) -> Iterator[str]:
    steps = {step.id: step for step in entry.steps}
    for name, *inside in placeholders(entry.answer):
        if name not in steps:
            there = ", ".join(f"{{{each}}}" for each in steps)
            yield f"there is no step {{{name}}}. Use {there}, or write {{{{{name}}}}} for these very words."
        elif inside and (properties := ((steps[name].output or {}).get("properties"))) is not None:
            if inside[0] not in properties:
                yield f"the output of {name} has no {value_text(inside[0])}. It has: {', '.join(properties)}."
        elif inside and steps[name].output is None:
            yield f"{name} gives text, so {{{'.'.join((name, *inside))}}} is nothing. Write {{{name}}}."


_LISTS: dict[str, type[_Fields]] = {"inputs": InputEntry, "steps": StepEntry}


def sentence(error: ErrorDetails, place: Place, shown: Callable[[Place, Any], str]) -> str:
    """What is wrong at `place` of a declaration. `shown` puts the value that stands there into words."""
    inside = _LISTS.get(str(place[0])) if len(place) > 2 else None
    fields = (inside or TaskEntry).model_fields
    field = fields.get(str(place[2 if inside else 0])) if place else None
    if not place:
        wanted = "a mapping with name and steps"
    elif isinstance(place[-1], int):
        wanted = "a mapping of fields" if len(place) == 2 else "a text"
    else:
        wanted = (field.description if field else None) or "a value"
    return field_sentence(error, wanted, list(fields), shown(place, error["input"]))


def _shown(_: Place, value: Any) -> str:
    return value_text(value)


def _line(place: Place, said: str) -> str:
    return f"{path_text(place)}: {said}" if place else said
