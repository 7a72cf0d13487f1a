"""The rows that are the truth about everything an agent did."""

from executor.models.agents import Agent, AgentVersion, OnUnknown, default_functions, provider_choices
from executor.models.code import KeptVariables
from executor.models.decisions import ApprovalRule, Decision
from executor.models.declared import DeclaredTask, DeclaredTaskVersion
from executor.models.site import DayAccount, Probe, ReviewLog, UsageOverview, Worker
from executor.models.tasks import ACTIVE, ASKS, FOR_PERSON, HELD, OPEN, Checkpoint, Status, Step, Task

__all__ = [
    "ACTIVE",
    "ASKS",
    "FOR_PERSON",
    "HELD",
    "OPEN",
    "Agent",
    "AgentVersion",
    "ApprovalRule",
    "Checkpoint",
    "DayAccount",
    "Decision",
    "DeclaredTask",
    "DeclaredTaskVersion",
    "KeptVariables",
    "OnUnknown",
    "Probe",
    "ReviewLog",
    "Status",
    "Step",
    "Task",
    "UsageOverview",
    "Worker",
    "default_functions",
    "provider_choices",
]
