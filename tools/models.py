"""Files that people sent and that functions made, and results that are kept for whoever asks the same.

Beside them: the MCP servers whose tools are functions."""

from typing import ClassVar
from uuid import UUID

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from uuid_utils.compat import uuid7

FOLDER = "files"  # All files lie below this folder of the storage, and nothing else does.


def file_path(resource: "Resource", filename: str) -> str:
    """Where the bytes lie. Nothing of the name that a function chose gets near the file system."""
    digits = resource.id.hex
    return f"{FOLDER}/{digits[-2:]}/{digits}"


class Resource(models.Model):
    """A file. It never changes; it goes when nothing refers to it and it is old (see `resources.clean`).

    One that was uploaded belongs to no task until its message is sent; until then it is a draft.
    """

    class Source(models.TextChoices):
        UPLOAD = "upload", "Uploaded"
        FUNCTION = "function", "Made by a function"

    id: "models.UUIDField[UUID, UUID]" = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="resources")
    source = models.CharField(max_length=10, choices=Source, default=Source.FUNCTION)
    thread = models.UUIDField(
        null=True, blank=True, db_index=True, help_text="What it belongs to, as whoever made its task says."
    )
    task_id = models.UUIDField(
        null=True, blank=True, db_index=True, help_text="The task in which it was made, or with which it was sent."
    )
    call_id = models.CharField(max_length=200, blank=True, help_text="The call that made it.")
    name = models.CharField(max_length=200)
    media_type = models.CharField(max_length=130)
    size = models.PositiveBigIntegerField(help_text="In bytes.")
    sha256 = models.CharField(max_length=64)
    file = models.FileField(upload_to=file_path, max_length=200)
    description = models.TextField(blank=True)
    version = models.PositiveIntegerField(default=1, help_text="Counts the files of this name in their thread.")
    preview = models.JSONField(null=True, blank=True, editable=False, help_text="Its beginning: see tools.core.peek.")
    told = models.TextField(
        null=True, blank=True, editable=False, help_text="What models are told of it. None: nobody has read it yet."
    )
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering: ClassVar[list[str]] = ["-created_at", "-id"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_draft(self) -> bool:
        """It was uploaded, and its message is not sent yet."""
        return self.source == self.Source.UPLOAD and self.task_id is None


class CachedResult(models.Model):
    """What a call of a function with `cache=` gave. `key`: a digest of all that decided about it (tools.core.cache)."""

    key = models.CharField(max_length=64, primary_key=True)
    function = models.CharField(max_length=64, db_index=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        related_name="+",
        help_text="For whom it was made. Empty: it is everybody's.",
    )
    content = models.TextField()
    made_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.function} at {self.made_at:%Y-%m-%d %H:%M:%S}"


class McpServer(models.Model):
    """A server of tools that become functions, and the list of its tools as a worker last got it.

    Its key, if it has one, is a key of the site for the provider "mcp" and its address.
    """

    name = models.CharField(
        max_length=20,
        unique=True,
        validators=[RegexValidator(r"\A[a-z][a-z0-9_]*\Z", "Use small letters a to z, digits and underscores.")],
        help_text="Begins the names of its functions: “files” gives files_read.",
    )
    url = models.CharField("address", max_length=300, blank=True, help_text="Where it speaks HTTP (streamable).")
    command = models.CharField(
        max_length=40, blank=True, help_text="Or the command that is started, one of those in MCP_COMMANDS."
    )
    key_header = models.CharField(
        max_length=60,
        blank=True,
        validators=[RegexValidator(r"\A[A-Za-z0-9-]+\Z", "A header's name has letters, digits and dashes.")],
        help_text="The header that carries its key. Empty: Authorization, as a bearer token.",
    )
    trusted = models.BooleanField(
        default=False, help_text="Tools of which it says that they only read run without asking the person."
    )
    enabled = models.BooleanField(default=True)
    timeout = models.PositiveSmallIntegerField(
        default=60,
        validators=[MinValueValidator(1), MaxValueValidator(600)],
        help_text="Seconds until a call is given up.",
    )
    tools = models.JSONField(default=list, editable=False)
    asked_at = models.DateTimeField(null=True, editable=False, help_text="Its tools were last asked for then.")
    checked_at = models.DateTimeField("tested", null=True, editable=False)
    problem = models.TextField(blank=True, editable=False, help_text="Why it did not answer. Empty: it did.")
    note = models.TextField(blank=True, editable=False, help_text="What else was found.")
    changed_at = models.DateTimeField(auto_now=True, help_text="By it, processes see that they must look again.")

    class Meta:
        ordering: ClassVar[list[str]] = ["name"]
        verbose_name = "MCP server"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(url="") ^ models.Q(command=""),
                name="mcp_server_has_one_place",
                violation_error_message="Give either an address or a command.",
            )
        ]

    def __str__(self) -> str:
        return self.name


class FunctionOverview(models.Model):
    """No table: a place in admin, with a permission of its own, for the page that lists the registered functions."""

    class Meta:
        managed = False
        default_permissions = ("view",)
        verbose_name = "function"
        verbose_name_plural = "functions"

    def __str__(self) -> str:
        return "Functions"
