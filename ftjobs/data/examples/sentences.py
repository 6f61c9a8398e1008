# ruff: noqa: RUF001 (marks of other scripts)
"""Splitting a text into sentences by rules: no model, no language to set, the same everywhere.

A sentence ends at a full stop, question or exclamation mark (with the quotes and brackets that close behind it) that is
followed by white space and something that begins a sentence; at the marks that Chinese and Japanese end sentences with;
and at the end of a paragraph. A full stop behind an abbreviation, an initial or a number in a list ends none. These are
the rules of thumb that every sentence splitter begins with (Kiss & Strunk 2006, section 2, reviews them); what they
get wrong is a sentence too long or cut in two, which pretraining stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_PARAGRAPH = re.compile(r"\n\s*\n|\r\n\s*\r\n")
_CLOSING = r"[\"'”’»)\]]*+"
#: What may end a sentence: the mark, what closes behind it, and the white space in between.
_END = re.compile(rf"(?<![.!?…])(?P<mark>[.!?…]++){_CLOSING}\s+|[。！？｡]+[」』”’）]*\s*")
_OPENING = "\"'“‘«([¿¡-–—•*"
#: What a word may begin behind, and how far back one is looked for: abbreviations are short.
_BEFORE_WORD = re.compile(r"[\s(\[\"“‘]")
_FAR = 12
#: Words that a full stop belongs to: those that a sentence may also end with, those before a number, all others.
_ALSO_LAST = frozenset(("inc", "ltd", "co", "corp", "etc", "a.m", "p.m", "u.s", "u.k", "u.n", "al"))
_BEFORE_NUMBERS = frozenset(
    {"fig", "figs", "eq", "eqs", "no", "nos", "vol", "vols", "p", "pp", "ch", "sec", "ref", "refs", "approx"}
    | {"jan", "feb", "mar", "apr", "jun", "jul", "aug", "sept", "sep", "oct", "nov", "dec"}
)
_NEVER_LAST = frozenset(
    {"dr", "mr", "mrs", "ms", "prof", "sr", "jr", "st", "gen", "col", "lt", "sgt", "capt", "rev", "hon", "gov", "sen"}
    | {"e.g", "i.e", "eg", "ie", "cf", "vs", "viz", "est", "dept", "univ"}
)


def sentences(text: str) -> list[str]:
    """The sentences of a text in their order, white space at their ends removed; none of them is empty.

    Joined by blanks they are the text again, except for white space.
    """
    return [sentence for paragraph in _PARAGRAPH.split(text) for sentence in _of_paragraph(paragraph)]


def _of_paragraph(text: str) -> Iterator[str]:
    start = 0
    for found in _END.finditer(text):
        if found["mark"] is not None and not _ends(text, start, found):
            continue
        if sentence := text[start : found.end()].strip():
            yield sentence
        start = found.end()
    if rest := text[start:].strip():
        yield rest


def _ends(text: str, start: int, found: re.Match[str]) -> bool:
    """Whether a sentence ends at a mark that white space follows."""
    following = text[found.end() : found.end() + 2].lstrip(_OPENING)[:1]
    begins = not following or not following.islower()
    if found["mark"] != "." or not begins:
        return begins
    first = max(start, found.start() - _FAR)
    word = _BEFORE_WORD.split(text[first : found.start()])[-1].casefold()
    if not word:
        return False
    if word in _ALSO_LAST:
        return following.isupper()
    if word in _NEVER_LAST or (word in _BEFORE_NUMBERS and following.isdigit()):
        return False
    alone = found.start() - len(word) == start and (word.isdigit() or len(word) == 1)
    is_initial = len(word) == 1 and word.isalpha() and word != "i"
    return not (alone or is_initial)  # "1. Wash your hands." is one sentence
