# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A JUnit document: one suite of test cases, in which every text is only a text. Pure."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import List, Mapping

# Characters that an XML 1.0 document cannot contain, not even escaped (production Char); a comment in a database can.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _xml(text: str) -> str:
    return _NOT_XML.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


class JUnit:
    """A JUnit document under construction: one test suite."""

    def __init__(self, suite: str) -> None:
        self._name = suite
        self._cases: List[ET.Element] = []

    def _case(self, name: str) -> ET.Element:
        case = ET.Element("testcase", {"classname": _xml(self._name), "name": _xml(name), "time": "0"})
        self._cases.append(case)
        return case

    def passed(self, name: str, output: str = "") -> None:
        """Add a test case that passed, with its output."""
        case = self._case(name)
        if output:
            ET.SubElement(case, "system-out").text = _xml(output)

    def failed(self, name: str, message: str, text: str, *, kind: str, output: str = "") -> None:
        """Add a test case that failed: ``message`` in one line, ``text`` in full, ``kind`` what kind of failure it is."""
        case = self._case(name)
        ET.SubElement(case, "failure", {"message": _xml(message), "type": kind}).text = _xml(text)
        if output:
            ET.SubElement(case, "system-out").text = _xml(output)

    def error(self, name: str, message: str, text: str) -> None:
        """Add a test case without a result."""
        ET.SubElement(self._case(name), "error", {"message": _xml(message), "type": "error"}).text = _xml(text)

    def skipped(self, name: str, message: str) -> None:
        """Add a test case that was not evaluated."""
        ET.SubElement(self._case(name), "skipped", {"message": _xml(message)})

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
