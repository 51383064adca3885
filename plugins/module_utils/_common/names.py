# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names that look alike: one canonical form, the scripts of a name, and what it could be mistaken for.

A small part of Unicode Technical Standard 39, with what the standard library has.
"""

from __future__ import annotations

import re
import unicodedata
from typing import FrozenSet, List, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import count_unsafe

# Letters of other scripts that look like Latin ones in most typefaces, after case folding.
_LIKE_LATIN = str.maketrans(
    dict(
        zip(
            "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0455\u0456\u0458"
            "\u04bb\u0501\u051b\u051d\u0475\u04cf\u04af\u0433\u043f\u0437"
            "\u03b1\u03b2\u03b3\u03b5\u03b7\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7\u03c9\u03bc"
            "\u0570\u0578\u057d\u0585\u0566\u0581\u0131\u0269\u0251\u0261",
            "abekmhopctyxsijhdqwvlyrn3abyenikvoptuxwuhnuoqgiiag",
        )
    )
)

# Characters and pairs that one cannot tell apart in most typefaces.
_LOOK = (("rn", "m"), ("vv", "w"), ("0", "o"), ("1", "l"), ("|", "l"))

_WORD = re.compile(r"\w+")


def canonical_name(name: str) -> str:
    """Return the form in which two spellings of one name are equal: no blanks around it, NFKC, no difference of case."""
    folded = unicodedata.normalize("NFKC", name).strip().casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def skeleton(name: str) -> str:
    """Return a form in which names that look alike are equal; it serves only to compare two of them."""
    latin = canonical_name(name).translate(_LIKE_LATIN)
    marks = (c for c in unicodedata.normalize("NFKD", latin) if unicodedata.category(c) not in ("Mn", "Me", "Cf", "Cc"))
    text = "".join(marks).translate(_LIKE_LATIN)
    for one, other in _LOOK:
        text = text.replace(one, other)
    return text


def scripts(name: str) -> FrozenSet[str]:
    """Return the scripts of the letters in a name, as Unicode names them: LATIN, CYRILLIC, GREEK, CJK."""
    return frozenset(
        # HALFWIDTH and MATHEMATICAL letters are not written in names: NFKC makes plain ones of them
        unicodedata.name(character, "UNKNOWN").split(" ")[0].split("-")[0]
        for character in unicodedata.normalize("NFKC", name)
        if character.isalpha() and unicodedata.category(character) != "Lm"
    )


# Scripts that are written together in one word.
_TOGETHER = (frozenset({"LATIN"}), frozenset({"CJK", "HIRAGANA", "KATAKANA"}), frozenset({"CJK", "HANGUL"}))


def mixed_scripts(name: str) -> Tuple[str, ...]:
    """Return the scripts of a word that are not written together, sorted; nothing for a word of one script."""
    found = scripts(name)
    return () if len(found) <= 1 or any(found <= one for one in _TOGETHER) else tuple(sorted(found))


def name_problem(name: str) -> str:
    """Return why a name of a person cannot be used, '' when it can."""
    if count_unsafe(name) or "\n" in name or "\t" in name:
        return "contains an invisible or control character"
    for word in _WORD.findall(name):
        mixed = mixed_scripts(word)
        if mixed:
            return f"the word {word} has letters of different scripts: {', '.join(mixed)}"
    return ""


def suspicious_words(text: str) -> List[Tuple[str, str]]:
    """Return the words of a text that could be taken for others, each once, with the reason.

    These are words with letters of several scripts, words of another script whose letters all look like Latin ones, and
    words that differ from one of the text's other words only in letters that look alike.
    """
    words = sorted({word for word in _WORD.findall(text) if not word.isascii()})
    plain = {skeleton(word): word for word in sorted(set(_WORD.findall(text))) if word.isascii()} if words else {}
    found = []
    for word in words:
        mixed = mixed_scripts(word)
        alike = skeleton(word)
        if mixed:
            found.append((word, f"letters of different scripts ({', '.join(mixed)})"))
        elif alike in plain and scripts(word) != {"LATIN"}:
            found.append((word, f"looks like {plain[alike]}, but is another name"))
        elif alike.isascii() and scripts(word) and scripts(word) != {"LATIN"}:
            found.append((word, f"looks like {alike}, but is written in {', '.join(sorted(scripts(word)))}"))
        elif unicodedata.normalize("NFKC", word) != word:
            found.append((word, f"not in Unicode's normal form: looks like {unicodedata.normalize('NFKC', word)}"))
    return found
