"""SQL that is compiled once and executed often.

Django builds a statement anew each time, which takes ten times as long as SQLite needs to execute it. What a task
writes at every step (executor/statements.py) is written in Django's language all the same, with a `Param` wherever a
value differs from one time to the next, so models, migrations and databases stay Django's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Expression, Model, QuerySet
from django.db.models.sql import InsertQuery, UpdateQuery


class Param(Expression):
    """A value that is given when the statement is executed."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        return "%s", (self,)


class Statement:
    """`build` gives SQL and parameters. It is called once for each kind of database, at first use.

    Values are texts, numbers, None, UUIDs, and dictionaries and lists for JSON.
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
        if values.keys() != names:
            raise TypeError(f"The statement takes {sorted(names)}, not {sorted(values)}.")
        with connection.cursor() as cursor:
            cursor.execute(
                sql, [_adapted(values[param.name]) if isinstance(param, Param) else param for param in params]
            )
            return int(cursor.rowcount)


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


def _adapted(value: Any) -> Any:
    match value:
        case UUID():
            return value if connection.features.has_native_uuid_field else value.hex
        case dict() | list():
            return connection.ops.adapt_json_value(value, None)
        case _:
            return value
