"""What is written down of questions to models: that they are asked, their answers, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now

from executor.core.errors import LLMError, TaskExecutionError
from executor.core.events import Finished
from executor.core.limits import Spent
from executor.core.messages import Reasoning, Usage
from executor.core.task_events import ModelAsked
from executor.journal.calls import Calls
from executor.meter import NOTHING
from executor.models import Status, Step, Task
from executor.prepared import Statement
from executor.queue import UNBEGUN, take_out
from executor.statements import (
    ACCEPT,
    BEGIN_MODEL,
    BREAK_OFF,
    COVER,
    FAIL_MODEL,
    FINISH_MODEL,
    OPEN_QUESTIONS,
    PRICE,
    SAVE_PARTIAL,
    TAKE_UP_MODEL,
)
from executor.stored import clean, clean_json
from executor.task_events import tell
from tools.core.function import Function


@dataclass(frozen=True, slots=True)
class Covers:
    """Everything up to the step `seq` of a task before, or of the one at work (None)."""

    task_id: UUID | None
    seq: int


class Questions(Calls):
    def begin_model(self, size: int = 0, kind: Step.Kind = Step.Kind.MODEL, *, later: bool = False) -> int:
        """A model step begins, or another `kind` of step in which a model is asked, with a question of `size` bytes.
        Returns its seq.

        Raises LimitReached if the question does not fit into what the task or its person may use, and BudgetUsedUp or
        BudgetHeld if it does not fit into what tasks share. What was noted is written all the same.
        """
        self._meter.asks(size)
        if self._meter.is_limited and not later:
            with self._transaction():
                seq, refused = self._begin_if_it_fits(kind)
            if refused is not None:
                raise refused
            return seq
        seq = self._meter.next_seq()
        self._note_question(seq, kind)
        if not later:
            self.commit()
        return seq

    def _begin_if_it_fits(self, kind: Step.Kind = Step.Kind.MODEL) -> tuple[int, TaskExecutionError | None]:
        """The seq of a question that begins in this transaction, or why it does not fit."""
        seq, refused = 0, self._meter.reserve(self.source.config)
        if refused is None:
            seq = self._meter.next_seq()
            self._note_question(seq, kind)
            self._write_noted()
        self._meter.recount()
        return seq, refused

    def take_in(self, size: int = 0) -> int | None:
        """Let in what the person wants to have said to the task at once, together with the beginning of the next model
        step: the tasks that were to answer it are gone then. Returns the seq of the model step, None if there is
        nothing to let in, or the task is being stopped and would not answer it.

        The question has `size` bytes without it. Raises as `begin_model`; it was let in all the same.
        """
        self._meter.asks(size)
        with self._transaction():
            if not Task.objects.filter(pk=self.task_id, status=Status.RUNNING).exists():
                return None
            before = self._meter.counts["head_seq"]
            next_said = Task.objects.filter(UNBEGUN, previous=self.task_id, steers=True).order_by("created_at")
            while (said := next_said.first()) and take_out(said, Q(steers=True)):
                Step.objects.create(
                    task_id=self.task_id,
                    seq=self._meter.next_seq(),
                    kind=Step.Kind.MESSAGE,
                    status=Step.Status.DONE,
                    fence=self.fence,
                    text=said.text,
                    started_at=Now(),
                    ended_at=Now(),
                )
                self._meter.add_to_question(len(said.text))
            if self._meter.counts["head_seq"] == before:
                return None
            seq, refused = self._begin_if_it_fits()
        if refused is not None:
            raise refused
        return seq

    def _note_question(self, seq: int, kind: Step.Kind) -> None:
        config = self.source.config
        self._note(
            BEGIN_MODEL,
            seq=seq,
            kind=kind,
            parent_seq=self.within,
            fence=self.fence,
            name=self.source.name,
            provider=config.provider,
            model=config.model,
            api_key=self.source.api_key_id,
            asked_bytes=self._meter.asked_bytes or None,
        )

    def accept(self, seq: int, response_id: str, plan: dict[str, Any] | None = None) -> None:
        """The provider keeps the response to this question: whoever takes the task over can fetch it. `plan` says of
        what it is to be a summary."""
        self._note(ACCEPT, seq=seq, response_id=response_id, arguments=plan)
        self.commit()

    def take_up_model(self, still_wanted: bool = True) -> Step | None:
        """The question that was left behind, if `source` asked it: it is ours now. If another model or another key did,
        nobody can fetch its answer; nor is one fetched that is not `still_wanted`."""
        if not (kept := self._no_longer_kept()):
            return None
        source, config = self.source, self.source.config
        asked_by = (kept.name, kept.provider, kept.model, kept.api_key_id)
        is_ours = still_wanted and asked_by == (source.name, config.provider, config.model, source.api_key_id)
        with self._transaction():
            if is_ours:
                TAKE_UP_MODEL.execute(task=self.task_id, seq=kept.seq, fence=self.fence)
            else:
                self._break_off([kept])
        return kept if is_ours else None

    def save_partial(self, seq: int, text: str, reasoning: str) -> None:
        """What has been said so far, for whoever looks after a crash."""
        self._note(SAVE_PARTIAL, seq=seq, text=clean(text), reasoning=clean(reasoning))
        self.commit()

    def finish_model(
        self,
        seq: int,
        event: Finished,
        spent: Spent,
        functions: dict[str, Function],
        first_token_ms: int | None,
        *,
        later: bool = False,
    ) -> None:
        """The answer and the calls it asks for, in one transaction: neither is ever on record without the other."""
        self._meter.count(model_calls=1)
        self._note_answer(seq, event, first_token_ms)
        for call in event.message.tool_calls:
            self._add_call(seq, call, functions.get(call.name))
        self._checkpoint(seq, spent)
        if not later:
            self.commit()

    def _note_answer(self, seq: int, event: Finished, first_token_ms: int | None = None) -> None:
        message, usage = event.message, event.usage
        self._meter.learn(usage)
        self._note(
            FINISH_MODEL,
            seq=seq,
            text=clean(message.text),
            reasoning=clean("".join(part.text for part in message.parts if isinstance(part, Reasoning))),
            native=clean_json(asdict(message.native)) if message.native else None,
            model=clean(event.model or self.source.config.model)[:120],
            response_id=clean(event.response_id)[:120],
            finish_reason=event.reason,
            first_token_ms=first_token_ms,
            **self._used(usage, event.model, first_token_ms=first_token_ms),
        )

    def finish_compaction(self, seq: int, event: Finished, covers: Covers) -> None:
        """A summary, which stands for what it `covers` from now on. It is no round of the loop."""
        self._meter.count()
        self._note_answer(seq, event)
        self._note(COVER, seq=seq, text=clean(event.message.text), covers_task=covers.task_id, covers_seq=covers.seq)
        self._checkpoint(seq, self.spent)
        self.commit()

    def leave_out(self, seq: int, error: LLMError, covers: Covers, text: str, usage: Usage = NOTHING) -> None:
        """No summary: of what it would have covered, only `text` is told from now on."""
        self._meter.count()
        self.fail_model(seq, error, text, usage=usage, begun=error.partial, later=True)
        self._note(COVER, seq=seq, text=clean(text), covers_task=covers.task_id, covers_seq=covers.seq)
        self._checkpoint(seq, self.spent)
        self.commit()

    def fail_model(
        self,
        seq: int,
        error: TaskExecutionError,
        text: str,
        reasoning: str = "",
        usage: Usage = NOTHING,
        *,
        begun: bool = False,
        later: bool = False,
    ) -> None:
        """No answer, or half of one: a provider wants money for what had `begun`, and for what it was too slow with."""
        begun = begun or bool(text or reasoning) or error.kind == "timeout"
        self._note(
            FAIL_MODEL,
            seq=seq,
            text=clean(text),
            reasoning=clean(reasoning),
            error_kind=error.kind,
            error=clean(error.message),
            attempt=error.attempts if isinstance(error, LLMError) else 1,
            **self._used(usage, begun=begun, outcome=error.kind),
        )
        if not later:
            self.commit()

    # --- what it costs -----------------------------------------------------------------------------------------------

    def _used(
        self,
        usage: Usage,
        model: str = "",
        *,
        begun: bool = True,
        outcome: str = "done",
        first_token_ms: int | None = None,
    ) -> dict[str, Any]:
        """What the row of a question says of tokens and cost; noted for the person's day as well, and told."""
        values, booking = self._meter.use(self.source.config, usage, model, begun=begun)
        if booking:
            self._noted.append(booking)
        asked = self._asked(outcome, values["cost"], usage, first_token_ms)
        self._noted.append(partial(tell, asked))
        return values

    def _asked(
        self, outcome: str, cost: Decimal | None, usage: Usage = NOTHING, first_token_ms: int | None = None
    ) -> ModelAsked:
        config = self.source.config
        return self._event(
            ModelAsked,
            provider=config.provider,
            model=config.model,
            outcome=outcome,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost=cost,
            first_token=None if first_token_ms is None else first_token_ms / 1000,
        )

    def _price_open(self) -> None:
        """What was asked and is not waited for any more."""
        self._meter.give_back()
        self._write_price(PRICE, OPEN_QUESTIONS.all(task=self.task_id))

    def _break_off(self, questions: Sequence[Step]) -> None:
        """Nobody writes or fetches their answers."""
        self._write_price(BREAK_OFF, questions)

    def _write_price(self, statement: Statement, questions: Sequence[Step]) -> None:
        """An earlier acquisition may have asked, or a model that took over then: the step says whose it was."""
        for step in questions:
            cost = self._meter.price(step, self.source.config, is_own=step.name == self.source.name)
            statement.execute(task=self.task_id, seq=step.seq, cost=cost)
            tell(self._asked("interrupted", cost))
        if questions:
            self._meter.recount()

    def _no_longer_kept(self) -> Step | None:
        """The question that was left behind."""
        kept, self.kept = self.kept, None
        return kept

    def _can_be_fetched(self, asked: Step) -> bool:
        """By the next acquisition, which asks the agent's own model first: not of one that took over."""
        return bool(asked.response_id) and not asked.name
