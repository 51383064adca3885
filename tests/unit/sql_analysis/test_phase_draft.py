# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drafted phase and its playbook are read as."""

from __future__ import annotations

import jinja2
import pytest
import yaml
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.phase_draft import draft_phase
from ansible_collections.incomex.phasegate.plugins.modules.new_phase import playbook_of


@pytest.mark.parametrize("name", ["null", "true", "no", "orders"])
def test_a_name_is_read_as_a_text(name: str) -> None:
    sql = "CREATE TABLE app.t (id int);\n"
    read = yaml.safe_load(draft_phase(name, SourceFile("migrate.sql", "migrate.sql", sql.encode())).definition)
    assert (read["phase"], read["title"]) == (name, name.capitalize())
    assert yaml.safe_load(playbook_of(name, name.capitalize(), "phases"))[0]["name"] == name.capitalize()


@pytest.mark.parametrize("schema", [" a", "a ", ".inf", ".5", " ", "\U0001f600", "app"])
def test_a_schema_is_read_as_its_name(schema: str) -> None:
    sql = f'CREATE TABLE "{schema}".t (id int);\n'
    definition = draft_phase("one", SourceFile("migrate.sql", "migrate.sql", sql.encode())).definition
    assert yaml.safe_load(definition)["scope"]["schemas"] == [schema]


@pytest.mark.parametrize("folder", ["phases", 'a"b', "a\\nb", "{{ x }}", "{% if %}", "{# c", "\U0001f600 it's"])
def test_a_playbook_points_to_its_phase(folder: str) -> None:
    path = yaml.safe_load(playbook_of("one", "One", folder))[0]["vars"]["phasegate_phase_file"]
    text = jinja2.Environment().from_string(path).render(playbook_dir="/p")  # noqa: S701
    assert text == f"/p/{folder}/one/phase.yml"
