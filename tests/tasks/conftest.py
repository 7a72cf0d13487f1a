"""What tests of the shipped tasks share."""

from __future__ import annotations

from tests.executor.conftest import scripted

__all__ = ["scripted"]
