# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A phase whose files are not as they have to be: one clear message, and nothing that was asked of the database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.bundle import sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.target import Target

PINNED = "cb32c43aab616562d1bf717468bd9af1c35596453caf32659dd3b60493277e33"


def definition(old: str, new: str) -> Callable[[Path], None]:
    """Return what replaces the first place of a text in phase.yml."""

    def spoil(phase: Path) -> None:
        content = (phase / "phase.yml").read_text(encoding="utf-8")
        assert old in content
        (phase / "phase.yml").write_text(content.replace(old, new, 1), encoding="utf-8")

    return spoil


def ddl(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return what changes the DDL and pins it anew, as its author would."""

    def spoil(phase: Path) -> None:
        file = phase / "migrate.sql"
        file.write_bytes(change(file.read_bytes()))
        definition(PINNED, sha256(file))(phase)

    return spoil


def before_the_end(statement: bytes) -> Callable[[Path], None]:
    """Return what puts a statement right before the last COMMIT of the DDL."""
    return ddl(lambda content: content.rpartition(b"COMMIT;")[0] + statement + b"\nCOMMIT;\n")


def without_ddl(phase: Path) -> None:
    (phase / "migrate.sql").unlink()


def without_definition(phase: Path) -> None:
    (phase / "phase.yml").unlink()


CASES = {
    "unknown key": (definition("title: ", "colour: blue\ntitle: "), ["phase.yml", "colour"]),
    "duplicate check id": (definition("  - id: P-4\n", "  - id: P-3\n"), ["phase.yml", "P-3"]),
    "duplicate key": (definition("title: ", "title: Another\ntitle: "), ["phase.yml", "title", "duplicate key"]),
    "missing DDL": (without_ddl, ["migrate.sql"]),
    "missing phase.yml": (without_definition, ["phase.yml"]),
    "NUL": (ddl(lambda content: content.replace(b"UPDATE", b"UPD\0ATE", 1)), ["migrate.sql", "NUL"]),
    "CR": (ddl(lambda content: content.replace(b"\n", b"\r\n")), ["migrate.sql", "carriage return"]),
    "BOM": (ddl(lambda content: b"\xef\xbb\xbf" + content), ["migrate.sql", "byte order mark"]),
    "not UTF-8": (ddl(lambda content: content + b"-- caf\xe9\n"), ["migrate.sql", "UTF-8"]),
    "shell escape of psql": (before_the_end(b"\\! touch /tmp/phasegate-was-here"), ["migrate.sql", "\\"]),
    "embedded COMMIT": (before_the_end(b"COMMIT;\nBEGIN;"), ["migrate.sql", "COMMIT"]),
    "embedded SAVEPOINT": (before_the_end(b"SAVEPOINT here;"), ["migrate.sql", "SAVEPOINT"]),
    "statement outside the scope": (
        before_the_end(b"ALTER TABLE public.tac_logical_unit DROP COLUMN body;"),
        ["migrate.sql", "DROP COLUMN"],
    ),
    "program of the server": (
        before_the_end(b"COPY public.tac_logical_unit TO PROGRAM 'cat';"),
        ["migrate.sql", "PROGRAM"],
    ),
    "empty DDL": (ddl(lambda _content: b""), ["migrate.sql", "empty"]),
    "DDL of comments only": (ddl(lambda _content: b"-- nothing to do\n"), ["migrate.sql"]),
    "unterminated quote": (ddl(lambda content: content + b"SELECT 'open;\n"), ["migrate.sql", "unterminated"]),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.fault("bytes-refused")
def test_one_clear_message_and_nothing_done(target: Target, phase: Path, name: str) -> None:
    spoil, words = CASES[name]
    spoil(phase)
    state = target.state()
    run = target.play_phase(phase)
    assert run.rc != 0, run.stdout
    assert target.state() == state
    # One task failed, the one that seals what the task that reads the files said.
    assert [failure.task.rpartition(" : ")[2].partition(" |")[0] for failure in run.failures] == ["Seal"]
    message = str(run.of("Plan |").res["msg"])
    assert message in run.messages
    for word in words:
        assert word in message, message
    assert "Traceback" not in run.stdout
    bundle = target.bundle()
    bundle.assert_sealed()
    assert bundle.path.name.startswith("alpha_test_")
    for line in message.splitlines():
        assert line.strip() in bundle.text("SUMMARY.txt")
        assert line.strip() in bundle.text("report.md")
    assert "PASS" not in bundle.gates.values()
    assert "FAIL" not in bundle.gates.values()


def test_every_problem_is_told_at_once_with_its_line(target: Target, phase: Path) -> None:
    definition("title: ", "colour: blue\ntitle: ")(phase)
    definition("    expect: 76\n", "    expect: 76\n    size: large\n")(phase)
    run = target.play_phase(phase)
    assert run.rc != 0
    problems = run.of("Plan |").res["problems"]
    assert len(problems) == 2
    lines = (phase / "phase.yml").read_text(encoding="utf-8").splitlines()
    for problem, word in zip(problems, ["colour", "size"], strict=True):
        assert word in json.dumps(problem)
        assert f"phase.yml:{problem['line']}" in run.messages
        assert problem["line"] > 0
    assert "colour" in lines[problems[0]["line"] - 1]
