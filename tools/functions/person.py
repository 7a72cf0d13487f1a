"""What an agent asks the person it works for. The person answers on the page; the task waits without a worker."""

from tools.core.function import function

NOBODY = "Nobody is here who could answer. Decide by yourself, and say what you assumed."


@function(effect="read", answered_by="person")
def ask_user(question: str, choices: list[str] | None = None) -> str:
    """Ask the person something that you need to know and cannot find out yourself, and wait for the answer.

    Ask only what changes what you do next, one thing at a time. Do not ask what you can look up or sensibly assume.

    Args:
        question: The question, short and complete: the person may read it hours later.
        choices: Up to 6 likely answers to choose from. The person may also answer something else.

    Returns:
        What the person answers.
    """
    return NOBODY


@function(effect="read", answered_by="plan")
def propose_plan(goal: str, steps: list[str]) -> str:
    """Show the person a plan before work that takes long, costs much or cannot be undone, and wait until they agree.

    The person may change the steps, or refuse with a reason.

    Args:
        goal: What will be there in the end, in one sentence.
        steps: What you are going to do, in order, one line each.

    Returns:
        Whether the person agrees, and what they changed.
    """
    return NOBODY
