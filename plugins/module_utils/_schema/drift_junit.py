# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JUnit documents of a drift check."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Iterable, Mapping, Sequence

from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.outcomes import DRIFT, Ending, verdict_of
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import Change
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot

# Characters that an XML 1.0 document cannot contain, not even escaped (production Char); a comment in a database can.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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


def _xml(text: str) -> str:
    return _NOT_XML.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


class JUnitSuite:
    """A JUnit document under construction: one test suite for one database."""

    def __init__(self, database: str) -> None:
        self._name = f"schema drift of {database}"
        self._cases: list[ET.Element] = []

    def _case(self, name: str) -> ET.Element:
        case = ET.Element("testcase", {"classname": _xml(self._name), "name": _xml(name), "time": "0"})
        self._cases.append(case)
        return case

    def case(self, name: str, wrong: Sequence[Change], permitted: Sequence[Change]) -> None:
        """Add a test case that fails when something is wrong; permitted changes are its output."""
        case = self._case(name)
        if wrong:
            summary = f"{count_changes(len(wrong))} not permitted: {wrong[0].text()}" + (
                " ..." if len(wrong) > 1 else ""
            )
            failure = ET.SubElement(case, "failure", {"message": _xml(summary), "type": "drift"})
            failure.text = _lines(wrong)
        if permitted:
            ET.SubElement(case, "system-out").text = "permitted:\n" + _lines(permitted)

    def skipped(self, what: str) -> None:
        """Add a test case for what was not compared."""
        ET.SubElement(self._case(what), "skipped", {"message": "not compared: the role may not read it"})

    def error(self, error: PhaseGateError) -> None:
        """Add a test case without a result."""
        ET.SubElement(self._case("comparison"), "error", {"message": _xml(error.what), "type": "error"}).text = _xml(
            str(error)
        )

    def document(self, properties: Mapping[str, str]) -> str:
        """Return the document."""
        counts = {
            "tests": len(self._cases),
            "failures": sum(case.find("failure") is not None for case in self._cases),
            "errors": sum(case.find("error") is not None for case in self._cases),
            "skipped": sum(case.find("skipped") is not None for case in self._cases),
        }
        attributes = {"name": _xml(self._name), **{key: str(number) for key, number in counts.items()}, "time": "0"}
        root = ET.Element("testsuites", attributes)
        suite = ET.SubElement(root, "testsuite", attributes)
        if properties:
            listed = ET.SubElement(suite, "properties")
            for name, value in properties.items():
                ET.SubElement(listed, "property", {"name": name, "value": _xml(value)})
        suite.extend(self._cases)
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _lines(changes: Iterable[Change]) -> str:
    return _xml("".join(f"{change.severity.value}: {change.text()}\n" for change in changes))
