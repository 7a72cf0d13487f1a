"""What templates are given of tokens and money, of one answer or of many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from executor.models import ASKS, Step
from executor.usage import Use, step_use

#: What a task used itself, and what other agents did to whom it gave work. With small letters, for they are parts of
#: what stands before.
OWN = "of its own"
OTHERS = "of other agents"


@dataclass(frozen=True, slots=True)
class UseView:
    """`line` is all of it in short; `facts` are what and how much, in full, for who wants to know."""

    line: str
    facts: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, use: Use) -> UseView:
        counts = (
            ("Input", use.input_tokens),
            ("from the cache", use.cache_read_tokens),
            ("into the cache", use.cache_write_tokens),
            ("Output", use.output_tokens),
            ("reasoning", use.reasoning_tokens),
        )
        facts = [(label, f"{count:,}") for label, count in counts if count]
        return cls(use.line, (*facts, ("Cost", use.price)) if use.price else tuple(facts))


@dataclass(frozen=True, slots=True)
class AnswerUse:
    """One answer of a model, also one that only asked for functions."""

    seq: int
    model: str
    use: Use


def task_use(steps: Iterable[Step], below: Use | None = None) -> UseView:
    """Of a task and all `below` it; both are told apart as well."""
    own, total = Use(), Use()
    for step in steps:
        own.add(step_use(step))
    if below is None or not below.line:
        return UseView.of(own)
    total.add(own)
    total.add(below)
    view = UseView.of(total)
    return UseView(view.line, (*view.facts, (OWN, own.line or "nothing yet"), (OTHERS, below.line)))


def answer_uses(steps: Iterable[Step]) -> tuple[AnswerUse, ...]:
    found = ((step, step_use(step)) for step in steps if step.kind in ASKS)
    return tuple(AnswerUse(step.seq, step.model or step.provider, use) for step, use in found if use.answers)


def by_model(steps: Sequence[Step]) -> tuple[tuple[str, str], ...]:
    """Name and use in a line of each model that answered, if it was more than one."""
    uses: dict[str, Use] = defaultdict(Use)
    for step in steps:
        if (use := step_use(step)).answers:
            uses[step.model or step.provider].add(use)
    return tuple((model, use.line) for model, use in uses.items()) if len(uses) > 1 else ()
