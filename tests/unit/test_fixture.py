# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixture has the figures of 2026-05-16, and its triggers do what the phase has to live with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT count(*), count(DISTINCT canonical_address) FROM public.tac_logical_unit", "86|86"),
        ("SELECT count(*) FROM sandbox_tac.logical_unit", "76"),
        ("SELECT DISTINCT lifecycle_status FROM public.tac_logical_unit", "draft_only"),
        (
            "SET TimeZone = 'UTC'; SELECT count(DISTINCT updated_at), min(updated_at), max(updated_at)"
            " FROM public.tac_logical_unit",
            "3|2026-04-29 05:27:37.951703+00|2026-04-30 03:12:19.569465+00",
        ),
        (
            "SELECT count(*) FROM public.tac_logical_unit AS u"
            " LEFT JOIN public.tac_section_type_vocab AS v USING (section_type) WHERE v.is_active IS NOT TRUE",
            "0",
        ),
        *(
            (
                f"SELECT count(*) FROM {table} AS u LEFT JOIN {table} AS p ON p.unit_id = u.parent_id"
                " WHERE u.parent_id IS NOT NULL AND p.doc_code IS DISTINCT FROM u.doc_code",
                "0",
            )
            for table in ("public.tac_logical_unit", "sandbox_tac.logical_unit")
        ),
        (
            "SELECT count(*) FROM public.tac_logical_unit"
            " WHERE canonical_address !~ ('^' || doc_code || '/' || section_type || '/[1-9][0-9]*$')",
            "0",
        ),
        (
            "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class"
            " WHERE relnamespace = 'cutter_governance'::regnamespace AND relkind = 'r'",
            "cut_operation cut_run governance_event verify_finding verify_run",
        ),
        (
            "SELECT (SELECT count(*) FROM cutter_governance.cut_run)"
            " + (SELECT count(*) FROM cutter_governance.cut_operation)"
            " + (SELECT count(*) FROM cutter_governance.verify_run)"
            " + (SELECT count(*) FROM cutter_governance.verify_finding)"
            " + (SELECT count(*) FROM cutter_governance.governance_event)",
            "0",
        ),
        ("SELECT string_agg(tgname, ',') FROM pg_trigger WHERE NOT tgisinternal", "trg_tac_birth_gate_lu"),
    ],
)
def test_figure(cluster: Cluster, database: str, query: str, expected: str) -> None:
    assert cluster.psql(query, database) == expected


def test_any_update_of_a_public_unit_moves_its_updated_at(cluster: Cluster, database: str) -> None:
    cluster.psql("UPDATE public.tac_logical_unit SET body = body", database)
    assert cluster.psql("SELECT count(DISTINCT updated_at) FROM public.tac_logical_unit", database) == "1"
