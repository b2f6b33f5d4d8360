"""The character set of an HL7 message: what MSH-18 names (HL7 Table 0211), as that of a data set.

So the way from bytes to text is the same as for images, with all that devices do wrong there too.
"""

from gantry_domain.charset import CHARSET_UNKNOWN, Charset, charset_of

# HL7 Table 0211 -> number of the set's registration (PS3.3 C.12.1.1.2).
_REGISTERED = {
    "8859/1": "100", "8859/2": "101", "8859/3": "109", "8859/4": "110", "8859/5": "144",
    "8859/6": "127", "8859/7": "126", "8859/8": "138", "8859/9": "148", "8859/15": "203",
    "ISO IR14": "13", "ISO IR87": "87", "ISO IR159": "159", "KS X 1001": "149",
    "JAS2020": "87", "JIS X 0202": "87",
}  # fmt: skip
_ALONE = {
    "UNICODE": "ISO_IR 192", "UNICODE UTF-8": "ISO_IR 192", "UTF-8": "ISO_IR 192",
    "UTF8": "ISO_IR 192", "GB 18030-2000": "GB18030", "GB18030-2000": "GB18030",
    "GB 18030": "GB18030", "GB18030": "GB18030", "GBK": "GBK", "GB2312": "GB2312",
    "BIG-5": "BIG5", "BIG5": "BIG5",
}  # fmt: skip
_NOTHING = frozenset(("", "ASCII", "ISO IR6"))
# Only reached by escape sequences: a text begins in ASCII.
_EXTENSIONS = frozenset(("87", "159"))
# No bytes of theirs can be told from those that frame a message.
WIDE = frozenset(("UNICODE UTF-16", "UNICODE UTF-32", "UTF-16", "UTF-32"))


def character_set(named: list[str], default: str | None = None) -> tuple[Charset, str | None]:
    """The set that the repetitions of MSH-18 name, and what is odd about them.

    `default`: terms as in (0008,0005), for messages that name none or an unknown one.
    """
    terms: list[str] = []
    for name in (each.strip().upper() for each in named):
        if name in _ALONE:
            return charset_of(_ALONE[name].encode(), default), None
        number = _REGISTERED.get(name)
        if number is not None:
            if not terms and number in _EXTENSIONS:
                terms.append("")
            terms.append(f"ISO 2022 IR {number}")
        elif name in _NOTHING:
            terms.append("")
        else:
            found = charset_of(name.encode("ascii", "replace"), default)
            return found, CHARSET_UNKNOWN if found.finding == CHARSET_UNKNOWN else None
    return charset_of("\\".join(terms).encode(), default), None
