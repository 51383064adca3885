# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables in the commands that a person copies: Ansible reads the very value, whatever it contains. Pure."""

from __future__ import annotations

import json
import re
import shlex
from typing import List, Optional

# What Ansible's key=value form leaves as it is: it splits at blanks, drops quotes and backslashes, and expands templates.
_PLAIN = re.compile(r"[A-Za-z0-9_./~:@%+,-]*")

_TEMPLATE = re.compile(r"\{[{%#]")

# A word of a shell behind -e; each part of it begins in another way, so it is read in one pass.
_WORD = re.compile(r"-e ((?:'[^']*'|\"[^\"]*\"|\\.|[^\s'\"\\])+)")


def extra_var(name: str, value: str) -> List[str]:
    """Return the words that give ansible-playbook a variable with a text as its value, not quoted for a shell."""
    if _PLAIN.fullmatch(value):
        return ["-e", f"{name}={value}"]
    tag = "!unsafe " if _TEMPLATE.search(value) else ""
    return ["-e", f"{{{json.dumps(name)}: {tag}{json.dumps(value, ensure_ascii=False)}}}"]


def quoted_extra_var(name: str, value: str) -> str:
    """Return the words of ``extra_var`` as they are typed in a shell."""
    return shlex.join(extra_var(name, value))


def rehearse_command(phase_file: str, *, draft: bool = False) -> str:
    """Return the command that rehearses a phase, or writes what a draft of it shows; HOST and NAME are the author's to fill in."""
    phase = quoted_extra_var("phasegate_phase_file", phase_file)
    rest = f"{phase} -e phasegate_draft=true -e phasegate_write=true" if draft else f"-e phasegate_author=NAME {phase}"
    return f"ansible-playbook incomex.phasegate.rehearse -l HOST {rest}"


def values_in(text: str, name: str) -> List[str]:
    """Return the values that commands in a text give a variable in a form of ``extra_var``, in order."""
    found = (_value(match[1], name) for match in _WORD.finditer(text))
    return [value for value in found if value is not None]


def _value(word: str, name: str) -> Optional[str]:
    try:
        (text,) = shlex.split(word)
    except ValueError:
        return None
    if text.startswith(f"{name}="):
        return text[len(name) + 1 :]
    head = f"{{{json.dumps(name)}: "
    if not text.startswith(head):
        return None
    try:
        value = json.loads(re.sub(r"^!unsafe ", "", text[len(head) : -1]))
    except ValueError:
        return None
    return value if isinstance(value, str) else None
