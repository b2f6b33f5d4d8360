"""Names are found by how their words begin, whatever their order, accents and punctuation."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.loose_names import STEM, beginnings, loose_questions
from gantry_domain.names import fold

FOUND = [
    ("tai man chan", "CHAN^TAI MAN"),
    ("chan, tai-man", "CHAN^TAI MAN"),
    ("chan taiman", "CHAN^TAI MAN"),
    ("TAI MAN CHAN", "Chan^Taiman"),
    ("chan tai man", "Chantaiman"),
    ("c t", "CHAN^TAI MAN"),
    ("chan*", "CHAN^TAI MAN"),
    ("*tai*", "CHAN^TAI MAN"),
    ("muller", "Müller^Jörg"),
    ("Müller Jorg", "MULLER^JORG"),
    ("O'Brien", "OBRIEN^Pat"),
    ("obrien", "O\u2019Brien^Pat"),
    ("o brien", "O'Brien^Pat"),
    ("jones", "Smith-Jones^Anne"),
    ("smithjones", "Smith-Jones^Anne"),
    ("lodz", "Łódź^Ewa"),
    ("strasse", "STRAßE^A"),
    ("陳大文", "CHAN^TAI MAN=陳^大文"),
    ("大文", "CHAN^TAI MAN=陳^大文"),
    ("chan 大文", "CHAN^TAI MAN=陳^大文"),
    ("ヤマダ", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("\uff94\uff8f\uff80\uff9e", "=山田=やまだ"),  # katakana of half width
    ("ΔΙΟΝΥΣΊΟΥ", "Διονυσίου^Α"),
    ("홍길동", "Hong^Gildong=洪^吉洞=홍^길동"),
    ("papadopoulos", "Papadopoulou^Maria"),  # the first letters count
    ("mary smith", "Smith^Mary\\Jones^Mary"),
]
NOT_FOUND = [
    ("han", "CHAN^TAI MAN"),
    ("chan ho", "CHAN^TAI MAN"),
    ("man tai", "CHAN^TAIMAN"),
    ("小东", "WANG^XIAO=王^小東"),  # the same name in other characters
    ("meyer", "Maier^Anna"),  # or the same sound
    ("か", "が"),
]


def found(question: str, name: str) -> bool:
    return any(words <= beginnings(name) for words in loose_questions(question))


@pytest.mark.parametrize(("question", "name"), FOUND)
def test_what_is_found(question: str, name: str) -> None:
    assert found(question, name)


@pytest.mark.parametrize(("question", "name"), NOT_FOUND)
def test_what_is_not(question: str, name: str) -> None:
    assert not found(question, name)


def test_a_question_without_letters_asks_for_nothing() -> None:
    assert loose_questions("^^ %* ?x") == ()
    assert beginnings("^^") == set()


def test_many_words_are_few_questions() -> None:
    assert len(loose_questions("a b c d e")) == 16
    assert len(loose_questions(" ".join("abcdefghij"))) == 2


@given(st.text(max_size=40))
def test_folding_changes_no_beginning(name: str) -> None:
    assert beginnings(name) == beginnings(fold(name))


@given(st.text(max_size=40))
def test_composition_and_case_change_no_question(name: str) -> None:
    asked = loose_questions(name)
    assert loose_questions(unicodedata.normalize("NFD", name)) == asked
    assert all(len(word) <= STEM for words in asked for word in words)


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=1), min_size=1, max_size=4))
def test_a_name_finds_itself_in_any_order(words: list[str]) -> None:
    assert found(" ".join(reversed(words)), "^".join(words))
