"""Docstrings as data: what a function does and what each parameter means, in Google, NumPy and Sphinx style."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import griffe


@dataclass(frozen=True)
class Documentation:
    """`text` is what the model reads about the function; `parameters` maps names to their descriptions."""

    text: str = ""
    parameters: dict[str, str] = field(default_factory=dict)


def read(docstring: str) -> Documentation:
    """Take a cleaned docstring apart. A style that is not recognised is kept whole, as text."""
    sections = max(
        (griffe.Docstring(docstring).parse(style, warnings=False) for style in ("google", "numpy", "sphinx")),
        key=lambda sections: sum(section.kind is not griffe.DocstringSectionKind.text for section in sections),
    )
    parameters = {
        parameter.name.lstrip("*"): " ".join(parameter.description.split())
        for section in sections
        if isinstance(section, griffe.DocstringSectionParameters)
        for parameter in section.value
    }
    return Documentation("\n\n".join(filter(None, _prose(sections))), parameters)


def _prose(sections: list[griffe.DocstringSection]) -> Iterator[str]:
    """What is worth telling a model: the text, what comes back, and notes. Not what the code raises."""
    for section in sections:
        match section:
            case griffe.DocstringSectionText():
                yield section.value.strip()
            case griffe.DocstringSectionReturns():
                described = " ".join(item.description.strip() for item in section.value).strip()
                yield f"Returns: {described}" if described else ""
            case griffe.DocstringSectionAdmonition():
                yield f"{section.title}: {section.value.description.strip()}"
            case _:
                pass
