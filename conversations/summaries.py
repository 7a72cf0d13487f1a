"""What a page tells of compactions: that the model was told earlier messages in short, and in which words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.safestring import SafeString

from conversations.markdown import render
from executor.models import Step

SUMMARISING = "Summarising earlier messages"
SUMMARISED = "Earlier messages were summarised"
LEFT_OUT = "Earlier messages were left out"


@dataclass(frozen=True, slots=True)
class SummaryView:
    """`text` is what the model is told in their place; `problem` is why that is not a new summary."""

    id: str
    title: str
    text: SafeString
    problem: str


def summary_views(steps: Iterable[Step]) -> tuple[SummaryView, ...]:
    """Of those that came to something. One that broke off was asked for again, and one in a step of a declared task is
    told among what that did."""
    return tuple(
        SummaryView(
            id=f"{step.task_id}-{step.seq}",
            title=title(step),
            text=render(step.text) if step.text else SafeString(""),
            problem=step.error,
        )
        for step in steps
        if step.kind == Step.Kind.COMPACTION and step.covers_seq is not None and step.parent_seq is None
    )


def title(step: Step) -> str:
    if step.is_open:
        return SUMMARISING
    if step.covers_seq is None:
        return "No summary of earlier messages"
    return SUMMARISED if step.status == Step.Status.DONE else LEFT_OUT
