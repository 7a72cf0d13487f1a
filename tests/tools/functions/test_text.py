import unicodedata

from tools.functions.text import LetterCount, WordCount, text_statistics


def test_a_text_is_counted() -> None:
    statistics = text_statistics("The quick brown fox. Isn't the fox quick?")
    assert statistics.characters == 41
    assert statistics.characters_without_spaces == 34
    assert (statistics.words, statistics.unique_words, statistics.sentences) == (8, 5, 2)
    assert statistics.average_word_length == 4.0
    assert statistics.longest_word == "quick"
    assert statistics.most_common_words[:3] == [WordCount("fox", 2), WordCount("quick", 2), WordCount("the", 2)]
    assert statistics.letter_counts[0] == LetterCount("i", 3)


def test_an_empty_text_has_nothing_to_count() -> None:
    for text in ("", " \n\t", "…!?"):
        statistics = text_statistics(text)
        assert (statistics.words, statistics.sentences, statistics.longest_word) == (0, 0, "")
        assert statistics.letter_counts == []


def test_letters_of_every_script_count_and_an_accent_is_no_letter_of_its_own() -> None:
    for form in ("NFC", "NFD"):
        statistics = text_statistics(unicodedata.normalize(form, "Élan café. नमस्ते दुनिया। Ёж"))
        assert statistics.words == 5
        assert statistics.letter_counts[0].count == 2
        assert LetterCount("é", 2) in statistics.letter_counts
        assert LetterCount("ё", 1) in statistics.letter_counts


def test_a_decimal_point_does_not_end_a_sentence() -> None:
    assert text_statistics("Pi is 3.14 or so. Really?!").sentences == 2
    assert text_statistics("これはペンです。本当?").sentences == 2


def test_equal_counts_always_come_in_the_same_order() -> None:
    assert text_statistics("b a c").letter_counts == text_statistics("c b a").letter_counts
