# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of the report that put what was declared or rehearsed beside what was found. Pure; private.

A value that is None is not known.
"""

from __future__ import annotations

import datetime
import json
from typing import Any, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.batch_events import BatchBegun
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import (
    DONE,
    FAILED,
    REHEARSAL,
    BackupMade,
    ClusterChecked,
    CommitSent,
    CopyRestored,
    DataRecorded,
    RunOpened,
    SchemaRecorded,
    SqlFrozen,
    StatementDone,
    StepEnd,
    TransactionBegun,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.journal import Entry
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import Ending
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.run_facts import (
    committed_batches,
    newest_end,
    records_of,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.data_kinds import ANY, change_extent, counts_of
from ansible_collections.incomex.phasegate.plugins.module_utils._report.vocabulary import COMMANDS

Row = Mapping[str, Any]


def seconds_between(start: str, end: str) -> float:
    """Return the seconds between two times of the journal."""
    first, last = (datetime.datetime.fromisoformat(at.replace("Z", "+00:00")) for at in (start, end))
    return round((last - first).total_seconds(), 3)


def command_rows(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return one row per command with its first intent, its last outcome, the seconds between them, and its result."""
    rows = []
    for name, title in COMMANDS.items():
        own = [entry for entry in entries if entry.step == name]
        if not own and name[0] == "R":
            continue
        ends = [entry for entry in own if entry.event in (DONE, FAILED)]
        rows.append(
            {
                "id": name,
                "title": title,
                "status": ends[-1].event if ends else ("unfinished" if own else "not run"),
                "started": own[0].at if own else "",
                "ended": ends[-1].at if ends else "",
                "seconds": seconds_between(own[0].at, ends[-1].at) if ends else None,
                "result": _result(name, entries) if ends else "",
            }
        )
    return rows


def _short(digest: str | None) -> str:
    return (digest or "")[:12]


def _result(name: str, entries: Sequence[Entry]) -> str:
    """Return what a command found or did, in a few words."""
    ends: dict[str, StepEnd] = {kind.step: newest_end(entries, kind) for kind in _KINDS}
    words: list[str] = []
    end = ends.get(name)
    if isinstance(end, BackupMade) and end.backup:
        words = [f"{end.backup['size']} bytes", f"{end.backup['toc_entries']} TOC entries"]
    elif name == "C-02":
        words = [
            f"SHA-256 {_short(entry.data.get('sha256'))}"
            for entry in entries
            if entry.step == name and entry.data.get("sha256")
        ][-1:]
    elif isinstance(end, SchemaRecorded) and end.fingerprint:
        words = [f"{end.objects} objects", f"fingerprint {_short(end.fingerprint)}"]
    elif isinstance(end, DataRecorded) and end.row_counts is not None:
        words = [f"{len(end.row_counts)} relations counted", f"{len(end.measures or {})} columns measured"]
    elif isinstance(end, SqlFrozen) and end.files:
        words = [f"{len(end.files)} files frozen"]
    elif isinstance(end, ClusterChecked) and end.cluster:
        words = [f"cluster {end.cluster.get('system_identifier', '')}"]
    elif isinstance(end, CopyRestored) and end.restore:
        words = ["restored and compared"]
    else:
        ended = [entry.data for entry in entries if entry.step == name and entry.event in (DONE, FAILED)][-1]
        transaction = ended.get("transaction") or {}
        words = [str(ended["outcome"])] if ended.get("outcome") else []
        words += [f"transaction {transaction['xid']}"] if transaction.get("xid") else []
        words += [f"{ended['summary']} checks passed"] if ended.get("summary") else []
    return ", ".join(words)


_KINDS = (BackupMade, SchemaRecorded, DataRecorded, SqlFrozen, ClusterChecked, CopyRestored)


def touched(start: RunOpened, entries: Sequence[Entry], ending: Ending, command: str) -> dict[str, bool | None]:
    """Return what the run did to the target: None where that is not known.

    ``connected``: something was read of it; ``transaction``: one that writes was begun; ``statements``: the phase's, or its
    rollback's, were sent; ``committed``: the change is there; ``rollback``: those were the rollback's.
    """
    began = start.kind != REHEARSAL and bool(records_of(entries, TransactionBegun, command))
    committed: bool | None = began and ending not in (Ending.ROLLED_BACK, Ending.STOPPED)
    return {
        "connected": bool(start.identity),
        "transaction": began,
        "statements": began,
        "committed": None if ending == Ending.UNKNOWN else committed,
        "rollback": command == "C-09" and began,
    }


def commit_time(entries: Sequence[Entry], command: str) -> str:
    """Return when COMMIT was sent the last time; '' when it was not."""
    sent = [entry.at for entry in entries if entry.step == command and entry.event == CommitSent.event]
    return sent[-1] if sent else ""


def statement_rows(
    part: Mapping[str, Any] | None,
    expected: Mapping[str, Any],
    entries: Sequence[Entry],
    command: str,
    transaction: Mapping[str, Any],
    sql: bytes,
) -> list[dict[str, Any]]:
    """Return every statement that ran, with its kinds and relations by the plan, the declared rows, and its text.

    ``part`` is the plan's ``ddl`` or ``rollback``; ``expected`` the declared counts by tag; ``sql`` the frozen file, empty where it
    is not at hand. Those after COMMIT come last, also one whose batches are not all done.
    """
    planned = {one["n"]: one for one in (part or {}).get("statements", ())}
    batches = {n: committed_batches(entries, command, n) for n, one in planned.items() if one.get("batch")}
    ran = {one["n"]: one for one in transaction.get("statements") or []}
    later = {
        one.n: {"n": one.n, "line": one.line, "tag": one.tag, "rows": one.rows, "milliseconds": one.milliseconds}
        for one in records_of(entries, StatementDone, command)
    }
    begun = {n: _so_far(planned[n], found) for n, found in batches.items() if found}
    counts: dict[str, int] = {}
    rows = []
    for _n, one in sorted({**begun, **later, **ran}.items()):
        plan = planned.get(one["n"], {})
        number = counts[one["tag"]] = counts.get(one["tag"], 0) + 1
        declared = counts_of(expected.get(one["tag"]) or [], number)
        text = sql[plan["start"] : plan["end"]] if plan and sql else b""
        rows.append(
            {
                "n": one["n"],
                "line": one["line"],
                "tag": one["tag"],
                "kinds": list(plan.get("kinds", ())),
                "relations": list(plan.get("relations", ())),
                "started": one.get("at", ""),
                "milliseconds": one["milliseconds"],
                "rows": one["rows"],
                "expected_rows": _declared(declared, number),
                "after_commit": bool(plan.get("after_commit")),
                "batches": [
                    {"number": b.number, "rows": b.rows, "above": b.low, "to": b.high, "milliseconds": b.milliseconds}
                    for b in batches.get(one["n"], ())
                ],
                "sql": text.decode("utf-8", "replace").strip("\n"),
            }
        )
    return rows


def _declared(counts: Sequence[Any], number: int) -> Any:
    """Return the declared count of a statement, None where it may report any."""
    found = counts[number - 1] if number <= len(counts) else None
    return None if found == ANY else found


def _so_far(plan: Mapping[str, Any], batches: Sequence[BatchBegun]) -> dict[str, Any]:
    """Return a statement by its batches, which may not be all."""
    rows, milliseconds = sum(one.rows for one in batches), sum(one.milliseconds for one in batches)
    return {
        **{key: plan[key] for key in ("n", "line", "tag")},
        "rows": rows,
        "milliseconds": round(milliseconds, 3),
    }


def result_rows(declared: Any, result: Any) -> list[dict[str, Any]]:
    """Return the columns of the trailing SELECT's rows in their order, each value beside the declared one.

    What the phase does not declare has no key ``expected``.
    """
    rows = [row for row in result or [] if isinstance(row, Mapping)]
    wanted: Sequence[Any] = declared if isinstance(declared, list) else [declared] * (declared is not None)
    found = []
    for number, row in enumerate(rows):
        one = wanted[number] if number < len(wanted) else None
        for name, value in row.items():
            cell = {"row": number + 1, "column": name, "found": value}
            if isinstance(one, Mapping) and name in one:
                cell["expected"] = one[name]
            elif one is not None and not isinstance(one, Mapping) and len(row) == 1:
                cell["expected"] = one
            found.append(cell)
    return found


def data_rows(
    transaction: Mapping[str, Any], rehearsed: Sequence[Mapping[str, Any]] | None
) -> list[dict[str, str]] | None:
    """Return the changed data, each change beside the rehearsal's, in words; None when it was not observed."""
    if "data" not in transaction:
        return None
    found = {(one["relation"], one["kind"]): change_extent(one) for one in transaction["data"]}
    known = {(one["relation"], one["kind"]): change_extent(one) for one in rehearsed or ()}
    return [
        {
            "relation": key[0],
            "kind": key[1],
            "rehearsed": known.get(key, "no change") if rehearsed is not None else "",
            "found": found.get(key, "no change"),
        }
        for key in dict.fromkeys([*found, *known])
    ]


def lock_rows(
    transaction: Mapping[str, Any], rehearsed: Sequence[Row], statements: Sequence[Row], commit: str
) -> list[dict[str, Any]]:
    """Return the locks that were held until COMMIT: relation, mode, since which statement and time, until when, for how long.

    The relation and mode were observed in this run; which statement took the lock was observed in the rehearsal. A lock that only
    reads is left out.
    """
    first = {(one["relation"], one["mode"]): one for one in rehearsed}
    sent = {one["n"]: one["started"] for one in statements}
    rows = []
    for lock in transaction.get("locks") or ():
        if lock["mode"] == "AccessShareLock":
            continue
        known = first.get((lock["relation"], lock["mode"]))
        since = sent.get(known["statement"], "") if known else ""
        rows.append(
            {
                "relation": lock["relation"],
                "mode": lock["mode"],
                "statement": known["statement"] if known else None,
                "since": since,
                "until": commit,
                "seconds": seconds_between(since, commit) if since and commit else None,
                "rehearsed_seconds": round(known["held_microseconds"] / 1e6, 6) if known else None,
            }
        )
    return sorted(rows, key=lambda row: (row["statement"] or 0, row["relation"], row["mode"]))


def measured_rows(
    phase: Mapping[str, Any], measured: Sequence[Row], rehearsed: Sequence[Row] | None, backup: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return every measured column: before and after, what the phase expects and whether it matches, and the rehearsal's.

    ``rehearsed`` is None where the rehearsal's record is not at hand. ``old_values`` is the file that holds the values before.
    """
    declared = {one["id"]: one for one in phase.get("measure", ())}
    others = {one.get("id"): one for one in rehearsed or ()}
    rows = []
    for one in measured:
        expect = (declared.get(one.get("id"), {})).get("expect") or {}
        other = others.get(one.get("id"))
        rows.append(
            {
                **one,
                "expected": dict(expect),
                "matches": all(one.get(name) == value for name, value in expect.items()) if expect else None,
                "rehearsed": dict(other) if other else None,
                "old_values": {"file": backup["file"], "sha256": backup["sha256"]} if backup else None,
            }
        )
    return rows


def count_rows(
    phase: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Return the rows of every counted relation before and after, and the declared change; None where it did not exist."""
    return [
        {
            "relation": one["relation"],
            "before": before.get(one["relation"]),
            "after": (after or {}).get(one["relation"]),
            "counted_after": after is not None,
            "expected_change": one.get("change") or 0,
        }
        for one in phase.get("row_counts", ())
    ]


def in_order(expected: str, found: str) -> str:
    """Return an expected mapping with its keys in the order of the found one, for a reader who compares them."""
    try:
        wanted, shown = json.loads(expected), json.loads(found)
    except ValueError:
        return expected
    if not isinstance(wanted, dict) or not isinstance(shown, dict) or set(wanted) != set(shown):
        return expected
    return json.dumps({name: wanted[name] for name in shown}, ensure_ascii=False)


def check_rows(checks: Sequence[Row]) -> list[dict[str, Any]]:
    """Return checks as they were journaled, with what was expected in the order of what was found."""
    return [{**check, "expected": in_order(check["expected"], check["found"])} for check in checks]


def predecessor(plan: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return what came before this run: author and rehearsal of its plan; None for a run without a plan."""
    if plan is None:
        return None
    rehearsal = plan.get("rehearsal")
    return {
        "author": plan.get("author", ""),
        "created_at": plan.get("created_at", ""),
        "not_after": plan.get("not_after", ""),
        "rehearsal": {
            "bundle": rehearsal["bundle"],
            "seal": rehearsal.get("seal", ""),
            "cluster": dict(rehearsal["cluster"]),
        }
        if rehearsal
        else None,
    }


def approvals_of(gates: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the signatures that G-1 was evaluated from."""
    found = next((gate.get("approvals") for gate in gates if gate["id"] == "G-1"), None)
    return [dict(one) for one in found or ()]


def without_approvals(gates: Sequence[Row]) -> list[dict[str, Any]]:
    """Return gates as the report has them: the approvals are a part of their own."""
    return [{name: value for name, value in gate.items() if name != "approvals"} for gate in gates]
