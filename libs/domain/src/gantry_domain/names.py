"""Person names as they are searched: folded text, component groups and grams (PS3.4 C.2.2.2.1).

The searchable column of an attribute that matches as a NAME holds `fold(value)`; the grams of a
name narrow a search to candidates, whose folded text is then compared.
"""

import unicodedata

GROUP_SEPARATOR = "="  # between alphabetic, ideographic and phonetic groups (PS3.5 6.2.1)
VALUE_SEPARATOR = "\\"


def fold(name: str) -> str:
    """The name without what matching must not see: case, composition, padding.

    Component groups and values keep their separators; each loses blanks around it and trailing
    `^`, which say nothing (PS3.5 6.2.1.1). Folding twice changes nothing more.
    """
    return VALUE_SEPARATOR.join(
        GROUP_SEPARATOR.join(map(_fold_group, value.split(GROUP_SEPARATOR))).rstrip(GROUP_SEPARATOR)
        for value in name.split(VALUE_SEPARATOR)
    )


def _fold_group(group: str) -> str:
    # Once more over the fold, for folding may leave what composes anew (Unicode 3.13, D145).
    folded = unicodedata.normalize("NFC", group)
    for _ in range(2):
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", folded).casefold())
    return folded.strip().rstrip("^ ")


def component_groups(name: str) -> list[str]:
    """The folded component groups of all values that are not empty."""
    values = fold(name).split(VALUE_SEPARATOR)
    return [group for value in values for group in value.split(GROUP_SEPARATOR) if group]


def grams(name: str) -> set[str]:
    """The 1- and 2-grams of all component groups, folded; none reaches across two groups."""
    return {
        group[start : start + length]
        for group in component_groups(name)
        for length in (1, 2)
        for start in range(len(group) - length + 1)
    }
