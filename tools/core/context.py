"""What a function may know about the call it serves, and the files that it hands back."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

MAX_FILES = 20
MAX_FILE_BYTES = 20 * 1024 * 1024
MAX_NAME_LENGTH = 120
#: Characters of what a call says that are kept, and notes.
MAX_OUTPUT = 64_000
MAX_NOTES = 20


@dataclass(frozen=True)
class NewFile:
    """A file that a function made and that nobody has stored yet."""

    name: str
    data: bytes
    media_type: str
    description: str = ""


class Workspace(Protocol):
    """Runs code apart from everything else (tools/workspace.py)."""

    def run(self, code: str, context: "Context") -> Any:
        """What a function that runs `code` returns. Blocks; for the thread of a function."""


@dataclass
class Context:
    """The call that a function serves. A parameter annotated `Context` receives it; the model never sees it.

    `idempotency_key` stays the same when this very call is tried again after a crash, and changes with every new call.
    `workspace` is the Python of the task, where there is a task.
    """

    user_id: int | None
    task_id: str
    call_id: str
    idempotency_key: str
    files: list[NewFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    workspace: "Workspace | None" = field(default=None, repr=False)
    on_write: Callable[[], None] = field(default=lambda: None, repr=False)
    _written: list[str] = field(default_factory=list, repr=False)
    _length: int = field(default=0, repr=False)

    def write(self, text: str) -> None:
        """Show the person what the call says, while it runs: the page has it within a second. The model does not read
        it. From any thread; what is longer than 64,000 characters is cut."""
        room = MAX_OUTPUT - self._length
        if text and room > 0:
            cut = text[:room] if len(text) <= room else text[:room] + "\n[More was said, which is not kept.]"
            self._written.append(cut)
            self._length += len(cut)
            self.on_write()

    @property
    def output(self) -> str:
        """What was written so far."""
        return "".join(self._written)

    def note(self, sentence: str) -> None:
        """Tell the person something beside the result, in one sentence. The model does not read it."""
        if len(self.notes) < MAX_NOTES:
            self.notes.append(sentence[:500])

    def save(self, name: str, data: bytes, media_type: str, description: str = "") -> NewFile:
        """Hand a file to the person. It is kept in memory here and stored together with the step's result.

        Raises ValueError for a malformed media type, a file over 20 MB or more than 20 files in one call.
        """
        if not re.fullmatch(r"[\w.+-]{1,60}/[\w.+-]{1,60}", media_type, re.ASCII):
            raise ValueError(f"{media_type!r} is not a media type. Give one like 'image/png' or 'text/csv'.")
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"The file {name!r} is larger than {MAX_FILE_BYTES // 1024**2} MB, the most that is kept.")
        if len(self.files) >= MAX_FILES:
            raise ValueError(f"One call can save {MAX_FILES} files at most. Put them into one archive.")
        file = NewFile(safe_name(name), bytes(data), media_type, description)
        self.files.append(file)
        return file


def safe_name(name: str) -> str:
    """`name` without folders, control and direction-changing characters; never empty, at most 120 characters.

    What is not shown cannot mislead: 'invoice\\u202efdp.exe' would look like 'invoiceexe.pdf'.
    """
    visible = "".join(c for c in name if unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
    last = re.split(r"[/\\]", visible)[-1].strip(" .")
    if len(last) > MAX_NAME_LENGTH:
        stem, dot, ending = last.rpartition(".")
        keep = f"{dot}{ending}" if dot and len(ending) <= 10 else ""
        last = (stem if keep else last)[: MAX_NAME_LENGTH - len(keep)] + keep
    return last or "file"
