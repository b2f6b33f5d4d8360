"""Person names as they are found loosely: by how words begin, in any order (PS3.4 C.2.2.2.1.1).

Each word of the question has to begin a word of the name, in any component group; neither case nor
accents, punctuation or the order of words count. Words may be written as one where the other side
divides them: `chan taiman` and `chan tai man` find each other. Of a word the first `STEM` letters
count. Katakana are as good as hiragana. Nothing is compared by sound, for each language would need
rules of its own, and the names of one archive are of many.

A name is found through its `beginnings`: from the start of each word on, the first letters of its
component group, run together. `Tai-Man O'Brien` has those of `taimanobrien`, `manobrien` and
`obrien`, up to `STEM` letters each.
"""

import re
import unicodedata
from collections.abc import Iterator

from gantry_domain.names import GROUP_SEPARATOR, VALUE_SEPARATOR

STEM = 8

_MOST_WORDS = 5
"""Of so many words those that follow each other are joined in every way: at most 16."""

# Letters that Unicode does not take apart, and apostrophes, which divide no word.
_ALIKE = str.maketrans(
    {
        **{"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i"},
        **{"þ": "th", "æ": "ae", "œ": "oe"},
        **dict.fromkeys("'`\u2018\u2019\u02bc\uff07", ""),
        **{chr(katakana): chr(katakana - 0x60) for katakana in range(0x30A1, 0x30F7)},
    }
)
_ACCENTS = re.compile("[\u0300-\u036f]+")
_KEPT = "LMN"  # categories of Unicode: letters, marks of the scripts that need them, numbers


def beginnings(name: str) -> set[str]:
    """By what a name is found loosely: of all values and component groups."""
    groups = re.split(f"[{GROUP_SEPARATOR}{re.escape(VALUE_SEPARATOR)}]", name)
    runs = (run for group in groups for run in _runs(_words(group)))
    return {run[:length] for run in runs for length in range(1, len(run) + 1)}


def loose_questions(value: str) -> tuple[frozenset[str], ...]:
    """What one value of a question asks for: a name passes if all of one set are its beginnings.

    `*` ends a word as blanks do, and a word with `?` counts up to it. Empty: there is no letter in
    it.
    """
    pieces = re.sub(r"\?[^\s*^=]*", " ", value).replace("*", " ")
    words = _words(pieces)
    if not words:
        return ()
    return tuple(dict.fromkeys(frozenset(w[:STEM] for w in joined) for joined in _joined(words)))


def _words(text: str) -> list[str]:
    """Its words, in the letters that are compared."""
    apart = unicodedata.normalize("NFKD", text.translate(_ALIKE)).casefold()
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", apart))
    plain = unicodedata.normalize("NFC", bare).translate(_ALIKE)
    return "".join(c if unicodedata.category(c)[0] in _KEPT else " " for c in plain).split()


def _runs(words: list[str]) -> Iterator[str]:
    """From each word on, the letters of the whole group that count."""
    for start in range(len(words)):
        # A word has a letter at least.
        yield "".join(words[start : start + STEM])[:STEM]


def _joined(words: list[str]) -> Iterator[list[str]]:
    """The words as they are, and written as one where they follow each other."""
    if len(words) > _MOST_WORDS:
        yield words
        yield ["".join(words)]
        return
    gaps = len(words) - 1
    for choice in range(1 << gaps):
        joined = words[:1]
        for gap in range(gaps):
            if choice & (1 << gap):
                joined[-1] += words[gap + 1]
            else:
                joined.append(words[gap + 1])
        yield joined
