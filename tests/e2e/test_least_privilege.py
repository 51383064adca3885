# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole chain by a role that is no superuser and has nothing but what docs/operations.md says under "The role"."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support.cluster import SUPERUSER, running_cluster
from ansible_collections.incomex.phasegate.tests.support.phase_files import PhaseFiles
from ansible_collections.incomex.phasegate.tests.support.playbook import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ansible_collections.incomex.phasegate.tests.support.target import Target

OWNER = """
CREATE ROLE directus_owner;
ALTER TABLE public.tac_logical_unit OWNER TO directus_owner;
ALTER TABLE sandbox_tac.logical_unit OWNER TO directus_owner;
GRANT USAGE, CREATE ON SCHEMA sandbox_tac, cutter_governance TO directus_owner;
REVOKE ALL ON DATABASE {database} FROM PUBLIC;
"""


def documented() -> str:
    """Return the statements of the page, those for special cases left out."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.split("### The role\n", 1)[1].split("\n### ", 1)[0]
    match = re.search(r"```sql\n(.*?)```", section, re.DOTALL)
    assert match is not None
    return match[1]


@pytest.fixture
def weak(target: Target) -> Iterator[Target]:
    """The target with the role phase_role, which is a member of the owner of what Phase Alpha changes."""
    statements = documented().replace("directus TO", f"{target.database} TO")
    target.cluster.psql(OWNER.format(database=target.database) + statements, target.database)
    identity = target.identity(user="phase_role")
    target.hostvars = {"phasegate_user": "phase_role", "phasegate_identity": identity}
    yield target
    for role in ("phase_role", "directus_owner"):
        target.cluster.psql(
            f"REASSIGN OWNED BY {role} TO {SUPERUSER}; DROP OWNED BY {role}; DROP ROLE {role}", target.database
        )


@pytest.mark.fault("weak-role")
def test_the_chain_by_a_role_that_is_no_superuser(weak: Target, tmp_path: Path) -> None:
    assert weak.rows("SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = 'phase_role'") == [(False, False)]
    schema = weak.dump("--schema-only")
    with running_cluster(rehearsal=True) as other:
        # the roles are not there, and the rehearsal's is a superuser of another name
        other.psql("CREATE ROLE rehearser SUPERUSER LOGIN")
        rehearsed = weak.rehearse(other, user="rehearser")
        assert rehearsed.rc == 0, rehearsed.stdout
        owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'canonical_address_alias'"
        assert other.psql(owner, weak.database) == "phase_role"
        # not what no rehearsal made
        assert other.psql("SELECT rolsuper FROM pg_roles WHERE rolname = 'rehearser'") == "t"
    (plan,) = (tmp_path / "plans").glob("*/plan.json")
    pinned = json.loads(plan.read_text(encoding="utf-8"))
    assert pinned["target"]["user"] == "phase_role"
    assert pinned["rehearsal"]["role"] == {"name": "phase_role", "refused": ""}

    executed = weak.play(extra_vars={"phasegate_plan": str(plan)})
    assert "outcome       SUCCESS" in executed.stdout, executed.stdout
    execution = next(one for one in weak.bundles() if '"COMMITTED"' in one.text("journal.jsonl"))
    assert execution.gates["G-10"] == "PASS"

    extra = {"phasegate_execution": str(execution.path), "phasegate_confirm": execution.path.name}
    undone = weak.play("playbooks/rollback.yml", extra_vars=extra)
    assert "outcome       SUCCESS" in undone.stdout, undone.stdout
    assert weak.dump("--schema-only") == schema


# As the author of a phase, before anybody has reviewed it: become the superuser who opened the session.
ESCAPE = b"""DO $$ BEGIN
  EXECUTE 'RESET ROLE';
  EXECUTE 'RESET SESSION AUTHORIZATION';
  IF pg_catalog.current_setting('is_superuser') = 'on' THEN RAISE 'escaped to %', current_user; END IF;
END $$;
"""


@pytest.mark.fault("rehearsal-escape")
@pytest.mark.parametrize("login", [True, False])
def test_sql_that_nobody_reviewed_cannot_become_the_rehearsals_superuser(
    weak: Target, tmp_path: Path, login: bool
) -> None:
    (tmp_path / "small").mkdir()
    files = PhaseFiles(tmp_path / "small")
    definition = {
        "scope": {"schemas": ["sandbox_tac"], "statements": ["DO", "DO EXECUTE"]},
        "expect": {"tags": {"DO": 1}},
    }
    files.write(definition, ddl=ESCAPE, rollback=b"DROP TABLE IF EXISTS sandbox_tac.none;\n")
    with running_cluster(rehearsal=True) as other:
        if not login:
            hba = other.data / "pg_hba.conf"
            hba.write_text("local all phase_role reject\n" + hba.read_text(encoding="utf-8"), encoding="utf-8")
            other.psql("SELECT pg_reload_conf()")
        rehearsed = weak.rehearse(other, files.path)
    if login:
        assert rehearsed.rc == 0, rehearsed.stdout
        (plan,) = (tmp_path / "plans").glob("*/plan.json")
        assert "phase_role, in a session of its own" in plan.with_name("review.md").read_text(encoding="utf-8")
    else:
        # the limit that the documentation and the review package name
        assert "escaped to workflow_admin" in rehearsed.stdout


@pytest.mark.fault("rehearsal-escape")
def test_a_role_that_is_a_superuser_of_the_rehearsal_cluster_alone_is_told(weak: Target, tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    files = PhaseFiles(tmp_path / "small")
    definition = {"scope": {"schemas": ["sandbox_tac"], "statements": ["CREATE TABLE"]}}
    files.write(definition, ddl=b"CREATE TABLE sandbox_tac.t (id int);\n", rollback=b"DROP TABLE sandbox_tac.t;\n")
    with running_cluster(rehearsal=True) as other:
        other.psql("CREATE ROLE phase_role SUPERUSER LOGIN")
        rehearsed = weak.rehearse(other, files.path, user="phase_role")
    assert rehearsed.rc == 0, rehearsed.stdout
    (plan,) = (tmp_path / "plans").glob("*/plan.json")
    review = plan.with_name("review.md").read_text(encoding="utf-8")
    assert "it is a superuser there and not on the target" in review[review.index("Review these first") :]
