#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check a phase's files, show what they do, and bring phase.yml up to date."""

from __future__ import annotations

DOCUMENTATION = r"""
module: phase_check
short_description: Check the files of a phase and show what they do
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Validates C(phase.yml) and the two SQL files beside it as M(incomex.phasegate.phase_plan) does, and returns in lines what each
    statement does, which lock it takes, what waits for it, and a safer form where one is known. Squawk's findings are beside them
    if C(squawk-cli) is installed.
  - With O(write) the digests, tags and scope of C(phase.yml) are brought up to date with the SQL after an edit. Nothing else of the
    file changes, and comments stay. What has to be decided by a person is a problem as before.
  - With O(observed) what a draft showed on its copy is filled in where C(phase.yml) leaves it open or has nothing - row counts, the
    trailing result, rewrites, changes of data, row counts of tables, columns that triggers change, permitted differences, checks of
    each changed object, and what the rollback does not bring back. What is declared stays.
  - Without O(write) nothing is written; the difference shows what would be.
  - Run it on the controller.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_offline
attributes:
  check_mode:
    support: full
    details: No file is written.
  diff_mode:
    support: full
    details: The difference of C(phase.yml) is shown.
  idempotent:
    support: full
    details: A definition that is up to date is not changed.
options:
  path:
    description: Path of the phase's C(phase.yml).
    type: path
    required: true
  observed:
    description: What M(incomex.phasegate.rehearse) returned as RV(incomex.phasegate.rehearse#module:observed).
    type: dict
  write:
    description: Whether to write the repaired or completed C(phase.yml).
    type: bool
    default: false
requirements:
  - pglast >= 7
  - jsonschema >= 4
  - PyYAML
seealso:
  - module: incomex.phasegate.phase_plan
  - module: incomex.phasegate.new_phase
"""

EXAMPLES = r"""
- name: Bring the definition up to date with its SQL
  incomex.phasegate.phase_check:
    path: phases/orders-archive/phase.yml
    write: true
  diff: true
"""

RETURN = r"""
lines:
  description: What the phase does, for people.
  returned: success
  type: list
  elements: str
next_command:
  description: The command that comes next, for V(HOST) and V(NAME) of the author - the draft again, to write what it shows or because
    its rollback did not restore the schema, else the rehearsal.
  returned: success, with O(observed)
  type: str
notes:
  description: What a draft showed and C(phase.yml) cannot take over, because it declares something else; a text each.
  returned: success, with O(observed)
  type: list
  elements: str
repairs:
  description: The difference between C(phase.yml) as it was and as its SQL needs it, or as what was observed completes it, as a
    unified diff. Empty if it is up to date.
  returned: always, if C(phase.yml) is the definition of a phase
  type: str
"""

import difflib
import os
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.incomex.phasegate.plugins.module_utils._common.commands import rehearse_command
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    plan_file_error,
    replace_file,
    resolved,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import (
    HAS_JSONSCHEMA,
    Phase,
    load_phase,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.strict_yaml import HAS_YAML
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import NEWEST
from ansible_collections.incomex.phasegate.plugins.module_utils._review.overview import overview
from ansible_collections.incomex.phasegate.plugins.module_utils._review.squawk import find_squawk, run_squawk
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.advice import advise_file
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_proposal import (
    PhaseProposal,
    propose_phase,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_repair import (
    RepairedPhase,
    repair_phase,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import HAS_PGLAST


def lines_of(phase: Phase) -> List[str]:
    """Return what a phase does, for people. Raises ``PhaseFileError``."""
    statements = analyse_phase(phase)
    program = find_squawk()
    wrapped = all(one["run"] for one in statements.migrate)
    findings = run_squawk(program, phase.migrate.data, str(NEWEST), wrapped=wrapped) if program else []
    return overview(phase.definition, statements.migrate, statements.rollback, advise_file(phase.migrate), findings)


def difference(repaired: RepairedPhase | PhaseProposal, path: str) -> str:
    """Return what a repair changes, as a unified diff."""
    before, after = (text.splitlines(keepends=True) for text in (repaired.before, repaired.after))
    return "".join(difflib.unified_diff(before, after, fromfile=path, tofile=path, n=1))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "observed": {"type": "dict"},
            "write": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params: Dict[str, Any] = module.params
    for library, present in (("pglast", HAS_PGLAST), ("jsonschema", HAS_JSONSCHEMA), ("PyYAML", HAS_YAML)):
        if not present:
            module.fail_json(msg=missing_required_lib(library, reason="on the controller"))
    with errors_of(module, file_error=plan_file_error):
        path = resolved(params["path"])
        observed = params["observed"]
        repaired = propose_phase(path, observed) if observed else repair_phase(path)
        stale = repaired.before != repaired.after
        given: Dict[str, Any] = {"repairs": difference(repaired, os.path.basename(path))}
        if stale:
            header = {"before_header": path, "after_header": path}
            given["diff"] = {"before": repaired.before, "after": repaired.after, **header}
        if params["write"] and stale and not module.check_mode:
            replace_file(path, repaired.after.encode("utf-8"))
        given["changed"] = params["write"] and stale
        if isinstance(repaired, PhaseProposal):
            given["notes"] = repaired.notes
            again = not observed["rollback"]["restored"] or (stale and not params["write"])
            given["next_command"] = rehearse_command(path, draft=again)
            module.exit_json(lines=lines_of(load_phase(path, repaired.after.encode("utf-8"))), **given)
            return
        if repaired.problems:
            module.fail_json(msg=str(PhaseFileError(repaired.problems)), **given)
        if stale and not params["write"]:
            error = PhaseGateError(
                "phase.yml is not up to date with its SQL.",
                expected="digests, tags and scope as the SQL needs them",
                found="\n" + given["repairs"],
                next_step="write it: -e phasegate_write=true (module option write); then read it as a reviewer would",
            )
            module.fail_json(msg=str(error), **given)
        module.exit_json(lines=lines_of(load_phase(path, repaired.after.encode("utf-8"))), **given)


if __name__ == "__main__":
    main()
