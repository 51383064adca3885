# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JUnit documents of a drift check."""

from __future__ import annotations

from typing import Iterable, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import DRIFT, Ending, verdict_of
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.junit import JUnit
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Change
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot


def stored_junit(live: Snapshot) -> str:
    """Return the JUnit document of a run that stored the baseline, which has nothing to compare."""
    suite = JUnitSuite(live.header.database)
    suite.case("baseline stored", [], [])
    for what in live.header.unseen:
        suite.skipped(what)
    outcome = verdict_of(DRIFT, Ending.STORED).outcome.value
    about = {"outcome": outcome, "server_version": live.header.server_version, "fingerprint": live.fingerprint}
    return suite.document(about)


def error_junit(database: str, error: PhaseGateError) -> str:
    """Return the JUnit document of a run without a result, so that an old one is not mistaken for it."""
    suite = JUnitSuite(database)
    suite.error(error)
    return suite.document({"outcome": verdict_of(DRIFT, Ending.FAILED).outcome.value})


def count_changes(number: int) -> str:
    """Return a number of changes with its verb."""
    return "1 change is" if number == 1 else f"{number} changes are"


class JUnitSuite:
    """A JUnit document under construction: one test suite for one database."""

    def __init__(self, database: str) -> None:
        self._suite = JUnit(f"schema drift of {database}")

    def case(self, name: str, wrong: Sequence[Change], permitted: Sequence[Change]) -> None:
        """Add a test case that fails when something is wrong; permitted changes are its output."""
        output = "permitted:\n" + _lines(permitted) if permitted else ""
        if not wrong:
            self._suite.passed(name, output)
            return
        more = " ..." if len(wrong) > 1 else ""
        message = f"{count_changes(len(wrong))} not permitted: {wrong[0].text()}{more}"
        self._suite.failed(name, message, _lines(wrong), kind="drift", output=output)

    def skipped(self, what: str) -> None:
        """Add a test case for what was not compared."""
        self._suite.skipped(what, "not compared: the role may not read it")

    def error(self, error: PhaseGateError) -> None:
        """Add a test case without a result."""
        self._suite.error("comparison", error.what, str(error))

    def document(self, properties: Mapping[str, str]) -> str:
        """Return the document."""
        return self._suite.document(properties)


def _lines(changes: Iterable[Change]) -> str:
    return "".join(f"{change.severity.value}: {change.text()}\n" for change in changes)
