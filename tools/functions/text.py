"""Figures about a text."""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from tools.core.function import function

# A sentence ends at its mark: Western marks need a space after them (3.14 does not end one), CJK marks do not.
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]+")


@dataclass(frozen=True)
class WordCount:
    word: str
    count: int


@dataclass(frozen=True)
class LetterCount:
    letter: str
    count: int


@dataclass(frozen=True)
class TextStatistics:
    """Lengths count Unicode characters after composition, so that an é is one character however it was typed."""

    characters: int
    characters_without_spaces: int
    words: int
    unique_words: int
    sentences: int
    average_word_length: float
    longest_word: str
    most_common_words: list[WordCount]
    letter_counts: list[LetterCount]


@function(effect="read")
def text_statistics(text: str) -> TextStatistics:
    """Count the characters, words, sentences and letters of a text, in any language that separates words by spaces.

    Words and letters are compared without regard to case. The counts can be drawn with `draw_chart`.

    Args:
        text: The text to analyse, complete and unchanged.

    Returns:
        The ten most common words and the 26 most common letters, most frequent first, and the total figures.
    """
    text = unicodedata.normalize("NFC", text)
    words = _words(text)
    folded = Counter(word.casefold() for word in words)
    letters = Counter(c for c in text.lower() if unicodedata.category(c).startswith("L"))
    return TextStatistics(
        characters=len(text),
        characters_without_spaces=sum(not c.isspace() for c in text),
        words=len(words),
        unique_words=len(folded),
        sentences=_sentences(text) if words else 0,
        average_word_length=round(sum(map(len, words)) / len(words), 2) if words else 0.0,
        longest_word=max(words, key=len, default=""),
        most_common_words=[WordCount(word, count) for word, count in _ranked(folded)[:10]],
        letter_counts=[LetterCount(letter, count) for letter, count in _ranked(letters)[:26]],
    )


def _words(text: str) -> list[str]:
    """Runs of letters, marks and digits; an apostrophe or hyphen inside belongs to the word."""
    spaced = "".join(c if unicodedata.category(c)[0] in "LMN" or c in "'’-" else " " for c in text)
    return [word for run in spaced.split() if (word := run.strip("'’-"))]


def _sentences(text: str) -> int:
    return sum(1 for part in _SENTENCE_END.split(text) if part and _words(part))


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """Most frequent first; equal ones in alphabetical order, so that the same text always gives the same answer."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
