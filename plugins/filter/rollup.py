# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The results of all hosts of a play as one table."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollup
author: incomex.phasegate contributors (@incomex)
short_description: The results of all hosts of a play as one table
version_added: 0.1.0
description:
  - Returns one row for each host of a play, and the table as lines for a terminal, as Markdown, HTML, JSON and JUnit. The roles
    execute, rehearse and rollback show it at the end of a play over several hosts.
positional: _input
options:
  _input:
    description: The names of all hosts of the play, in order.
    type: list
    elements: str
    required: true
  hostvars:
    description: The variables of the hosts, by the host's name.
    type: dict
    required: true
  going:
    description: The hosts of the play that neither failed nor became unreachable.
    type: list
    elements: str
    required: true
  kind:
    description: What the runs are for.
    type: str
    choices: [execute, rollback, rehearsal]
    required: true
  phase:
    description: Name of the phase.
    type: str
    required: true
  play:
    description: Name of the play. The results of another one are not counted.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Show the results of all hosts
  ansible.builtin.debug:
    msg: "{{ (ansible_play_hosts_all | incomex.phasegate.rollup(hostvars, ansible_play_hosts, 'execute', 'alpha')).lines }}"
"""

RETURN = r"""
_value:
  description:
    - A dictionary. C(rows) has for each host C(host), C(database), C(outcome), C(reason), C(seconds), C(bundle) and
      C(warnings), what nobody vouched for, which the table shows behind the outcome; C(lines),
      C(markdown), C(html), C(json) and C(junit) are the table in its forms.
    - C(ended) tells whether no host is left that will still begin.
  type: dict
"""

import json
from collections import Counter
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import VERIFICATION
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import Ending, qualified, verdict_of
from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import Code, Document, Inline, Table
from ansible_collections.incomex.phasegate.plugins.module_utils._common.html import render_page
from ansible_collections.incomex.phasegate.plugins.module_utils._common.junit import JUnit
from ansible_collections.incomex.phasegate.plugins.module_utils._common.markdown import render_markdown
from ansible_collections.incomex.phasegate.plugins.module_utils._common.states import RunOutcome
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._report.report_document import outcome_badge

#: The fact of a host that has its results, by the key of ``rollup_key``.
FACT = "__execute_rollup_results"

COLUMNS = ("host", "database", "outcome", "reason", "seconds", "bundle")

#: A host that the play did not reach.
NOT_STARTED = "NOT_STARTED"
#: A host that failed or was unreachable without a result of the role.
NO_RESULT = "NO_RESULT"

_LONGEST_REASON = 100


def rollup_key(play: str, kind: str, phase: str) -> str:
    """Return the key of a host's result: one host may have several in one playbook."""
    return f"{kind} {phase} {play}"


def rollup(
    hosts: Sequence[str], hostvars: Mapping[str, Any], going: Sequence[str], kind: str, phase: str, play: str = ""
) -> dict[str, Any]:
    """Return the rows, the table in its forms, and whether it is final. See RETURN."""
    key = rollup_key(play, kind, phase)
    rows = [_row(host, hostvars[host], key, failed=host not in going) for host in hosts]
    about = {"run": kind, "phase": escaped(phase), "hosts": rows}
    waiting = any(row["outcome"] == NOT_STARTED for row in rows)
    document = _document(f"{kind} {phase}", rows)
    return {
        "rows": rows,
        "lines": _lines(rows),
        "markdown": render_markdown(document),
        "html": render_page(document),
        "junit": _junit(f"{kind} {about['phase']}", rows),
        "json": json.dumps(about, ensure_ascii=False, indent=2) + "\n",
        "ended": not waiting or len(going) < len(hosts),
    }


def _row(host: str, variables: Mapping[str, Any], key: str, *, failed: bool) -> dict[str, Any]:
    """Return the row of one host, every text in one line."""
    record = (variables.get(FACT) or {}).get(key)
    if record is None:
        outcome, reason = NOT_STARTED, ""
        if failed:
            outcome, reason = NO_RESULT, "unreachable, or failed outside the role; its message is above"
        result: Mapping[str, Any] = {}
    else:
        result = next((one for one in record["results"] if one and ("outcome" in one or "msg" in one)), {})
        outcome, reason = _ended(record, result, failed=failed)
    # as text: the templating engine's own strings are no plain ones
    texts = {
        "host": host,
        "database": record["database"] if record else variables.get("phasegate_database", ""),
        "outcome": outcome,
        "reason": reason,
        "bundle": result.get("run_directory") or "",
    }
    row: dict[str, Any] = {name: escaped(str(value)) for name, value in texts.items()}
    seconds = result.get("seconds")
    cells = {
        name: (None if seconds is None else float(seconds)) if name == "seconds" else row[name] for name in COLUMNS
    }
    return {**cells, "warnings": [escaped(str(one)) for one in result.get("remarks") or ()]}


def _ended(record: Mapping[str, Any], result: Mapping[str, Any], *, failed: bool) -> tuple[str, str]:
    """Return how a run ended, and why in one line."""
    outcome = result.get("outcome") or ""
    if not failed and not record["failed"]:
        note = verdict_of(VERIFICATION, Ending.SUCCESS).sentence if record["applied"] else ""
        return outcome or RunOutcome.CHECKED.value, note
    message = str(result.get("msg") or record["message"] or "failed after the run; its message is above")
    reason = next((line.strip() for line in message.split("\n") if line.strip()), "")
    if outcome == RunOutcome.SUCCESS.value or "outcome" not in result:
        # what followed the run failed, or the run could not be sealed
        return RunOutcome.FAILED.value, reason
    return outcome or RunOutcome.STOPPED.value, reason


def _shown(row: Mapping[str, Any]) -> list[str]:
    """Return the cells of a row for a terminal."""
    reason = row["reason"]
    short = reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 1] + "…"
    return [short if name == "reason" else _cell(row, name) for name in COLUMNS]


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if name == "outcome":
        return qualified(value, row["warnings"])
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else value


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [list(COLUMNS), *(_shown(row) for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(COLUMNS))]
    return [
        "  ".join(
            text.rjust(width) if name == "seconds" else text.ljust(width)
            for name, text, width in zip(COLUMNS, row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def _document(title: str, rows: Sequence[Mapping[str, Any]]) -> Document:
    counted = Counter(_cell(row, "outcome") for row in rows)
    named = ("host", "database", "bundle")

    def shown(row: Mapping[str, Any], name: str) -> Inline:
        if name == "outcome":
            return outcome_badge(row[name], row["warnings"])
        return Code(row[name]) if name in named and row[name] else _cell(row, name)

    cells = tuple(tuple(shown(row, name) for name in COLUMNS) for row in rows)
    lead = f"{len(rows)} hosts: " + ", ".join(f"{number} {outcome}" for outcome, number in counted.items())
    return Document("", title, lead, "", [Table(COLUMNS, cells, (COLUMNS.index("seconds"),))])


def _junit(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    suite = JUnit(f"phasegate {title}")
    for row in rows:
        outcome, reason = row["outcome"], row["reason"]
        if outcome in (RunOutcome.SUCCESS.value, RunOutcome.DRAFTED.value, RunOutcome.CHECKED.value):
            suite.passed(row["host"], "\n".join(part for part in (_cell(row, "outcome"), row["bundle"]) if part))
        elif outcome == NOT_STARTED:
            suite.skipped(row["host"], outcome)
        elif outcome == NO_RESULT:
            suite.error(row["host"], outcome, reason)
        else:
            suite.failed(row["host"], outcome, reason, kind="outcome", output=row["bundle"])
    return suite.document({})


class FilterModule:
    """The filter ``incomex.phasegate.rollup``."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"rollup": rollup}
