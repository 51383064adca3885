# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runs of several hosts as a document."""

from __future__ import annotations

from typing import Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Block,
    Code,
    Document,
    Heading,
    Inline,
    Notice,
    Paragraph,
    Table,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._report.report_document import outcome_badge
from ansible_collections.incomex.phasegate.plugins.module_utils._report.run_list import (
    HEAD,
    ListedRun,
    in_place,
    need_attention,
    row_of,
)

_NAMES = ("phase", "database", "directory")


def runs_document(hosts: Mapping[str, Sequence[ListedRun] | None], at: str) -> Document:
    """Return the document of the runs by host, as of the time ``at``; None for a host that gave no answer."""
    blocks: list[Block] = []
    attention = 0
    for host, runs in hosts.items():
        blocks.append(Heading(2, host))
        if not runs:
            blocks.append(
                Paragraph(("No answer; its message is in the output of the play." if runs is None else "No run.",))
            )
            attention += runs is None
            continue
        waiting = need_attention(runs)
        attention += len(waiting)
        if waiting:
            blocks.append(Notice("bad", "Look at", tuple((line,) for line in waiting)))
        found = in_place(runs)
        blocks.append(Notice("good" if found else "plain", "In place", tuple((line,) for line in found or ["nothing"])))
        blocks.append(Table(HEAD, tuple(_cells(one) for one in reversed(runs))))
    count = sum(len(runs or ()) for runs in hosts.values())
    lead = f"{count} runs on {len(hosts)} hosts, by their journals at {at[:19]}Z; {attention or 'nothing'} to look at."
    return Document("status", "Runs", lead, "", blocks)


def _cells(one: ListedRun) -> tuple[Inline, ...]:
    return tuple(_cell(one, name, text) for name, text in zip(HEAD, row_of(one)))


def _cell(one: ListedRun, name: str, text: str) -> Inline:
    if name == "outcome" and text:
        return outcome_badge(one.outcome or text, one.warnings)
    return Code(text) if name in _NAMES and text else text
