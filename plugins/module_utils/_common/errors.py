# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one error type that reaches an operator, and the next step after an error of the operating system."""

from __future__ import annotations

import contextlib
import errno
from typing import Iterator, List, Optional

from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import LAYOUT, escaped

_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free space on its file system, or raise the quota"),
    errno.ENOENT: "check the path: it does not exist",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "check owner and mode, and whether the file system is read-only; run Ansible with become if it needs root",
    ),
}


class PhaseGateError(Exception):
    """An error that stops the run: what was expected, what was found, and what to do next.

    ``what`` is one sentence. ``expected``, ``found`` and ``next_step`` are optional short texts.
    ``str()`` gives the whole message, ready for ``fail_json(msg=...)``, with unsafe characters escaped.
    """

    def __init__(self, what: str, *, expected: str = "", found: str = "", next_step: str = "") -> None:
        self.what = what
        self.expected = expected
        self.found = found
        self.next_step = next_step
        super().__init__(self.message())

    def message(self) -> str:
        """Return the sentence and, one per line, the parts that are set."""
        parts = [self.what]
        for label, text in (("expected", self.expected), ("found", self.found), ("next step", self.next_step)):
            if text:
                # no line of a text from elsewhere may look like one of the message's own
                parts.append(f"  {label}: {text}".replace("\n", "\n    "))
        return escaped("\n".join(parts), keep=LAYOUT)


class Stopped(PhaseGateError):
    """The migration must not continue; raised before COMMIT, so nothing persists."""


@contextlib.contextmanager
def noted(problems: Optional[List[PhaseGateError]]) -> Iterator[None]:
    """Add what stops the block to ``problems`` and go on after it; with None, let it be raised."""
    try:
        yield
    except PhaseGateError as error:
        if problems is None:
            raise
        problems.append(error)


def raise_noted(problems: Optional[List[PhaseGateError]]) -> None:
    """Raise what ``noted`` noted as one error, if there is anything."""
    if not problems:
        return
    if len(problems) == 1:
        raise problems[0]
    numbered = list(enumerate(problems, start=1))
    raise Stopped(
        f"Stopped for {len(problems)} reasons: " + " ".join(f"{n}. {one.what}" for n, one in numbered),
        expected="; ".join(f"{n}. {one.expected}" for n, one in numbered if one.expected),
        found="; ".join(f"{n}. {one.found}" for n, one in numbered if one.found),
        next_step="; ".join(f"{n}. {one.next_step}" for n, one in numbered if one.next_step),
    )


def advice(error: OSError) -> str:
    """Return what an operator can do about a file that cannot be read or written, by the error's errno."""
    return _ADVICE.get(error.errno or 0, "resolve the error that the operating system reports")
