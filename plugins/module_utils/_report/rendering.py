# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The forms of a report, each a pure function of the content of report.json."""

from __future__ import annotations

import json
from typing import Any, Callable, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._common.html import render_page
from ansible_collections.incomex.phasegate.plugins.module_utils._common.junit import JUnit
from ansible_collections.incomex.phasegate.plugins.module_utils._common.markdown import render_markdown
from ansible_collections.incomex.phasegate.plugins.module_utils._report.report_document import report_document, tone_of
from ansible_collections.incomex.phasegate.plugins.module_utils._report.report_text import summary

SOURCE = "report.json"


def report_markdown(report: Mapping[str, Any]) -> str:
    """Return report.md."""
    return render_markdown(report_document(report))


def report_html(report: Mapping[str, Any]) -> str:
    """Return report.html."""
    return render_page(report_document(report))


def report_junit(report: Mapping[str, Any]) -> str:
    """Return junit.xml: a test case for the outcome, and one for each gate, check, non-scope statement and trigger."""
    suite = JUnit(f"phasegate {report['bundle']}")
    if report["outcome"] in ("SUCCESS", "DRAFTED"):
        suite.passed("outcome", report["sentence"])
    else:
        suite.failed("outcome", report["outcome"], report["reason"] or report["sentence"], kind="outcome")
    for kind in ("conditions", "gates", "preflight", "verification", "non_scope", "triggers"):
        for one in report[kind]:
            name = f"{one['id']} {one.get('title', '')}".strip()
            said = f"expected: {one.get('expected', '')}\nfound: {one['found']}"
            tone = tone_of(one["status"])
            if tone == "bad" and not (kind == "triggers" and report["kind"] == "rollback"):
                suite.failed(name, f"{one['status']}: {one['found']}", said, kind=kind)
            elif tone == "good":
                suite.passed(name)
            else:
                suite.skipped(name, one["status"])
    return suite.document({"outcome": report["outcome"], "bundle": report["bundle"]})


#: The name of each form and what makes it.
FORMS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "report.md": report_markdown,
    "report.html": report_html,
    "junit.xml": report_junit,
    "SUMMARY.txt": summary,
}

REPORTS = (SOURCE, *FORMS)


def report_json(report: Mapping[str, Any]) -> str:
    """Return report.json."""
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def render_report(report: Mapping[str, Any]) -> dict[str, str]:
    """Return every form by its name, report.json first; each of the others can be made again from that one alone."""
    text = report_json(report)
    content = json.loads(text)
    return {SOURCE: text, **{name: form(content) for name, form in FORMS.items()}}
