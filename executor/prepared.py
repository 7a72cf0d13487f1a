"""SQL that is compiled once and executed often.

Django builds a statement anew each time, which takes ten times as long as SQLite needs to execute it. What a task
writes at every step (executor/statements.py), and what a page looks for whenever something changes, is written in
Django's language all the same, with a `Param` wherever a value differs from one time to the next, so models, migrations
and databases stay Django's business.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.db import connection
from django.db.models import Expression, Model, QuerySet
from django.db.models.query import get_related_populators
from django.db.models.sql import InsertQuery, UpdateQuery

M = TypeVar("M", bound=Model)


class Param(Expression):
    """A value that is given when the statement is executed."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        return "%s", (self,)


class Statement:
    """`build` gives SQL and parameters. It is called once for each kind of database, at first use.

    Values are texts, numbers, None, UUIDs, times, days, and dictionaries and lists for JSON.
    """

    def __init__(self, build: Callable[[], tuple[str, list[Any]]]) -> None:
        self._build = build
        self._compiled: dict[str, tuple[str, list[Any], set[str]]] = {}

    def execute(self, **values: Any) -> int:
        """Returns how many rows it changed. Raises TypeError unless exactly its parameters are given."""
        if connection.vendor not in self._compiled:
            sql, params = self._build()
            names = {param.name for param in params if isinstance(param, Param)}
            self._compiled[connection.vendor] = sql, params, names
        sql, params, names = self._compiled[connection.vendor]
        with connection.cursor() as cursor:
            cursor.execute(sql, _given(params, names, values))
            return int(cursor.rowcount)


class Select(Generic[M]):
    """The rows of a queryset that is built once, at first use: models, whole or in part (`only`, `defer`), also with
    `select_related` and annotations."""

    def __init__(self, rows: Callable[[], QuerySet[M]]) -> None:
        self._rows = rows
        self._compiled: dict[str, tuple[str, list[Any], set[str], Callable[[Any], M]]] = {}

    def all(self, **values: Any) -> list[M]:
        """Raises TypeError unless exactly its parameters are given."""
        if connection.vendor not in self._compiled:
            self._compiled[connection.vendor] = self._compile()
        sql, params, names, make = self._compiled[connection.vendor]
        with connection.cursor() as cursor:
            cursor.execute(sql, _given(params, names, values))
            return [make(row) for row in cursor.fetchall()]

    def first(self, **values: Any) -> M | None:
        return next(iter(self.all(**values)), None)

    def _compile(self) -> tuple[str, list[Any], set[str], Callable[[Any], M]]:
        compiler: Any = self._rows().query.get_compiler(connection=connection)
        sql, params = compiler.as_sql()
        columns = [column for column, _, _ in compiler.select]
        converters = [(at, *found) for at, found in compiler.get_converters(columns).items()]
        own = slice(compiler.klass_info["select_fields"][0], compiler.klass_info["select_fields"][-1] + 1)
        names = [column.target.attname for column in columns[own]]
        # The stubs are ahead of Django 5.2.
        related = get_related_populators(compiler.klass_info, compiler.select, connection.alias)  # type: ignore[call-arg]
        annotations = compiler.annotation_col_map or {}
        model: type[M] = compiler.klass_info["model"]

        def make(row: Any) -> M:
            values = list(row)
            for at, convert, column in converters:
                for step in convert:
                    values[at] = step(values[at], column, connection)
            made = model.from_db(connection.alias, names, values[own])
            for populator in related:
                populator.populate(values, made)
            for name, at in annotations.items():
                setattr(made, name, values[at])
            return made

        return sql, list(params), {param.name for param in params if isinstance(param, Param)}, make


def update(rows: Callable[[], QuerySet[Any]], /, **values: Any) -> Statement:
    """UPDATE `rows`, which may be picked by `Param`s, as QuerySet.update does."""

    def build() -> tuple[str, list[Any]]:
        query: Any = rows().order_by().query.chain(UpdateQuery)
        query.add_update_values(values)
        sql, params = query.get_compiler(connection=connection).as_sql()
        return sql, list(params)

    return Statement(build)


def insert(model: type[Model], /, **values: Any) -> Statement:
    """INSERT a row, of which some `values` are `Param`s, as Model.save does."""

    def build() -> tuple[str, list[Any]]:
        fields = [field for field in model._meta.local_concrete_fields if not field.primary_key]
        query = InsertQuery(model)
        query.insert_values(fields, [model(**values)])
        ((sql, params),) = query.get_compiler(connection=connection).as_sql()
        return sql, list(params)

    return Statement(build)


def _given(params: list[Any], names: set[str], values: dict[str, Any]) -> list[Any]:
    if values.keys() != names:
        raise TypeError(f"The statement takes {sorted(names)}, not {sorted(values)}.")
    return [_adapted(values[param.name]) if isinstance(param, Param) else param for param in params]


def _adapted(value: Any) -> Any:
    match value:
        case datetime():
            return connection.ops.adapt_datetimefield_value(value)
        case date():
            return connection.ops.adapt_datefield_value(value)
        case UUID():
            return value if connection.features.has_native_uuid_field else value.hex
        case dict() | list():
            return connection.ops.adapt_json_value(value, None)
        case _:
            return value
