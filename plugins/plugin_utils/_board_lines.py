# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the callback ``board`` shows, as data, and its two forms: text and JSON lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import Progress
from ansible_collections.incomex.phasegate.plugins.module_utils._common.clock import utc_now
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import LAYOUT, escaped

TEXT = "text"
JSON = "json"

RUNNING = "RUNNING"
WAITING = "WAITING"
DONE = "DONE"
CHECKED = "CHECKED"
FAILED = "FAILED"
WARNING = "WARNING"

# The characters of a bar.
_BAR = 20


@dataclass(frozen=True)
class Shown:
    """One thing that is shown.

    ``event`` is what it is about: play, command, gate, failure, warning, message, ended. ``name`` is a command's or gate's id, else a task's
    name. ``seconds`` is how long a command took, or has been running. ``lines`` follow below; ``more`` is for programs alone.
    """

    event: str
    host: str = ""
    name: str = ""
    state: str = ""
    seconds: float | None = None
    text: str = ""
    lines: Sequence[str] = ()
    more: Mapping[str, Any] | None = None

    def as_text(self) -> str:
        """Return the lines for people; no character in them steers a terminal."""
        seconds = "" if self.seconds is None else f"{self.seconds:.1f} s"
        if self.event in ("command", "gate"):
            head = f"{self.host}  {self.name:<13} {self.state:<12} {seconds:>9}  {self.text}"
        else:
            about = "ended:" if self.event == "ended" else ""
            head = "  ".join(part for part in (about, self.host, self.state, self.name, self.text) if part)
        below = [f"  {part}" for line in self.lines for part in escaped(line, keep=LAYOUT).split("\n")]
        return "\n".join(line.rstrip() for line in (escaped(head), *below))

    def as_json(self) -> str:
        """Return one line of JSON in ASCII; what is empty is left out."""
        known = {
            "at": utc_now(),
            "event": self.event,
            "host": self.host,
            "name": self.name,
            "state": self.state,
            "seconds": self.seconds if self.seconds is None else round(self.seconds, 3),
            "text": self.text,
            "lines": list(self.lines),
            **(self.more or {}),
        }
        return json.dumps({key: value for key, value in known.items() if value not in (None, "", [])}, default=str)


def progress_text(known: Progress) -> str:
    """Return how far a command is, with a bar where there is a total."""
    about = known.what
    if known.unit == "bytes":
        about = f"{known.done / 1e6:.1f} MB {known.what}" + (
            f" of an estimated {known.total / 1e6:.1f} MB" if known.total else ""
        )
    elif known.total:
        about = f"{known.what}: {known.done} of {known.total} {known.unit}"
    if known.total <= 0:
        return about
    full = min(_BAR, max(0, _BAR * known.done // known.total))
    return f"[{'#' * full}{'.' * (_BAR - full)}] {about}"


def lock_text(data: Mapping[str, Any]) -> str:
    """Return what a run waits for and who is in its way, from an entry of the journal."""
    holders = [
        f"pid {one['pid']}, role {one['role']}, application {one['application'] or 'unnamed'}, transaction since {one['since'] or '?'}"
        if one["pid"]
        else "a prepared transaction"
        for one in data["holders"]
    ]
    return f"waits for {data['mode']} on {data['what']}, held or asked for by {'; '.join(holders)}"


def closing(sealed: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return the lines with the next commands after a run, and what a program reads of its end, from the result of its seal."""
    commands = [one for one in sealed.get("next_commands") or () if isinstance(one, Mapping)]
    lines = [f"{'next':<14}{one.get('title')}: {one.get('command')}" for one in commands]
    known = {key: sealed[key] for key in ("outcome", "remarks", "run_directory", "report", "seal") if sealed.get(key)}
    return lines, {**known, **({"next_commands": commands} if commands else {})}
