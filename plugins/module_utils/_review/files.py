# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a review package: made from a plan, and compared with it before a reviewer signs. Controller only."""

from __future__ import annotations

import html
import os
import re
from typing import Dict, List, Optional, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.commands import quoted_extra_var, values_in
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import read_file
from ansible_collections.incomex.phasegate.plugins.module_utils._common.html import render_page
from ansible_collections.incomex.phasegate.plugins.module_utils._common.markdown import render_markdown
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._review.package import review
from ansible_collections.incomex.phasegate.plugins.module_utils._review.squawk import (
    LintFinding,
    find_squawk,
    run_squawk,
    squawk_version,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._review.subject import Subject
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.accepted_forms import unsafe_forms
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.plan_check import CheckedPlan

MARKDOWN, HTML = "review.md", "review.html"

# The linter's findings and its name with version; None without a linter.
Lint = Tuple[Optional[List[LintFinding]], str]

_NOT_LINTED: Lint = (None, "")

# A package has one; the SQL in it may have some more. Each is a package to compare with.
_MOST_PLACES = 5


def lint(checked: CheckedPlan) -> Lint:
    """Return what Squawk finds in the DDL, where it is installed. Raises ``PhaseGateError`` if it fails."""
    program = find_squawk()
    if program is None:
        return _NOT_LINTED
    wrapped = all(statement["run"] for statement in checked.plan["ddl"]["statements"])
    findings = run_squawk(program, checked.ddl, checked.plan["target"]["server_version"], wrapped=wrapped)
    return findings, f"squawk {squawk_version(program)}"


def package_files(checked: CheckedPlan, path: str, linted: Lint) -> Dict[str, bytes]:
    """Return the files by name. ``path`` is that of plan.json, as a reviewer types it."""
    findings, linter = linted
    ddl, accept = checked.plan["ddl"], checked.plan["phase"].get("accept", ())
    unsafe = unsafe_forms(checked.ddl, ddl["statements"], accept)
    document = review(
        Subject(checked.plan, checked.sha256, checked.ddl, checked.rollback, path, findings, linter, unsafe)
    )
    return {MARKDOWN: render_markdown(document).encode("utf-8"), HTML: render_page(document).encode("utf-8")}


def shown(path: str) -> str:
    """Return a path as it is typed where Ansible was started, when it is below there."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


def require_own_package(path: str, checked: CheckedPlan) -> None:
    """Require that the package beside the plan at this path is the plan's, and so are its commands, as far as there is one.

    It may have been made without a linter, and elsewhere: in a directory of the same name. Raises ``PhaseGateError`` when it says something else, ``OSError``.
    """
    found = {name: read_file(os.path.join(os.path.dirname(path), name)) for name in (MARKDOWN, HTML)}
    found = {name: data for name, data in found.items() if data is not None}
    # the path of plan.json in a package's commands depends on where the package was made
    named = {place for name, data in found.items() for place in _places(name, data or b"")}
    places = {place for place in named if _names_plan(place, path, checked.data)}
    right = [
        package_files(checked, place, linted)
        for linted in ((lint(checked), _NOT_LINTED) if found else ())
        for place in [shown(path), *sorted(places)[:_MOST_PLACES]]
    ]
    other = [name for name, data in found.items() if all(files[name] != data for files in right)]
    if other:
        raise PhaseGateError(
            "The review package beside the plan is not what this plan gives.",
            expected=f"the text that is made from plan.json, SHA-256 {checked.sha256}, and the SQL beside it",
            found=f"{' and '.join(other)} with another text: changed, of another plan, of another version of this collection or of Squawk"
            + "".join(f"; a command for {escaped(place)}" for place in sorted(named - places)[:_MOST_PLACES]),
            next_step="make the package again, and read it: ansible-playbook incomex.phasegate.review "
            + quoted_extra_var("phasegate_plan", path),
        )


def _places(name: str, data: bytes) -> List[str]:
    """Return the paths of plan.json in the commands of a file of a package."""
    text = data.decode("utf-8", "replace")
    return values_in(html.unescape(re.sub(r"<[^>]*>", "\n", text)) if name == HTML else text, "phasegate_plan")


def _names_plan(place: str, path: str, data: bytes) -> bool:
    """Return whether the path in a command is one of the plan at ``path``, which has its links followed.

    It is the plan itself, or in a directory of the same name in another place, where nothing or the same plan is; not behind links
    or through ``..``, which could lead to another plan tomorrow. Raises ``PhaseGateError``, ``OSError``.
    """
    there = os.path.abspath(os.path.expanduser(place))
    if os.path.normpath(place) != place or os.pardir in place.split(os.sep) or os.path.realpath(there) != there:
        return False
    if there == path:
        return True
    same_name = there.split(os.sep)[-2:] == path.split(os.sep)[-2:]
    return same_name and (not os.path.lexists(there) or read_file(there) == data)
