# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults that an operator may meet, and what has to be seen at each; the tests that show it carry its name as a mark."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Fault:
    """One fault: ``done`` is what the tests do, ``must`` what has to be seen."""

    done: str
    must: str


ROWS: dict[str, Fault] = {
    # --- something is killed
    "controller-backup": Fault("controller killed during the backup", "no backup is claimed; the next run starts over"),
    "controller-restore": Fault(
        "controller killed during the rehearsal's restore", "no proof is claimed; the next rehearsal drops the database"
    ),
    "controller-before": Fault(
        "controller killed after C-03, C-05, C-06", "the next run starts over and evaluates every gate"
    ),
    "controller-c07": Fault(
        "controller killed during C-07", "the outcome is resolved; the next run adopts it or starts over"
    ),
    "controller-after": Fault(
        "controller killed between COMMIT and seal", "the next run adopts it and finishes the evidence"
    ),
    "controller-sealing": Fault("controller killed while it seals", "no seal, or a complete one; the next run seals"),
    "playbook-killed": Fault("ansible-playbook killed at a random instant", "as for the controller above"),
    "module-killed": Fault("module killed on the target", "the outcome is resolved, never assumed"),
    "client-killed": Fault("psql killed", "the outcome is resolved, never assumed"),
    "docker-client-killed": Fault(
        "client of docker exec killed during C-07", "the backend is found, its outcome resolved"
    ),
    "ssh-dropped": Fault("SSH connection dropped during C-07", "the outcome is resolved, never assumed"),
    "server-killed": Fault(
        "backend or postmaster killed, terminated; restart", "the outcome is that of pg_xact_status"
    ),
    "xid-taken-back": Fault(
        "postmaster killed right after BEGIN, its transaction id lost",
        "no other transaction's outcome is mistaken for ours",
    ),
    "commit-unknown": Fault("connection ended while COMMIT waits for a standby", "resolved to COMMITTED"),
    # --- something is full or damaged
    "no-room": Fault(
        "no room on the server, or for the artefacts, when a run begins",
        "stop before the backup; free and required space named",
    ),
    "disk-full-server": Fault("the server's disk is full", "rolled back; the reason named"),
    "disk-full-before": Fault("the artefact directory is full before COMMIT", "stop; nothing changed, nothing sealed"),
    "disk-full-after": Fault(
        "the artefact directory is full when COMMIT answers, or later",
        "COMMITTED, EVIDENCE_INCOMPLETE (T-8); the next run completes the evidence",
    ),
    "dump-damaged": Fault("a dump is cut, a bit of it flipped, its pg_dump fails", "stop at G-5, the file named"),
    "restore-differs": Fault("a restore fails, or its rows differ", "the rehearsal stops and names the table"),
    "backup-foreign": Fault(
        "a backup of another cluster, too old, from the future", "stop at G-2 or G-4, by the server's clock"
    ),
    "clock-off": Fault("the controller's clock is a day off", "the same verdicts"),
    # --- the phase is not what was approved, or not what it should be
    "file-changed": Fault("a byte of DDL, rollback, checks or plan changed", "stop; both digests shown"),
    "file-swapped": Fault("a file swapped between hashing and running", "the hashed bytes run"),
    "bytes-refused": Fault("CR, BOM, NUL, other encodings, empty or comment-only DDL", "rejected when it is planned"),
    "transaction-control": Fault(
        "BEGIN, COMMIT, ROLLBACK, SAVEPOINT in the DDL", "refused; forced in, nothing persists"
    ),
    "meta-commands": Fault(r"\!, \copy, \c, \i, backticks in the DDL", "forced in, nothing runs"),
    "server-side": Fault("COPY PROGRAM, server files, ALTER SYSTEM, dblink, SET ROLE", "rejected when it is planned"),
    "cut-anywhere": Fault("the DDL cut at every byte", "nothing persists"),
    "settings-changed": Fault("the SQL changes a timeout, role or search_path", "refused unless SET LOCAL"),
    "name-shadowed": Fault(
        "a function of the same name earlier in the search_path, or in that of a function of the phase",
        "not called; a search_path with another schema before pg_catalog, or one outside of the scope, is rejected",
    ),
    "pg-catalog-by-name": Fault(
        "the SQL, or a body in it, makes or changes what has no schema, so that it is one of pg_catalog",
        "rejected when it is planned, whatever the search_path",
    ),
    "attribute-call": Fault(
        "the SQL calls a function in attribute notation, (x).f or x.f, by an operator, or hands one over",
        "as f(x): rejected when it is planned, or, of the search_path, before the first statement",
    ),
    "late-operator": Fault(
        "a role makes an operator in a searched schema after COMMIT, which the next batch or index would call",
        "stops before that statement or batch, the operator named; once it is dropped the same command continues",
    ),
    "stamp-fraction": Fault(
        "an authority stamps fractions of a second", "the audit reads the time; the bundle is intact"
    ),
    "slow-authority": Fault(
        "a time-stamp authority answers byte by byte, for hours, or with text that steers a terminal",
        "a warning after 15 seconds, its text escaped; the run is sealed, and its report shown",
    ),
    "draft-odd-objects": Fault(
        "a draft meets names that are reserved words or have several blanks, and texts with characters that steer a terminal",
        "proposals are about these very objects; what phase.yml cannot declare is left out, or to be written by hand; nothing steers",
    ),
    "sql-no-draft": Fault(
        "the SQL has DO in language SQL, an index built CONCURRENTLY without a name, or an aggregate that is renamed",
        "refused with its line, or to be undone by hand; no draft and no check ends in a traceback",
    ),
    "answer-in-part": Fault(
        "a check, a trailing SELECT, an error or a changed object has megabytes of text, or more rows than are kept",
        "a part that is compared passes nothing; messages and journal have the beginning, and how long it is",
    ),
    "lying-object": Fault(
        "a trigger, a view's function, an operator or a cast that other roles own changes role, settings or data, or answers",
        "settings and role set again after each statement; a check read-only and undone; answers and digests without it",
    ),
    "lock-held": Fault(
        "a long transaction holds the lock",
        "bounded wait, another attempt, the blocker named; an application waits no longer than the lock timeout",
    ),
    "prepared-transaction": Fault(
        "a prepared transaction holds the lock", "stop before the backup; its gid, owner and age named"
    ),
    "bare-success": Fault(
        "nobody approved what was executed, or it was not rehearsed, and a list of runs or hosts is read",
        "the success says so there, too",
    ),
    "rewrite": Fault(
        "the DDL rewrites a table that the phase does not declare", "rolled back before COMMIT, at the rehearsal first"
    ),
    "attach-interrupted": Fault(
        "a partition's index is attached after COMMIT: the run dies in it, the definitions differ",
        "the catalog tells whether it is attached; the next run goes on behind it; COMMITTED, the cause named",
    ),
    "build-cancelled": Fault(
        "CREATE INDEX CONCURRENTLY cancelled, killed, or met by rows that break it",
        "the invalid index named, no success; once it is dropped the same command continues",
    ),
    "killed-between-batches": Fault(
        "a run is killed again and again while a statement runs in batches",
        "the last batch is resolved, the same command goes on behind it; each row is changed once",
    ),
    "batch-without-a-record": Fault(
        "the server has no record of the last batch: restored, or failed over to a standby without it",
        "goes on where the WHERE tells which rows are done; else T-1, and the run can be sealed and rolled back",
    ),
    "batch-leaves-rows-out": Fault(
        "an operator of the search_path fits the key of batches better; a row, or one of a child table, may have no key",
        "ranges use pg_catalog's operators; a key that may be NULL anywhere is refused before the first batch",
    ),
    "batch-commit-lost": Fault(
        "a run is killed while the COMMIT of a batch waits; the server crashes between batches",
        "pg_xact_status tells of the last batch, the same command goes on behind it; each row is changed once",
    ),
    "batch-waits-for-a-lock": Fault(
        "another session holds a row of a batch",
        "rolled back after lock_timeout and tried again, up to after_commit_timeout; the batches before it stay",
    ),
    "batch-waits-for-replicas": Fault(
        "a replica falls behind while a statement runs in batches",
        "the next batch waits until it is within the limits; the journal tells who is late",
    ),
    "rows-behind-the-last-batch": Fault(
        "rows that match are written behind the last batch, or kept by a trigger",
        "a further pass changes them; what is left after it is no success",
    ),
    "counts-missed": Fault("a declared row count differs", "rolled back before COMMIT"),
    "data-hidden": Fault(
        "a DELETE behind another label: in a function, MERGE, COPY or WITH; another number of rows than the declared",
        "rolled back before COMMIT, at the rehearsal first; table, kind and rows named",
    ),
    "data-beside": Fault(
        "a trigger, also a deferred one, or a cascade changes another table",
        "rolled back unless declared; the table named",
    ),
    "data-truncated": Fault(
        "TRUNCATE, of a parent, in a block, after a DELETE, before an INSERT, of a table that may be rewritten",
        "rolled back unless declared, told apart from a rewrite",
    ),
    "data-recreated": Fault(
        "a table is dropped and created, or renamed and replaced, with the same columns", "rolled back unless declared"
    ),
    "data-without-rows": Fault(
        "large objects written or given away, setval, RESTART, a materialized view, a foreign table",
        "rolled back unless declared",
    ),
    "data-miscounted": Fault(
        "counters that mislead: blocks and attempts that were rolled back, other sessions, statistics reset or switched off",
        "only the transaction's own rows count; uncounted rows do not commit",
    ),
    "live-writes": Fault(
        "an application writes to counted and measured tables before C-07 and after COMMIT",
        "the phase answers for its own changes; whole tables are reported",
    ),
    "temporary-objects": Fault(
        "temporary objects that take a constraint, policy, column or extension with them at COMMIT",
        "dropped before the checks, which see what is left",
    ),
    "temporary-foreign": Fault(
        "a permanent object depends on another session's temporary one", "rolled back before COMMIT; both named"
    ),
    "deferred-again": Fault("a deferred trigger defers its work again, until COMMIT", "rolled back before COMMIT"),
    "cursor-with-hold": Fault("a cursor WITH HOLD, whose query would run at COMMIT", "closed; its query does not run"),
    "session-left": Fault(
        "the SQL sets search_path, role or durability for its session, or listens",
        "undone before or right after COMMIT",
    ),
    "extension-members": Fault(
        "a member of an extension is replaced, added, dropped or altered",
        "a change like any other; rolled back unless declared",
    ),
    "cluster-changed": Fault(
        "the DDL changes roles, memberships, settings, tablespaces or parameters of the cluster",
        "a change like any other; rolled back unless declared",
    ),
    "diff-undeclared": Fault("the DDL removes something undeclared", "rolled back before COMMIT"),
    "hostile-names": Fault("quotes, ;, $(), {{ }}, line ends, 63 bytes in names", "one name, or refused"),
    # --- the wrong place or time
    "standby": Fault("the target is a standby", "stop at G-4"),
    "replica-lag": Fault("a replica lags behind", "stop before the backup; the replica and its lag named"),
    "two-operators": Fault("two operators at once", "one wins; the other reports who holds the lock"),
    "lock-squatted": Fault(
        "a role that may only connect, a shared lock or a prepared transaction holds the run's or the transaction's lock and "
        "calls itself a run; the server's lock is lost while the process of its run hangs",
        "stop at G-7 when the run is opened, --check after all else; the authenticated role named, its words called a claim",
    ),
    "same-again": Fault("the same plan again", "verified read-only, changed=0"),
    "swapped-target": Fault("production and rehearsal swapped in the inventory", "stop at G-4"),
    "rehearsal-target": Fault(
        "the rehearsal's connection leads to a registered cluster, another host's target, an unmarked cluster",
        "refused before the backup; the register, the host or the missing mark named",
    ),
    "rehearsal-drops": Fault(
        "a database of the copy's name that no rehearsal made, with a forged comment, in the place of a recorded one; "
        "a rehearsal killed while it creates the copy",
        "left alone, its OID named; what was created is dropped by the next rehearsal",
    ),
    "cluster-wide": Fault(
        "COMMENT ON DATABASE, ALTER DATABASE, roles, tablespaces, privileges on them in the DDL",
        "refused unless the scope lists that kind by name; marked in the review package",
    ),
    "exact-differs": Fault(
        "the DDL makes on production what it did not make at the rehearsal, down to a column of a new table",
        "rolled back before COMMIT",
    ),
    "drift": Fault("the schema changed since the rehearsal", "stop at G-10, with the difference"),
    "partitions-declared": Fault(
        "partitions of a table that the phase declares in drift.partitions_of came or went since the rehearsal, or since the execution",
        "executed and rolled back, the partitions named; what a new one has of its own, or lacks of the rehearsed changes, stops the run",
    ),
    "text-reprinted": Fault(
        "texts that PostgreSQL prints otherwise after a restore (BETWEEN, IN of a varchar …), in a copy, a rollback, a restored production",
        "equal where the server prints both alike; a changed constant, operator or parenthesis is a change",
    ),
    "weak-role": Fault("the role is too weak", "stop, mostly before the backup; the statement that grants it named"),
    # --- somebody wants to get past
    "approvals": Fault(
        "approvals: twice, by the author, expired, revoked, of another plan …", "each rejected with its own message"
    ),
    "register-removed": Fault(
        "the register of reviewers removed, one in a user's home put in its place, its record made writable; none where the "
        "inventory requires approvals",
        "G-1 fails and names what was there; without a register the outcome says that approvals were not enforced",
    ),
    "evidence-moved": Fault(
        "another run's bundle under this name, a renamed bundle, directories added or gone, a name that is not UTF-8",
        "each found with its own message",
    ),
    "evidence-open": Fault("a bundle that others can write, hard links into it", "intact, with a warning for each"),
    "no-bundle": Fault("the audit is given a wrong path", "no such bundle; not called tampering"),
    "evidence-tampered": Fault("evidence edited, deleted, added, linked, re-signed", "each found with its own message"),
    "auditor-alone": Fault(
        "journal reordered or cut, bundle of another run, register replaced, re-signed by a stranger, file emptied, odd names",
        "the auditor finds each without the collection, on Python 3.8 too, and says what it is",
    ),
    "plan-relabelled": Fault(
        "a plan whose statements have other ranges, tags, kinds or needs than their bytes, summed and signed",
        "review, approve, approvals and execute refuse it; the statement and the field named",
    ),
    "range-smuggles": Fault(
        "a range with a second statement behind a COMMENT, or a DELETE labelled COMMENT, in the plan that the target runs",
        "stop at C-07, by the target's own lexer; what the range contains is named",
    ),
    "rehearsal-forged": Fault(
        "a signed plan claims other locks, rewrites, changes or digests than its rehearsal's bundle; the bundle is missing, damaged,"
        " another one, not signed",
        "stop at G-9 or G-10, with what the bundle has; without reviewers a missing bundle is NOT ENFORCED",
    ),
    "rollback-forged": Fault(
        "a rollback by confirmation of a re-summed bundle with any SQL, or without the rehearsal's record",
        "stop at G-1: nobody signed that plan; stop at G-9: it was not rehearsed",
    ),
    "plan-spent": Fault(
        "a plan executed again with its old approvals after a rollback, also under another environment's name",
        "stop at the opening: the plan is spent; a new rehearsal is required",
    ),
    "rollback-again": Fault(
        "an old rollback's approvals used again; a rollback of an execution that another one followed, or of a copy",
        "stop at the opening, with the rollback that ran or the newest execution",
    ),
    "made-anew": Fault(
        "a plan executed again on a database that was dropped and created again, empty or from a backup",
        "stop at the opening: the database no longer has the changes; with all of them it is applied, and said to be made anew",
    ),
    "restored-older": Fault(
        "a plan executed again on a database restored from an older backup, or on a copy of the cluster from before",
        "stop at the opening, with what is missing and how cluster and database differ; a new rehearsal leads on",
    ),
    "not-the-recorded": Fault(
        "a plan executed again after its changes were reverted by hand, or the database renamed",
        "stop at the opening with the missing changes; a part that is missing and another name are said",
    ),
    "record-gone": Fault(
        "a plan executed again after the run directories were deleted, or with another root",
        "stop at the opening: the changes are in the database already, although no run accounts for them",
    ),
    "other-environment": Fault(
        "a plan executed again under another environment's name, or after its directory was renamed",
        "the phase is applied: it is verified read-only",
    ),
    "ledger-replay": Fault(
        "with a ledger: a plan executed again after its run directory was deleted, whatever it left in the catalog",
        "stop at the opening with the ledger's row; its constraint lets no second row of the plan through",
    ),
    "ledger-forged": Fault(
        "a row of the ledger removed, changed or added, by hand or by a phase; the table altered, or writable for others",
        "refused with the row; a phase that does it is rolled back before COMMIT",
    ),
    "no-bypass": Fault("extra-vars, --tags, --skip-tags, --start-at-task", "no gate is bypassed"),
    "canary": Fault(
        "a password, a passphrase, with -vvvv and a forced failure", "in no output, argument, bundle or temporary file"
    ),
    "found-links": Fault(
        "a link, pipe, directory or huge file in place of notes, signatures, SQL, evidence, or of a partial file",
        "refused and named; nothing is read or written through a link, nothing waits",
    ),
    "author-alike": Fault(
        "the author's name with blanks, other case, or letters that look alike", "the author's approval is rejected"
    ),
    "names-alike": Fault(
        "names in the SQL that look like others: other scripts, other normal forms", "the review flags each of them"
    ),
    "duplicate-keys": Fault("a key twice in the policy, the plan, the journal, a marker", "refused; the key named"),
    "input-bombs": Fault(
        "numbers of 5,000 digits, 10 kB of [, 60,000 x 1+, deep nesting, statements that end the parser, a cell of 80 MB",
        "refused within seconds, the place named; a cell is read in the time of its bytes",
    ),
    "timeouts-set": Fault(
        "timeouts of one millisecond set on the database or the role", "the run's own sessions are not ended by them"
    ),
    "revoked-unreadable": Fault(
        "the list of revoked keys cannot be read", "no approval counts, and the reason is named"
    ),
    "connection-strings": Fault(
        "a connection string or URL with a password in place of a database, host or user",
        "refused before anything starts; not repeated in the message",
    ),
    "dumped-secrets": Fault(
        "passwords in user mappings, subscriptions and options of foreign servers", "not in the schema of a bundle"
    ),
    "hostile-text": Fault(
        "foreign texts with escape and bidirectional characters, <script>, Markdown, or lines like a gate's own",
        "text and nothing else: on the terminal, in report, summary, log, review, roll-up and JSON",
    ),
    "notices-pose": Fault(
        "notices, errors and values that imitate psql's and the collection's own lines", "taken for what they are"
    ),
    "rollback-refused": Fault("a rollback that differs from the rehearsed one, or loses new data", "refused"),
    "initdb-altered": Fault(
        "the DDL alters what initdb made: a built-in function, operator, text search object, comment or view",
        "a difference that the diff policy judges, and that a rollback has to undo",
    ),
    "large-objects-lost": Fault(
        "a restored copy lacks large objects, or has another content, owner or privilege of one",
        "it proves nothing: the rehearsal, or the backup's proof, stops and says so",
    ),
    "ledger-not-named": Fault(
        "run directories are deleted, and the inventory no longer names the ledger",
        "refused: the database has a ledger",
    ),
    "server-unsupported": Fault(
        "a server of a major version that is too old, too new or unknown",
        "refused in one sentence when a session is opened",
    ),
    "no-host": Fault(
        "no host matches phasegate_hosts or the limit, or options leave no task of audit.yml or drift.yml",
        "an error that names them, and no status 0",
    ),
    "review-exchanged": Fault(
        "review.md or review.html beside a plan is changed, emptied or that of another plan",
        "the plan is not signed; make the package again and read it",
    ),
    "input-empty": Fault(
        "an input is given and empty, as of an unset variable of the shell, or its name is misspelt or another playbook's",
        "refused before anything starts; the input named",
    ),
    "check-mode": Fault(
        "--check of each playbook, on a fresh, applied, rolled back and refused database",
        "it judges all that can be judged without writing, and ends as the run would begin",
    ),
    "run-named": Fault(
        "executions, rehearsals, rollbacks and verifications that succeed, stop, or cannot be opened",
        "titles, outcomes and sentences say what this run did, and nothing that did not happen",
    ),
    "cycles": Fault(
        "execute, roll back, execute and roll back again, with and without reviewers",
        "each step leads to the next one, the evidence is true, and nothing signed counts twice",
    ),
    "rollback-early": Fault(
        "a rollback without confirmation, enough approvals or the accepted loss",
        "all of them told at once, before a backup is made",
    ),
    "rollback-rewrites": Fault(
        "a rollback rewrites a table that the phase does not declare", "the rehearsal stops; production records it"
    ),
    "facts-changed": Fault(
        "a phase creates or drops an extension, or changes a setting of the database, which a rehearsal compares",
        "the facts from before the phase are compared: it can be executed",
    ),
    "auditor-stalled": Fault(
        "a bundle has huge, sparse or repetitive files, thousands of names or signatures, or directories too deep to open",
        "the auditor's work is bounded: a finding or NOT CHECKED, and the next bundle has its verdict",
    ),
    "loss-new-partition": Fault(
        "after the execution come partitions, tables of its schema or extension, or values that the former type does not hold",
        "they count as lost with the rollback; what is no part of the phase is not dropped with rows in it",
    ),
    "written-at-commit": Fault(
        "a session that waited for the migration's lock writes into a new column at the moment of COMMIT",
        "its values are no part of the migration, and count as lost with a rollback",
    ),
    "measured-view": Fault(
        "a function behind a measured view, or a policy, changes settings, role or search path, or writes",
        "it ends with the reading: what follows runs, is read and is judged as without it",
    ),
    "adopted-by-another": Fault(
        "a run that was killed after COMMIT is taken up with a file of the same SQL and other checks, counts or policy",
        "it is verified by its own plan, and says so",
    ),
    "settings-of-triggers": Fault(
        "a trigger's function switches foreign keys off, or changes what functions mean, beside whatever words of the phase's statement",
        "the settings from the beginning hold again for the next statement",
    ),
    "rollback-below": Fault(
        "an execution is rolled back while a later phase that requires it is in place",
        "refused, and the later one named: it is rolled back first",
    ),
    "stamp-backdated": Fault(
        "a bundle is sealed again and stamped today, and the unsigned part of the time-stamp names an earlier time",
        "the audit reads the time that the authority signed",
    ),
    "rows-beyond": Fault(
        "a cascade or a trigger changes more rows of the table that a statement names than it reports, or inserts some for updated ones",
        "nothing commits until data declares them; the key is told",
    ),
    "rows-uncounted": Fault(
        "a trigger switches the server's counters off while it writes, and leaves nothing that says so",
        "the table that was opened for writing is named as not proved, for reviewers and in the report",
    ),
    "dump-unrestorable": Fault(
        "an index or generated column calls a function that needs a search_path, so that no dump of the database restores",
        "the rehearsal stops with the function's name; the documented repair leads on",
    ),
    "rehearsals-together": Fault(
        "two hosts of one play rehearse in the same cluster, and one fails", "each has a copy and a reason of its own"
    ),
    "under-load": Fault(
        "an application writes 50 times a second to the tables of a phase, from its rehearsal to its rollback",
        "no false verdict: each step succeeds, and nothing of the application's is lost or blamed on the phase",
    ),
    "writes-after-commit": Fault(
        "a function behind an expression index, built CONCURRENTLY after COMMIT, changes rows or a sequence",
        "the rehearsal stops and names what it changed; no plan is frozen",
    ),
    "rehearsal-escape": Fault(
        "the SQL of a rehearsal leaves its role for that of the session",
        "it stays the role of production; where that cannot log in, the review package says whose session it was",
    ),
    "values-exchanged": Fault(
        "values of a new column are exchanged between rows after the execution", "counted as a rollback's loss"
    ),
    "derived-data": Fault(
        "a phase adds a view that fails, a generated column, a foreign table, an attribute of a composite type",
        "only stored values that somebody wrote count as a rollback's loss; what cannot be read is named",
    ),
}


def page() -> str:
    """Return the table of docs/faults.md."""
    out = ["| fault | what you see |", "|---|---|"]
    out += [f"| {_cell(fault.done)} | {_cell(fault.must)} |" for fault in ROWS.values()]
    return "\n".join(out) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"([|\\<`])", r"\\\1", text)


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    fault: Fault
    verdict: str
    seen: str
    psql: str
    sqitch: str

    def text(self) -> str:
        """Return the line for a terminal."""
        others = "".join(f" | {name}: {said}" for name, said in (("psql", self.psql), ("Sqitch", self.sqitch)) if said)
        return f"{self.verdict:4}  {self.fault.done} | {self.seen}{others}"


def line(key: str, outcomes: Mapping[str, str], said: Mapping[str, Sequence[str]]) -> Line:
    """Return the line of a fault: ``outcomes`` of its tests by their node ids, ``said`` by tool what they saw."""
    fault = ROWS[key]
    bad = [name for name, outcome in outcomes.items() if outcome == "failed"]
    skipped = [name for name, outcome in outcomes.items() if outcome == "skipped"]
    told = {tool: _count(texts) for tool, texts in said.items()}
    verdict = "FAIL" if bad else "PASS"
    seen = told["phasegate"] or f"{fault.must} ({_tests(outcomes)})"
    if bad:
        seen = f"{len(bad)} of {_tests(outcomes)} failed: {', '.join(bad)}"
    elif not outcomes or len(skipped) == len(outcomes):
        verdict, seen = "-", "not run here"
    return Line(fault, verdict, seen, told["psql"], told["Sqitch"])


def _tests(outcomes: Mapping[str, str]) -> str:
    return f"{len(outcomes)} test{'s' if len(outcomes) != 1 else ''}"


def _count(texts: Iterable[str]) -> str:
    """Return equal texts once, with their number where there are several."""
    counted = Counter(texts)
    return "; ".join(text if number == 1 else f"{number} x {text}" for text, number in sorted(counted.items()))


def markdown(lines: Iterable[Line], seed: int) -> str:
    """Return the table for a page."""
    out = [
        f"# What was seen at each fault (seed {seed})",
        "",
        "| fault | | phasegate | plain psql | Sqitch |",
        "|---|---|---|---|---|",
    ]
    for one in lines:
        cells = (one.fault.done, one.verdict, one.seen, one.psql, one.sqitch)
        out.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(out) + "\n"
