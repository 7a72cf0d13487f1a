"""What was used and what it cost: added up from the steps, by the provider's own counts.

A day's use is that of the tasks that were begun on it, in the site's time zone. Only numbers, and names of agents,
models and keys, are read; never what was said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import TruncDate
from django.utils import timezone

from executor import money
from executor.models import ASKS, OPEN, Agent, AgentVersion, Step, Task
from users.models import ApiKey, User

PERIODS = {"7": "7 days", "30": "30 days", "90": "90 days", "month": "This month"}
DEFAULT = "30"
COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days; `last` is today."""

    name: str
    first: date
    last: date

    @classmethod
    def named(cls, name: str, today: date) -> Period:
        """An unknown name gives the default."""
        name = name if name in PERIODS else DEFAULT
        first = today.replace(day=1) if name == "month" else today - timedelta(days=int(name) - 1)
        return cls(name, first, today)

    @property
    def label(self) -> str:
        return PERIODS[self.name]

    @property
    def since(self) -> datetime:
        return timezone.make_aware(datetime.combine(self.first, time()))

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]


@dataclass(slots=True)
class Use:
    """So many answers of models, their tokens, and their price as far as it is known.

    `input_tokens` include what came from the cache (`cache_read_tokens`) or went there; `output_tokens` include the
    reasoning. `cost` is None if no answer had a price; `unpriced` answers had none. (The demonstration needs none.)
    """

    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Decimal | None = None
    unpriced: int = 0

    def add(self, other: Use) -> None:
        self.answers += other.answers
        self.unpriced += other.unpriced
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cache_read_tokens += other.cache_read_tokens
        self.cache_write_tokens += other.cache_write_tokens
        self.reasoning_tokens += other.reasoning_tokens
        if other.cost is not None:
            self.cost = (self.cost or Decimal(0)) + other.cost

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def price(self) -> str:
        return money.cost(self.cost, self.unpriced)

    @property
    def line(self) -> str:
        return money.line(self.tokens, self.cost, self.unpriced)


@dataclass(frozen=True, slots=True)
class Row:
    """The use of one day, agent, model and key. `person` is 0 where people are not told apart."""

    day: date
    person: int
    version: int
    provider: str
    model: str
    key: int | None
    use: Use


@dataclass(frozen=True, slots=True)
class Line:
    """The use of one model, agent, key, person or conversation."""

    name: str
    note: str
    use: Use
    url: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """A period's use; `days` has every day of it. `names` tells what the agents and keys of `rows` are called."""

    period: Period
    rows: list[Row]
    names: Names
    tasks: int
    total: Use
    days: dict[date, Use]
    models: list[Line]
    agents: list[Line]
    keys: list[Line]


class _Day(TruncDate):
    """The day in the site's time zone. For SQLite its own function: Django's is Python, called for every row."""

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> tuple[str, Any]:
        sql, params = compiler.compile(self.lhs)
        # Django gives the process the site's time zone.
        return f"date({sql}, 'localtime')", params


# --- adding up -------------------------------------------------------------------------------------------------------


_REFUSED = ~Q(status=Step.Status.DONE) & Q(cost=0, input_tokens=0, output_tokens=0)


def answers() -> QuerySet[Step]:
    """The steps that may have cost something: the model was asked, which is over now, and was not just refused.

    Also an answer that broke off, or was not waited for: its `cost` is NULL, because nobody knows it. What a refusal
    costs is known, 0. The journal counts the same in a task's `cost` and `unpriced_calls`.
    """
    steps = Step.objects.filter(kind__in=ASKS).exclude(status__in=OPEN).order_by()
    return steps.exclude(_REFUSED)


SUMS: dict[str, Any] = {
    "answers": Count("*"),
    "unpriced": Count("task", filter=Q(cost=None) & ~Q(provider="demo")),
    "price": Sum("cost"),
    **{f"sum_{name}": Sum(name) for name in COUNTS},
}


def use_of(sums: Mapping[str, Any]) -> Use:
    """The result of `SUMS`."""
    counts = {name: sums[f"sum_{name}"] or 0 for name in COUNTS}
    return Use(sums["answers"], **counts, cost=sums["price"], unpriced=sums["unpriced"])


def step_use(step: Step) -> Use:
    """Of one step; nothing where `answers` would not find it."""
    counts = {name: getattr(step, name) for name in COUNTS}
    if step.kind not in ASKS or step.is_open:
        return Use()
    if step.status != Step.Status.DONE and step.cost == 0 and not (step.input_tokens or step.output_tokens):
        return Use()
    return Use(1, **counts, cost=step.cost, unpriced=int(step.cost is None and step.provider != "demo"))


def rows(period: Period, user: User | None = None, *, people: bool = False) -> list[Row]:
    """In one query, by day. Of `user`, or of everybody together; with `people`, of each of them."""
    steps = answers().filter(task__created_at__gte=period.since, **({"task__user": user} if user else {}))
    by = ["day", "task__agent_version", "provider", "model", "api_key", *(["task__user"] if people else [])]
    found = steps.annotate(day=_Day("task__created_at")).values(*by).annotate(**SUMS).order_by("day")
    return [
        Row(
            min(row["day"], period.last),  # A task may begin tomorrow while this is being added up.
            row.get("task__user", 0),
            row["task__agent_version"],
            row["provider"],
            row["model"],
            row["api_key"],
            use_of(row),
        )
        for row in found
    ]


def usage(period: Period, user: User | None = None) -> Usage:
    """Of `user`, or of everybody. The same number of queries however much there is."""
    found = rows(period, user)
    names = Names.of(found, user)
    tasks = Task.objects.filter(created_at__gte=period.since, **({"user": user} if user else {}))
    days = {day: Use() for day in period.days}
    total = Use()
    for row in found:
        days[row.day].add(row.use)
        total.add(row.use)
    return Usage(
        period,
        found,
        names,
        tasks.count(),
        total,
        days,
        models=lines(found, lambda row: (row.model or "–", row.provider)),
        agents=lines(found, names.agent),
        keys=lines(found, names.key),
    )


def people(period: Period) -> list[Line]:
    """Everybody's use, who cost most first, in two queries."""
    steps = answers().filter(task__created_at__gte=period.since)
    found = {row["task__user"]: use_of(row) for row in steps.values("task__user").annotate(**SUMS)}
    who = usernames(found)
    return ranked(Line(who.get(pk, "–"), "", use) for pk, use in found.items())


def usernames(people: Collection[int]) -> dict[int, str]:
    return dict(User.objects.filter(pk__in=people).values_list("pk", "username"))


def lines(found: Iterable[Row], name: Callable[[Row], tuple[str, str]]) -> list[Line]:
    """Rows added up by `name`: what something is called, and a note to that."""
    sums: dict[tuple[str, str], Use] = defaultdict(Use)
    for row in found:
        sums[name(row)].add(row.use)
    return ranked(Line(*key, use) for key, use in sums.items())


def ranked(found: Iterable[Line]) -> list[Line]:
    """What cost most comes first, then what used most."""
    return sorted(found, key=lambda line: (-(line.use.cost or 0), -line.use.tokens, line.name))


@dataclass(frozen=True, slots=True)
class Names:
    """What agents and keys are called."""

    agents: Mapping[int, tuple[str, str]]
    keys: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Collection[Row], viewer: User | None) -> Names:
        """In two queries. A `viewer` learns the fingerprints of their own keys; None is an administrator."""
        versions = AgentVersion.objects.filter(pk__in={row.version for row in found}).select_related("agent")
        shown = {version.pk: _agent_name(version.agent, version) for version in versions.only("agent__title", "config")}
        keys = ApiKey.objects.filter(pk__in={row.key for row in found if row.key}).select_related("owner")
        return cls(shown, {key.pk: _key_name(key, viewer) for key in keys.defer("secret")})

    def agent(self, row: Row) -> tuple[str, str]:
        return self.agents[row.version]

    def key(self, row: Row) -> tuple[str, str]:
        return self.keys.get(row.key or 0, ("No stored key", "of a server, the environment or the demonstration"))


def _agent_name(agent: Agent | None, version: AgentVersion) -> tuple[str, str]:
    return (agent.title, "") if agent else (str(version.config["title"]), "deleted")


def _key_name(key: ApiKey, viewer: User | None) -> tuple[str, str]:
    place = f"{key.provider} at {key.base_url}" if key.base_url else key.provider
    revoked = ", revoked" if key.revoked_at else ""
    if viewer and key.owner_id != viewer.pk:
        return (place, f"the site's{revoked}")
    whose = "" if viewer else f", {key.owner.username if key.owner else 'the site’s'}"
    return (f"{place} {key.fingerprint}", f"{key.label}{whose}{revoked}".removeprefix(", "))


# --- for spreadsheets ------------------------------------------------------------------------------------------------

CSV_HEAD = ("day", "agent", "provider", "model", "key", "answers", *COUNTS, "cost_usd", "answers_without_price")


def csv_rows(found: Collection[Row], names: Names) -> Iterator[list[str]]:
    """A line for each row, without heading. Dollars are empty where nobody knows them."""
    for row in found:
        use = row.use
        cost = "" if use.cost is None else f"{use.cost:.8f}"
        said = (names.agent(row)[0], row.provider, row.model, names.key(row)[0] if row.key else "")
        counts = (use.answers, *(getattr(use, name) for name in COUNTS))
        yield [row.day.isoformat(), *map(cell, said), *map(str, counts), cost, str(use.unpriced)]


def cell(text: str) -> str:
    """Names are chosen by people, and spreadsheets take what begins like this for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
