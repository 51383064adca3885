# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of faults: a line for each, made of the tests that carry its mark in any suite of this run.

A test says what it saw with the fixture ``seen``; one that says nothing has seen what its line demands, or it failed.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster
    from ansible_collections.incomex.phasegate.tests.support.conductor import Conductors
    from ansible_collections.incomex.phasegate.tests.support.target import Target

TOOLS = ("phasegate", "psql", "Sqitch")


class Seen(Protocol):
    """Notes what was seen, with phasegate or with another tool that met the same fault."""

    def __call__(self, text: str, tool: str = "phasegate") -> None:
        """Note ``text``."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--kills", type=int, default=200, help="runs that are killed at a random instant")
    group.addoption("--playbook-kills", type=int, default=8, help="as --kills, of whole playbooks")
    group.addoption("--loads", type=int, default=20, help="phases that are run while an application writes")
    group.addoption("--seed", type=int, help="repeat the kills of an earlier run")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:
        # drawn once; the workers of xdist must draw the same kills
        config.option.seed = int(os.environ.setdefault("PHASEGATE_SEED", str(random.SystemRandom().randrange(10**6))))


def pytest_report_header(config: pytest.Config) -> str:
    return f"kills: {config.option.kills}, of playbooks {config.option.playbook_kills}, --seed {config.option.seed}"


@pytest.fixture
def seen(record_property: Callable[[str, object], None]) -> Seen:
    """Notes what was seen, for the table."""

    def note(text: str, tool: str = "phasegate") -> None:
        assert tool in TOOLS
        record_property(tool, text)

    return note


@pytest.fixture(scope="session")
def conductors() -> Iterator[Conductors]:
    """Starts executions that are cheap enough to be killed by the hundred."""
    from ansible_collections.incomex.phasegate.tests.support.conductor import conducting  # noqa: PLC0415 - see tests/conftest.py

    with conducting() as started:
        yield started


@pytest.fixture
def target(cluster: Cluster, database: str, tmp_path: Path) -> Target:
    """A database in the state that Phase Alpha starts from, of this test alone."""
    from ansible_collections.incomex.phasegate.tests.support.target import Target  # noqa: PLC0415 - see tests/conftest.py

    return Target(cluster, database, tmp_path)


# --- the table -------------------------------------------------------------------------------------------------


class Marks:
    """Lets a report carry the faults that its test is marked with: the table is made in another process."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        for kind in ("fault", "compared"):
            item.user_properties += [(kind, name) for mark in item.iter_markers(kind) for name in mark.args]


class Table:
    """Collects the reports, and prints the table at the end."""

    def __init__(self) -> None:
        self.outcomes: dict[str, dict[str, str]] = defaultdict(dict)
        self.said: dict[tuple[str, str], list[str]] = defaultdict(list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for kind, value in report.user_properties:
            if kind == "fault":
                worst = self.outcomes[str(value)].get(report.nodeid, "passed")
                self.outcomes[str(value)][report.nodeid] = report.outcome if worst == "passed" else worst
            elif kind == "compared" and report.failed:
                # it is not phasegate's failure, but the line would tell something that is not so
                self.outcomes[str(value)][report.nodeid] = report.outcome
            if kind in ("fault", "compared") and report.when == "call":
                for name, text in report.user_properties:
                    if name in TOOLS:
                        self.said[str(value), name].append(str(text))

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        from ansible_collections.incomex.phasegate.tests.faults.rows import ROWS, line, markdown  # noqa: PLC0415 - see tests/conftest.py

        if unknown := set(self.outcomes) - set(ROWS):
            terminalreporter.write_line(f"FAIL  marks that name no fault: {sorted(unknown)}")
        lines = [line(key, self.outcomes[key], {tool: self.said[key, tool] for tool in TOOLS}) for key in ROWS]
        terminalreporter.section("faults")
        for one in lines:
            terminalreporter.write_line(one.text())
        ran = [one for one in lines if one.verdict != "-"]
        passed = sum(one.verdict == "PASS" for one in ran)
        terminalreporter.write_line(
            f"{len(ROWS)} faults, {passed} PASS, {len(ran) - passed} FAIL, --seed {config.option.seed}"
        )
        file = Path(config.rootpath) / ".cache" / "faults.md"
        file.parent.mkdir(exist_ok=True)
        file.write_text(markdown(lines, config.option.seed), encoding="utf-8")
        terminalreporter.write_line(f"as a table: {file}")


def pytest_sessionstart(session: pytest.Session) -> None:
    # as plugins of their own: hooks of this file see the tests below it alone
    session.config.pluginmanager.register(Marks(), "faults-marks")
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(Table(), "faults-table")
