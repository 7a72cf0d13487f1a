"""What a task does, written down (journal.py). calls.py and questions.py are parts of it; they share writing.py."""

from executor.journal.journal import MAX_STALLED_ATTEMPTS, Journal
from executor.journal.questions import Covers
from executor.journal.writing import Source

__all__ = ["MAX_STALLED_ATTEMPTS", "Covers", "Journal", "Source"]
