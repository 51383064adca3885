# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The section *What the rehearsal measured* of a review package. Pure; controller only; private."""

from __future__ import annotations

from typing import List

from ansible_collections.incomex.phasegate.plugins.module_utils._common.document import (
    Block,
    Code,
    Facts,
    Heading,
    Paragraph,
    Table,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import json_line
from ansible_collections.incomex.phasegate.plugins.module_utils._review.statements import (
    READING,
    blocked,
    lock_mode,
    lock_rank,
    observed_locks,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._review.subject import (
    ROW_TAGS,
    Subject,
    byte_size,
    counted,
    duration,
)


def what_was_measured(subject: Subject) -> List[Block]:
    """Return the section *What the rehearsal measured*."""
    rehearsal = subject.rehearsal
    cluster, server, backup, role = (rehearsal[name] for name in ("cluster", "server", "backup", "role"))
    total = sum(one["microseconds"] for one in rehearsal["statements"])
    extensions = ", ".join(f"{name} {version}" for name, version in server["extensions"]) or "none"
    rewrites, undone = (", ".join(one["rewrites"]) or "none" for one in (rehearsal, rehearsal["rollback"]))
    return [
        Heading(2, "What the rehearsal measured"),
        Paragraph(
            (
                "The backup of the target was restored into another cluster. There the phase was migrated, verified, rolled back, "
                "compared with the base, and migrated and verified again.",
            )
        ),
        Facts(
            (
                ("Where", f"{cluster['place']}, PostgreSQL {cluster['server_version']}"),
                ("Cluster", Code(cluster["system_identifier"])),
                (
                    "Role",
                    f"{role['name']}, {'in a session of a superuser' if role['refused'] else 'in a session of its own'}",
                ),
                ("Statements took", duration(total)),
                ("Write-ahead log", byte_size(rehearsal["wal_bytes"])),
                ("Rewritten", rewrites),
                ("Rewritten by the rollback", undone),
                ("Rollback", "rehearsed; the schema matched the base again"),
                ("TimeZone, encoding", f"{server['timezone']}, {server['encoding']}"),
                ("Collation", f"{server['collation']['collate']}, {server['collation']['ctype']}"),
                ("Extensions", extensions),
                ("Settings", ", ".join(f"{name} {value!r}" for name, value in server["settings"].items())),
            )
        ),
        Heading(3, "Locks"),
        *_lock_table(subject),
        Heading(3, "Statements"),
        Table(
            ("No", "Statement", "Line", "Rows", "Time"),
            tuple(
                (
                    str(one["n"]),
                    one["tag"],
                    str(one["line"]),
                    str(one["rows"]) if one["tag"] in ROW_TAGS and one["rows"] is not None else "",
                    duration(one["microseconds"]),
                )
                for one in rehearsal["statements"]
            ),
            (2, 3, 4),
        ),
        Heading(3, "Backup that was restored"),
        Facts(tuple((key.replace("_", " "), Code(json_line(value))) for key, value in backup.items())),
    ]


def _lock_table(subject: Subject) -> List[Block]:
    locks = observed_locks(subject)
    rows = tuple(
        (
            Code(lock["relation"]),
            lock_mode(lock["mode"]),
            blocked(lock, new=new),
            str(lock["statement"]),
            duration(lock["held_microseconds"]),
        )
        for lock, new in locks
        if lock_rank(lock["mode"]) > READING
    )
    reading = len(locks) - len(rows)
    besides = f" Omitted: {counted(range(reading), 'lock')} of the kind that readers take." if reading else ""
    if not rows:
        return [Paragraph((f"No lock blocks reads or writes.{besides}",))]
    return [
        Paragraph((f"Held from the end of the statement until COMMIT, the checks before COMMIT included.{besides}",)),
        Table(("Relation", "Mode", "Blocks", "From statement", "Held"), rows, (3, 4)),
    ]
