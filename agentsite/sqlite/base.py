"""Django's SQLite backend, where the threads of a process queue up to write.

SQLite has one writer. Who finds it busy sleeps and tries again, longer each time, so with fifty requests at once some
wait a second for a transaction of a millisecond. Here only one thread of a process asks at a time; the others wait for
a lock, which wakes one of them as soon as it is free.
"""

import threading

from django.db.backends.sqlite3 import base
from django.db.utils import OperationalError

_turn = threading.Lock()


class DatabaseWrapper(base.DatabaseWrapper):  # Its stubs leave out what begins with an underscore.
    _has_turn = False

    def _start_transaction_under_autocommit(self) -> None:
        seconds = self.settings_dict["OPTIONS"].get("timeout", 5)
        if not _turn.acquire(timeout=seconds):
            raise OperationalError(f"database is locked: no turn to write came within {seconds} s")
        self._has_turn = True
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self._end_turn()
            raise

    def _commit(self) -> None:
        super()._commit()  # type: ignore[misc]
        self._end_turn()  # A commit that failed is rolled back, which ends it as well.

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._end_turn()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self._end_turn()

    def _end_turn(self) -> None:
        if self._has_turn:
            self._has_turn = False
            _turn.release()
