#!/usr/bin/python
# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draft the files of a phase from its SQL."""

from __future__ import annotations

DOCUMENTATION = r"""
module: new_phase
short_description: Draft the files of a phase from its SQL
version_added: 0.1.0
author: incomex.phasegate contributors (@incomex)
description:
  - Writes C(phase.yml), C(rollback.sql) and a playbook for a new phase. A file that is there already is never overwritten, and
    then none is written.
  - From the SQL alone it takes the digests, tags, kinds of statements, schemas and functions, the checks that what is created does
    not exist before and exists afterwards, and that what is altered exists.
  - The rollback has the inverse of each statement that has one certain inverse, the last statement first. For any other statement
    it has a comment that begins with C(-- WRITE BY HAND).
  - Row counts, results and permitted differences are what a rehearsal tells. A draft is not reviewed by this module, and a
    rehearsal proves its rollback or refuses it.
  - With O(from_file) it converts one change of a migration tool, with the script that undoes it. What a person has to solve is listed
    in one round, and what can be converted without a decision is converted. The tool's files are only read.
  - Run it on the controller.
extends_documentation_fragment:
  - incomex.phasegate._attributes
  - incomex.phasegate._attributes.group_offline
attributes:
  check_mode:
    support: full
    details: Everything is read and drafted. No file is written.
  diff_mode:
    support: full
    details: The new files are shown.
  idempotent:
    support: none
    details: A second call fails, because the files are there.
options:
  name:
    description: Name of the phase, lower-case letters, digits, C(-) and C(_). Its directory has this name.
    type: str
    required: true
  directory:
    description: The directory that has, or will have, that of the phase. The playbook is written beside it.
    type: path
    required: true
  sql:
    description:
      - Path of the SQL of the change. It is copied to C(migrate.sql).
      - By default C(migrate.sql) is in the directory of the phase already.
    type: path
  from_file:
    description:
      - Path of the change in the format of a migration tool, in place of O(sql).
      - What undoes it is taken from the same file, or from the one that the tool has for it.
    type: path
  from_format:
    description: The format of O(from_file). By default it is recognised by the file's name and content.
    type: str
    choices: [liquibase, sqitch, flyway, dbmate, node-pg-migrate, golang-migrate, diesel, dump]
  from_changeset:
    description: Which changeset of a changelog of Liquibase, by its id or C(author:id), where the file has several.
    type: str
  from_schema:
    description: The schema of names without one in O(from_file), until it sets a C(search_path) itself.
    type: str
    default: public
  role:
    description: The role that runs the phase. Statements of O(from_file) that give an object to it are left out.
    type: str
requirements:
  - pglast >= 7
  - jsonschema >= 4
  - PyYAML
seealso:
  - module: incomex.phasegate.phase_plan
"""

EXAMPLES = r"""
- name: Draft a phase
  incomex.phasegate.new_phase:
    name: orders-archive
    directory: phases
    sql: /home/anna/orders-archive.sql

- name: Make a phase from a migration of dbmate
  incomex.phasegate.new_phase:
    name: orders-archive
    directory: phases
    from_file: db/migrations/20260516_orders_archive.sql
"""

RETURN = r"""
files:
  description: Paths of the files that were written.
  returned: success
  type: list
  elements: str
next_command:
  description: The command that rehearses the phase, for V(HOST) and V(NAME) of the author.
  returned: success
  type: str
by_hand:
  description: Lines of C(migrate.sql) whose statements a person has to undo in C(rollback.sql).
  returned: success
  type: list
  elements: int
problems:
  description: What the plan of this phase would still be refused for, one text each. Empty if it can be rehearsed.
  returned: success
  type: list
  elements: str
notes:
  description: What a person has to know of the conversion from O(from_file), one text each.
  returned: success
  type: list
  elements: str
"""

import json
import os
import re
import tempfile
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Optional

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.incomex.phasegate.plugins.module_utils._common.commands import rehearse_command
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.files import (
    SMALL,
    plan_file_error,
    read_file,
    replace_file,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import errors_of
from ansible_collections.incomex.phasegate.plugins.module_utils._common.text import escaped
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.change import Script
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.convert import Conversion, Given, convert
from ansible_collections.incomex.phasegate.plugins.module_utils._conversion.formats import FORMATS
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_edit import scalar
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import (
    HAS_JSONSCHEMA,
    SourceFile,
    load_phase,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import PhaseFileError, Problem
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.strict_yaml import HAS_YAML
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_draft import (
    PhaseDraft,
    draft_phase,
    sql_problems,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_sql import analyse_phase
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import HAS_PGLAST

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")

_PLAYBOOK = """---
# Execute this phase: ansible-playbook {file} -l HOST -e phasegate_plan=PLAN
- name: {title}
  ansible.builtin.import_playbook: incomex.phasegate.execute
  vars:
    phasegate_phase_file: {path}
"""


def playbook_of(name: str, title: str, folder: str) -> bytes:
    """Return the playbook of a phase; ``folder`` is the name of the directory beside it that has the phase's own."""
    # no brace of the name begins a template
    place = f"{folder}/{name}/phase.yml".replace("{", "{{ '{' }}")
    path = json.dumps("{{ playbook_dir }}/" + place, ensure_ascii=False)
    return _PLAYBOOK.format(file=f"{name}.yml", title=scalar(title), path=path).encode("utf-8")


@dataclass(frozen=True)
class Source:
    """Where the SQL of a phase is from: nowhere else than its directory, a file of SQL, or one of a migration tool."""

    sql: str = ""
    tool_file: str = ""
    given: Given = field(default_factory=Given)


@dataclass(frozen=True)
class Drafted:
    """The files to write by their paths, the draft, and what is left to do."""

    files: Dict[str, bytes]
    draft: PhaseDraft
    problems: List[str]
    notes: List[str] = field(default_factory=list)


def given_file(path: str) -> bytes:
    """Return the bytes of a file that was given. Raises ``PhaseGateError`` where there is none."""
    given = read_file(path, SMALL)
    if given is None:
        raise PhaseGateError("The SQL is missing.", expected="a file", found=path, next_step="give the path of the SQL")
    return given


def converted(source: Source) -> Optional[Conversion]:
    """Return the files that are made from one of a migration tool, None for another source. Raises ``PhaseGateError``."""
    if not source.tool_file:
        return None
    data = given_file(source.tool_file)
    return convert(source.tool_file, data, source.given)


def migration_of(folder: str, sql: str, made: Optional[Script]) -> bytes:
    """Return the bytes of the migration. Raises ``PhaseGateError`` where there is none, or two that differ."""
    there = read_file(os.path.join(folder, "migrate.sql"), SMALL)
    if not sql and made is None:
        if there is None:
            raise PhaseGateError(
                "There is no SQL to draft a phase from.",
                expected=f"{folder}/migrate.sql, or the path of the SQL (phasegate_sql, or phasegate_from of a migration tool)",
                found="none of them",
                next_step="write the SQL of the change there, or give its path",
            )
        return there
    given = given_file(sql) if made is None else made.text.data
    sql = sql if made is None else made.path
    if there is not None and there != given:
        raise PhaseGateError(
            "The directory of the phase has another migrate.sql.",
            expected=f"none, or what is made from {sql}",
            found=f"{folder}/migrate.sql with other bytes",
            next_step="leave the path out to draft from the file that is there, or choose another name",
        )
    return given


def require_none(paths: List[str]) -> None:
    """Raise ``PhaseGateError`` where one of the files to write is there."""
    there = [path for path in paths if os.path.lexists(path)]
    if there:
        raise PhaseGateError(
            "A file of this phase is there already; nothing was written.",
            expected=f"none of {', '.join(paths)}",
            found=", ".join(there),
            next_step="choose another name, or move what is there away",
        )


def problems_of(texts: Dict[str, bytes]) -> List[str]:
    """Return what the plan of a drafted phase would be refused for."""
    found: List[Problem] = []
    with tempfile.TemporaryDirectory(prefix="phasegate-") as place:
        for name, data in texts.items():
            with open(os.path.join(place, name), "wb") as stream:
                stream.write(data)
        try:
            phase = load_phase(os.path.join(place, "phase.yml"))
        except PhaseFileError as error:
            sources = [SourceFile(name, name, texts[name]) for name in ("migrate.sql", "rollback.sql")]
            found = [*error.problems, *sql_problems(*sources)]
        else:
            try:
                analyse_phase(phase)
            except PhaseFileError as error:
                found = error.problems
    return [problem.text().replace(place + os.sep, "") for problem in found]


def in_tool_files(problems: List[Problem], made: Conversion) -> PhaseFileError:
    """Return the problems of a conversion and of what it made, each at its line of the tool's file, and all of them."""
    scripts = {"migrate.sql": made.migrate, **({"rollback.sql": made.rollback} if made.rollback else {})}
    found: List[Problem] = [*made.problems, *made.left]
    for one in problems:
        script = scripts.get(one.file)
        # of a file without a statement that could be read, why is told already
        if script is not None and (one.what != "no statement" or not made.problems):
            line = script.text.lines[one.line - 1] if 0 < one.line <= len(script.text.lines) else 0
            found.append(replace(one, file=script.path, line=line))
    return PhaseFileError(list(dict.fromkeys(found)), shown=len(found))


def _draft(name: str, migrate: SourceFile, made: Optional[Conversion]) -> PhaseDraft:
    """Return the draft of a phase. Raises ``PhaseFileError`` with all that is wrong with its SQL."""
    if made is None:
        return draft_phase(name, migrate)
    undo = SourceFile("rollback.sql", "rollback.sql", made.rollback.text.data) if made.rollback else None
    try:
        draft = draft_phase(name, migrate, undo)
    except PhaseFileError as error:
        raise in_tool_files(error.problems, made) from error
    if made.problems:
        rollback = SourceFile("rollback.sql", "rollback.sql", draft.rollback.encode("utf-8"))
        raise in_tool_files(sql_problems(migrate, rollback), made)
    return draft


def drafted(name: str, directory: str, source: Source) -> Drafted:
    """Return what is to be written, and what is left to do. Raises ``PhaseGateError``, ``OSError``."""
    if not _NAME.fullmatch(name):
        raise PhaseGateError(
            "Invalid name of a phase.",
            expected="lower-case letters, digits, - and _, a letter first",
            found=repr(name),
            next_step="choose another name, such as orders-archive",
        )
    folder = os.path.join(directory, name)
    playbook = os.path.join(os.path.dirname(os.path.abspath(directory)), f"{name}.yml")
    own = [os.path.join(folder, "phase.yml"), os.path.join(folder, "rollback.sql"), playbook]
    require_none(own)
    made = converted(source)
    migration = migration_of(folder, source.sql, made.migrate if made else None)
    read_from = "migrate.sql" if made else source.sql or os.path.join(folder, "migrate.sql")
    draft = _draft(name, SourceFile("migrate.sql", read_from, migration), made)
    texts = {
        "migrate.sql": migration,
        "phase.yml": draft.definition.encode("utf-8"),
        "rollback.sql": draft.rollback.encode("utf-8"),
    }
    title = name.replace("-", " ").replace("_", " ").capitalize()
    files = {os.path.join(folder, one): data for one, data in texts.items()}
    if read_from == os.path.join(folder, "migrate.sql"):
        del files[read_from]
    files[playbook] = playbook_of(name, title, os.path.basename(os.path.abspath(directory)))
    left = [one.text() for one in made.left] if made else []
    return Drafted(files, draft, [*left, *problems_of(texts)], list(made.notes) if made else [])


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "sql": {"type": "path"},
            "from_file": {"type": "path"},
            "from_format": {"type": "str", "choices": list(FORMATS)},
            "from_changeset": {"type": "str"},
            "role": {"type": "str"},
            "from_schema": {"type": "str", "default": "public"},
        },
        mutually_exclusive=[("sql", "from_file")],
        required_by={"from_format": ["from_file"], "from_changeset": ["from_file"]},
        supports_check_mode=True,
    )
    params: Dict[str, Any] = module.params
    for library, present in (("pglast", HAS_PGLAST), ("jsonschema", HAS_JSONSCHEMA), ("PyYAML", HAS_YAML)):
        if not present:
            module.fail_json(msg=missing_required_lib(library, reason="on the controller"))
    with errors_of(module, file_error=plan_file_error):
        given = Given(
            params["from_format"] or "", params["from_changeset"] or "", params["from_schema"], params["role"] or ""
        )
        source = Source(params["sql"] or "", params["from_file"] or "", given)
        found = drafted(params["name"], params["directory"], source)
        files = found.files
        for path, data in files.items() if not module.check_mode else ():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            replace_file(path, data)
        diff = [
            {"before": "", "after": data.decode("utf-8"), "before_header": "/dev/null", "after_header": path}
            for path, data in files.items()
        ]
        definition = next(path for path in files if os.path.basename(path) == "phase.yml")
        module.exit_json(
            changed=True,
            files=list(files),
            next_command=rehearse_command(definition),
            by_hand=found.draft.by_hand,
            problems=found.problems,
            # a tool's file has texts of its own
            notes=[escaped(one) for one in found.notes],
            diff=diff,
        )


if __name__ == "__main__":
    main()
