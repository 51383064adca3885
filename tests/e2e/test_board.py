# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback board: what an operator sees of a run, on a pipe, on a terminal, and as JSON lines."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT, environment, write_inventory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ansible_collections.incomex.phasegate.tests.support.target import Target

PHASES = ROOT / "tests" / "fixtures" / "phases"
# this machine, by a connection that Ansible cannot know to be local
ELSEWHERE = """
DOCUMENTATION = "{name: elsewhere, author: tests, short_description: as local, description: [as local], options: {}}"
from ansible.plugins.connection.local import Connection as Local

class Connection(Local):
    transport = "elsewhere"
"""
CALLBACK = {"ANSIBLE_STDOUT_CALLBACK": "incomex.phasegate.board"}


def words(target: Target, playbook: str, extra: Mapping[str, Any], **hostvars: Any) -> list[str]:
    """Return ansible-playbook's command line for this target alone."""
    inventory = write_inventory(target.directory / "hosts.yml", {"target": {**target.entry(), **hostvars}})
    return [
        str(Path(sys.executable).parent / "ansible-playbook"),
        *("-i", str(inventory), str(ROOT / "playbooks" / playbook), "-e", json.dumps(extra)),
    ]


def board(
    target: Target,
    playbook: str,
    extra: Mapping[str, Any],
    *,
    variables: Mapping[str, str] | None = None,
    **hostvars: Any,
) -> tuple[int, str]:
    """Run a playbook with the callback on a pipe; return its exit code and what it printed."""
    done = subprocess.run(
        words(target, playbook, extra, **hostvars),
        cwd=ROOT,
        env={**os.environ, **environment({**CALLBACK, **(variables or {})})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "callback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def on_terminal(argv: list[str], seen: Callable[[str], None] = lambda _text: None, **variables: str) -> tuple[int, str]:
    """Run a command on a terminal of its own; return its exit code and what it printed, which ``seen`` is given while it comes."""
    controller, terminal = pty.openpty()
    everything = {**os.environ, **environment({**CALLBACK, "TERM": "xterm", **variables})}
    coloured = {key: value for key, value in everything.items() if key not in ("ANSIBLE_NOCOLOR", "NO_COLOR")}
    with subprocess.Popen(argv, cwd=ROOT, env=coloured, stdin=terminal, stdout=terminal) as process:
        os.close(terminal)
        printed = b""
        try:
            while data := os.read(controller, 65536):
                printed += data
                seen(printed.decode(errors="replace"))
        except OSError:  # EIO: the last one has closed the terminal
            pass
    os.close(controller)
    return process.returncode, printed.decode()


def states(text: str) -> list[tuple[str, str]]:
    """Return name and state of each line about a command or a gate."""
    return re.findall(r"^target  ([CGR]-\d+|C-01 \.\.\. C-06) +([A-Z]+(?: ENFORCED| REACHED)?)\b", text, re.MULTILINE)


def test_an_execution_and_a_refused_rollback(target: Target) -> None:
    rc, text = board(target, "execute.yml", {"phasegate_phase": "alpha"})
    assert rc == 0, text
    bundle = target.bundle()
    found = states(text)
    commands = [(name, state) for name, state in found if name.startswith("C")]
    assert sorted(commands) == [(f"C-0{n}", "DONE") for n in range(1, 9)], text
    gates = dict(found)
    assert {name: state for name, state in gates.items() if name.startswith("G")} == bundle.gates
    # each of them once, and before the block at the end
    assert len(found) == len(set(found))
    assert text.index("C-08") < text.index("Show the outcome") < text.index(f"{bundle.path}/report.md")
    assert "next          Check this bundle: ansible-playbook incomex.phasegate.audit" in text
    assert text.rstrip().endswith("ended:  target ok")
    # nothing of what is internal or was skipped
    for task in ("Validat", "Plan |", "Roll-up", "Run the verification checks", "skipping", "PLAY RECAP"):
        assert task not in text
    assert "\x1b" not in text
    assert "\r" not in text
    assert len(text.splitlines()) <= 60

    rc, text = board(target, "rollback.yml", {"phasegate_execution": str(bundle.path), "phasegate_confirm": "another"})
    assert rc != 0
    assert text.count("found: ") == 1, text
    assert "target  FAILED  Seal | Build the report and seal the evidence" in text
    refused = target.bundles()[-1].path
    assert f"{refused}/report.md" in text
    assert text.rstrip().endswith("ended:  target failed")


def test_a_stopped_run_shows_its_reason_once(target: Target) -> None:
    rc, text = board(target, "execute.yml", {"phasegate_phase_file": str(PHASES / "r1" / "phase.yml")})
    assert rc != 0
    found = states(text)
    assert ("C-07", "FAILED") in found
    assert ("C-06", "DONE") in found
    assert "C-08" not in dict(found)
    assert text.count("a count or result differs from the declared one") == 1
    assert text.count("UPDATE of line 19: 0 rows") == 1
    assert f"{target.bundle().path}/report.md" in text
    # the reason has the next step
    assert "Check this bundle" not in text


def test_a_terminal_gets_colours_and_no_cursor_control(target: Target) -> None:
    rc, text = on_terminal(words(target, "execute.yml", {"phasegate_phase_file": str(PHASES / "r1" / "phase.yml")}))
    assert rc != 0
    assert "C-07          FAILED" in text
    assert "\x1b[0;31m" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "\x1b" not in plain
    assert "\r" not in plain.replace("\r\n", "\n")


def test_json_lines(target: Target) -> None:
    rc, text = board(target, "execute.yml", {"phasegate_phase": "alpha"}, variables={"PHASEGATE_BOARD_FORMAT": "json"})
    assert rc == 0, text
    lines = [json.loads(line) for line in text.splitlines()]
    commands = [one for one in lines if one["event"] == "command"]
    assert sorted(one["name"] for one in commands) == [f"C-0{n}" for n in range(1, 9)]
    assert all(one["state"] == "DONE" and one["seconds"] >= 0 and one["host"] == "target" for one in commands)
    end = next(one for one in lines if one.get("outcome"))
    assert end["outcome"] == "SUCCESS"
    assert end["report"] == str(target.bundle().path / "report.md")
    assert end["next_commands"][0]["command"].startswith("ansible-playbook ")
    assert lines[-1]["hosts"] == {"target": "ok"}
    assert text.isascii()


def test_without_a_journal_to_follow_results_are_shown(target: Target, tmp_path: Path) -> None:
    plugins = tmp_path / "connections"
    plugins.mkdir()
    (plugins / "elsewhere.py").write_text(ELSEWHERE, encoding="utf-8")
    rc, text = board(
        target,
        "execute.yml",
        {"phasegate_phase_file": str(PHASES / "r1" / "phase.yml")},
        variables={"ANSIBLE_CONNECTION_PLUGINS": str(plugins)},
        ansible_connection="elsewhere",
    )
    assert rc != 0
    commands = [(name, state) for name, state in states(text) if name.startswith("C")]
    assert commands == [("C-01 ... C-06", "DONE"), ("C-07", "FAILED")], text
    assert text.count("a count or result differs from the declared one") == 1
    assert f"{target.bundle().path}/report.md" in text


@pytest.mark.parametrize("form", ["text", "json"])
def test_under_ansible_runner_as_in_awx(target: Target, form: str) -> None:
    run = target.play_phase(PHASES / "r1", variables={**CALLBACK, "PHASEGATE_BOARD_FORMAT": form})
    assert run.rc != 0
    if form == "json":
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        found = [(one["name"], one["state"]) for one in lines if one["event"] == "command"]
    else:
        found = states(run.stdout)
    assert {("C-01", "DONE"), ("C-06", "DONE"), ("C-07", "FAILED")} <= set(found), run.stdout
    assert run.stdout.count("a count or result differs from the declared one") == 1
    # the job events have everything, as with any callback
    assert run.failures


def test_a_lock_that_is_not_granted_shows_who_holds_it(target: Target, phase: Path) -> None:
    declared = phase / "phase.yml"
    declared.write_text(
        declared.read_text(encoding="utf-8").replace("lock_timeout: 5s", "lock_timeout: 1s"), encoding="utf-8"
    )
    extra = {
        "phasegate_phase_file": str(declared),
        "phasegate_conditions": {"long_transactions": "ignore"},
        "phasegate_lock_attempts": 5,
    }
    argv = words(target, "execute.yml", extra)
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with psycopg.connect(target.cluster.dsn(target.database), application_name="nightly\x1b[2J") as holder:
        pid = holder.info.backend_pid
        holder.execute("LOCK TABLE public.tac_logical_unit IN ACCESS SHARE MODE")
        with subprocess.Popen(
            argv, cwd=ROOT, env={**buffered, **environment(CALLBACK)}, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            text = ""
            for line in process.stdout:
                text += line
                if "WAITING" in line and "attempt" in line:  # it is shown while the module waits, on a pipe as well
                    holder.rollback()
    assert process.returncode == 0, text
    waiting = re.search(
        r"^target  C-07 +WAITING +[0-9.]+ s  waits for (\w+) on public\.tac_logical_unit, held or asked for by (.*)",
        text,
        re.MULTILINE,
    )
    assert waiting, text
    assert f"pid {pid}, role" in waiting[2]
    assert waiting.start() < text.index("attempt 1")
    waits = re.findall(r"^target  C-07 +WAITING +[0-9.]+ s  attempt (\d+): held by (.*)", text, re.MULTILINE)
    assert waits, text
    assert waits[0][0] == "1"
    assert f"pid {pid}" in waits[0][1]
    assert "\x1b" not in text
    assert ("C-07", "DONE") in states(text)


def test_a_run_is_watched_from_a_second_terminal(target: Target, phase: Path, tmp_path: Path) -> None:
    declared = phase / "phase.yml"
    declared.write_text(
        declared.read_text(encoding="utf-8").replace("lock_timeout: 5s", "lock_timeout: 1s"), encoding="utf-8"
    )
    extra = {
        "phasegate_phase_file": str(declared),
        "phasegate_conditions": {"long_transactions": "ignore"},
        "phasegate_lock_attempts": 7,
    }
    plugins = tmp_path / "connections"
    plugins.mkdir()
    (plugins / "elsewhere.py").write_text(ELSEWHERE, encoding="utf-8")
    with psycopg.connect(target.cluster.dsn(target.database)) as holder:
        holder.execute("LOCK TABLE public.tac_logical_unit IN ACCESS SHARE MODE")
        with target.start("playbooks/execute.yml", extra) as first:
            while not list(target.root.glob("*/journal.jsonl")):
                assert first.poll() is None
                time.sleep(0.1)
            rc, text = on_terminal(
                words(target, "watch.yml", {}, ansible_connection="elsewhere"),
                lambda so_far: holder.rollback() if "WAITING" in so_far else None,
                ANSIBLE_CONNECTION_PLUGINS=str(plugins),
            )
            assert first.wait(120) == 0
    assert rc == 0, text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r\n", "\n")
    bundle = target.bundle()
    assert plain.index(f"target  {bundle.path.name}") < plain.index("WAITING") < plain.index("C-07          DONE")
    commands = [name for name, state in states(plain) if name.startswith("C") and state == "DONE"]
    assert sorted(commands) == [f"C-0{n}" for n in range(1, 9)], plain
    assert f"{bundle.path.name}: SUCCESS" in plain
    assert str(bundle.path / "report.md") in plain


def test_hosts_of_one_play_at_the_same_time_are_told_apart(
    target: Target, phase_alpha_template: str, tmp_path: Path
) -> None:
    other = replace(target, database="board_other")
    target.cluster.create_database(other.database, phase_alpha_template)
    inventory = write_inventory(tmp_path / "both.yml", {"one": target.entry(), "two": other.entry()})
    tasks = {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {
                "ansible.builtin.include_role": {"name": "incomex.phasegate.execute"},
                "vars": {"execute_phase_file": str(ROOT / "playbooks" / "phases" / "alpha" / "phase.yml")},
            }
        ],
    }
    (tmp_path / "both_play.yml").write_text(json.dumps([tasks]), encoding="utf-8")
    program = str(Path(sys.executable).parent / "ansible-playbook")
    done = subprocess.run(
        [program, "-i", str(inventory), str(tmp_path / "both_play.yml")],
        cwd=ROOT,
        env={**os.environ, **environment(CALLBACK)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    other.cluster.drop_database(other.database)
    assert done.returncode == 0, done.stdout
    for host in ("one", "two"):
        found = re.findall(rf"^{host}  (C-\d+) +DONE", done.stdout, re.MULTILINE)
        assert sorted(found) == [f"C-0{n}" for n in range(1, 9)], done.stdout


def test_nothing_to_watch(target: Target) -> None:
    rc, text = board(target, "watch.yml", {})
    assert rc == 0
    assert "no run is at work" in text


def test_check_mode_shows_that_nothing_ran(target: Target) -> None:
    argv = [*words(target, "execute.yml", {"phasegate_phase": "alpha"}), "--check"]
    rc, text = on_terminal(argv)
    assert rc == 0, text
    found = states(re.sub(r"\x1b\[[0-9;]*m", "", text))
    assert [one for one in found if one[0].startswith("C")] == [("C-01 ... C-06", "CHECKED"), ("C-07", "CHECKED")], text
    assert len({name for name, _state in found}) == len(found), text


def test_a_phase_that_is_applied_shows_nothing_of_the_earlier_run(target: Target) -> None:
    assert target.play().rc == 0
    rc, text = board(target, "execute.yml", {"phasegate_phase": "alpha"})
    assert rc == 0, text
    assert [name for name, _state in states(text)] == ["C-01 ... C-06", "C-08"], text
    assert "This run changed nothing." in text
