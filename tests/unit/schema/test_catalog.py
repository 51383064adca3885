# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every kind of object is seen: each statement below is run on a real server, in a transaction that is rolled back.

One statement proves four things: the diff names the change and gives it its class, the delta that is read inside the
transaction equals a full reading, the fingerprint moves, and after the rollback the catalogs are as they were.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.catalog.all_kinds import QUERIES
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.diff import diff
from ansible_collections.incomex.phasegate.plugins.module_utils._schema.reader import (
    read_changed,
    read_facts,
    take_snapshot,
    unchanged_since,
)
from ansible_collections.incomex.phasegate.tests.support.cluster import MAJOR
from ansible_collections.incomex.phasegate.tests.support.runs import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import Session
    from ansible_collections.incomex.phasegate.plugins.module_utils._schema.snapshot import Snapshot
    from ansible_collections.incomex.phasegate.tests.support.cluster import Cluster

SCHEMA = Path(__file__).parents[2] / "fixtures" / "every_kind.sql"
ADDITIVE, COSMETIC, WIDENING, CHANGING = "additive", "cosmetic", "widening", "changing"
NARROWING, DESTRUCTIVE = "narrowing", "destructive"


class Case(NamedTuple):
    """``change`` is ``kind action`` or ``kind attribute``; ``gravest`` the gravest class of the whole diff.

    ``since`` is the first major version of PostgreSQL that has the statement.
    """

    sql: str
    change: str
    gravest: str
    since: int = 14


CASES = [
    # schemas
    Case("CREATE SCHEMA more", "schema added", ADDITIVE),
    Case("DROP SCHEMA archive CASCADE", "schema removed", DESTRUCTIVE),
    Case("ALTER SCHEMA archive RENAME TO attic", "schema renamed", DESTRUCTIVE),
    Case("ALTER SCHEMA shop RENAME TO store", "schema renamed", DESTRUCTIVE),
    Case("ALTER SCHEMA archive OWNER TO pg_monitor", "schema owner", CHANGING),
    Case("COMMENT ON SCHEMA shop IS 'other'", "schema comment", COSMETIC),
    Case("GRANT CREATE ON SCHEMA shop TO pg_monitor", "acl privileges", WIDENING),
    Case("REVOKE USAGE ON SCHEMA shop FROM pg_monitor", "acl privileges", DESTRUCTIVE),
    Case("REVOKE USAGE ON SCHEMA public FROM PUBLIC", "acl privileges", DESTRUCTIVE),
    Case("DROP SCHEMA public CASCADE; CREATE SCHEMA public", "acl privileges", DESTRUCTIVE),
    # tables
    Case("CREATE TABLE shop.extra (id int PRIMARY KEY, c int REFERENCES shop.orders)", "table added", ADDITIVE),
    Case("DROP TABLE shop.cache", "table removed", DESTRUCTIVE),
    Case("DROP TABLE shop.customer CASCADE", "table removed", DESTRUCTIVE),
    Case("ALTER TABLE shop.orders RENAME TO purchases", "table renamed", DESTRUCTIVE),
    Case("ALTER TABLE shop.cache SET SCHEMA archive", "table renamed", DESTRUCTIVE),
    Case("ALTER TABLE shop.cache OWNER TO pg_monitor", "table owner", CHANGING),
    Case("ALTER TABLE shop.cache SET LOGGED", "table persistence", WIDENING),
    Case("ALTER TABLE shop.letter SET UNLOGGED", "table persistence", DESTRUCTIVE),
    Case("ALTER TABLE shop.cache SET (fillfactor = 80)", "table options", CHANGING),
    Case("ALTER TABLE shop.cache SET (toast.autovacuum_enabled = off)", "table toast_options", CHANGING),
    Case("ALTER TABLE shop.cache SET ACCESS METHOD second_heap", "table access_method", CHANGING, 15),
    Case("ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY", "table row_security", NARROWING),
    Case("ALTER TABLE shop.customer DISABLE ROW LEVEL SECURITY", "table row_security", DESTRUCTIVE),
    Case("ALTER TABLE shop.customer FORCE ROW LEVEL SECURITY", "table force_row_security", NARROWING),
    Case("ALTER TABLE shop.orders REPLICA IDENTITY FULL", "table replica_identity", CHANGING),
    Case("ALTER TABLE shop.orders REPLICA IDENTITY USING INDEX orders_pkey", "index replica_identity", CHANGING),
    Case("ALTER TABLE shop.home OF shop.address", "table of_type", CHANGING),
    Case("COMMENT ON TABLE shop.orders IS 'what is ordered'", "table comment", COSMETIC),
    Case("COMMENT ON TABLE shop.customer IS NULL", "table comment", COSMETIC),
    Case("ALTER TABLE shop.measurement DETACH PARTITION shop.measurement_2025", "table parents", DESTRUCTIVE),
    Case("ALTER TABLE shop.measurement ATTACH PARTITION shop.measurement_2026"
         " FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')", "table partition_bound", CHANGING),
    Case("ALTER TABLE shop.letter NO INHERIT shop.base_doc", "table parents", DESTRUCTIVE),
    Case("GRANT INSERT ON shop.orders TO PUBLIC", "acl privileges", WIDENING),
    Case("REVOKE SELECT ON shop.orders FROM pg_monitor", "acl privileges", DESTRUCTIVE),
    Case("GRANT SELECT ON shop.orders TO pg_monitor WITH GRANT OPTION", "acl privileges", WIDENING),
    Case("ALTER TABLE shop.home RENAME TO h; CREATE TABLE shop.home (LIKE shop.h)", "table renamed", DESTRUCTIVE),
    Case("ALTER TABLE shop.home RENAME TO h; ALTER TABLE shop.base_doc RENAME TO home;"
         " ALTER TABLE shop.h RENAME TO base_doc", "table renamed", DESTRUCTIVE),
    Case("REVOKE ALL ON shop.letter FROM CURRENT_USER", "acl privileges", DESTRUCTIVE),
    Case("GRANT SELECT (email) ON shop.customer TO pg_monitor", "acl privileges", WIDENING),
    Case("REVOKE UPDATE (name) ON shop.customer FROM pg_monitor", "acl privileges", DESTRUCTIVE),
    # columns
    Case("ALTER TABLE shop.orders ADD COLUMN note text", "column added", ADDITIVE),
    Case("ALTER TABLE shop.orders ADD COLUMN note text NOT NULL DEFAULT 'none'", "column added", ADDITIVE),
    Case("ALTER TABLE shop.cache ADD COLUMN note text NOT NULL", "column added", NARROWING),
    Case("ALTER TABLE shop.orders ADD COLUMN note text; ALTER TABLE shop.orders ALTER note SET DEFAULT 'x';"
         " COMMENT ON COLUMN shop.orders.note IS 'x'", "column added", ADDITIVE),
    Case("ALTER TABLE shop.customer DROP COLUMN home", "column removed", DESTRUCTIVE),
    Case("ALTER TABLE shop.customer DROP COLUMN home; ALTER TABLE shop.customer ADD COLUMN home text", "column removed", DESTRUCTIVE),
    Case("ALTER TABLE shop.customer RENAME name TO was; ALTER TABLE shop.customer ADD COLUMN name text",
         "column renamed", DESTRUCTIVE),
    Case("ALTER TABLE shop.home ADD COLUMN due shop.due", "column added", NARROWING),
    Case("ALTER TABLE shop.home ALTER street TYPE date USING NULL", "column type", DESTRUCTIVE),
    Case("ALTER TABLE shop.customer RENAME COLUMN name TO full_name", "column renamed", DESTRUCTIVE),
    Case("ALTER TABLE shop.customer ALTER email TYPE varchar(200)", "column type", WIDENING),
    Case("ALTER TABLE shop.customer ALTER email TYPE varchar(50)", "column type", DESTRUCTIVE),
    Case("ALTER TABLE shop.base_doc ALTER id TYPE bigint", "column type", WIDENING),
    Case("ALTER TABLE shop.customer ALTER name SET NOT NULL", "column not_null", DESTRUCTIVE),
    Case("ALTER TABLE shop.customer ALTER email DROP NOT NULL", "column not_null", WIDENING),
    Case("ALTER TABLE shop.customer ALTER level DROP DEFAULT", "column default", DESTRUCTIVE),
    Case("ALTER TABLE shop.customer ALTER level SET DEFAULT 2", "column default", CHANGING),
    Case("ALTER TABLE shop.orders ALTER gross DROP EXPRESSION", "column generated", DESTRUCTIVE),
    Case("ALTER TABLE shop.customer ALTER id DROP IDENTITY", "column identity", DESTRUCTIVE),
    Case("ALTER TABLE shop.customer ALTER id SET GENERATED BY DEFAULT", "column identity", WIDENING),
    Case("ALTER TABLE shop.orders ALTER id ADD GENERATED ALWAYS AS IDENTITY", "column identity", NARROWING),
    Case("ALTER TABLE shop.orders ALTER id ADD GENERATED BY DEFAULT AS IDENTITY", "column identity", CHANGING),
    Case('ALTER TABLE shop.customer ALTER name TYPE text COLLATE "C"', "column collation", CHANGING),
    Case("ALTER TABLE shop.customer ALTER name SET STORAGE EXTERNAL", "column storage", CHANGING),
    Case("ALTER TABLE shop.customer ALTER name SET COMPRESSION pglz", "column compression", CHANGING),
    Case("ALTER TABLE shop.customer ALTER name SET STATISTICS 500", "column statistics_target", COSMETIC),
    Case("ALTER TABLE shop.customer ALTER name SET (n_distinct = 5)", "column options", COSMETIC),
    Case("COMMENT ON COLUMN shop.customer.email IS NULL", "column comment", COSMETIC),
    Case("ALTER TABLE shop.letter ALTER title SET DEFAULT 'x'", "column default", CHANGING),
    Case("ALTER TABLE shop.base_doc ADD COLUMN stamp text", "column inherited", CHANGING),
    # constraints and indexes
    Case("ALTER TABLE shop.orders ADD CONSTRAINT c CHECK (id > 0)", "constraint added", NARROWING),
    Case("ALTER TABLE shop.letter ADD CONSTRAINT l UNIQUE (id)", "constraint added", NARROWING),
    Case("ALTER TABLE shop.letter ADD PRIMARY KEY (id)", "constraint added", DESTRUCTIVE),
    Case("ALTER TABLE shop.letter ADD EXCLUDE USING btree (id WITH =)", "constraint added", NARROWING),
    Case("ALTER TABLE shop.letter ADD FOREIGN KEY (id) REFERENCES shop.orders NOT VALID", "constraint added", NARROWING),
    Case("ALTER TABLE shop.orders DROP CONSTRAINT orders_customer_fkey", "constraint removed", DESTRUCTIVE),
    Case("ALTER TABLE shop.customer RENAME CONSTRAINT customer_email_key TO k", "constraint renamed", DESTRUCTIVE),
    Case("ALTER TABLE shop.orders ALTER CONSTRAINT orders_customer_fkey DEFERRABLE", "constraint deferrable", CHANGING),
    Case("ALTER TABLE shop.letter VALIDATE CONSTRAINT letter_title_check", "constraint not_valid", ADDITIVE),
    Case("ALTER TABLE shop.customer DROP CONSTRAINT customer_level_check, ADD CONSTRAINT customer_level_check"
         " CHECK (level > 0) NOT VALID", "constraint not_valid", DESTRUCTIVE),
    Case("ALTER TABLE shop.orders DROP CONSTRAINT orders_customer_fkey, ADD CONSTRAINT orders_customer_fkey"
         " FOREIGN KEY (customer_id) REFERENCES shop.customer (id) ON DELETE CASCADE", "constraint definition", CHANGING),
    Case("ALTER TABLE shop.customer DROP CONSTRAINT customer_email_key, ADD CONSTRAINT customer_email_key"
         " UNIQUE (email) DEFERRABLE INITIALLY DEFERRED", "constraint deferrable", CHANGING),
    Case("ALTER TABLE shop.customer DROP CONSTRAINT customer_email_key, ADD CONSTRAINT customer_email_key"
         " UNIQUE NULLS NOT DISTINCT (email)", "constraint definition", CHANGING, 15),
    Case("ALTER TABLE shop.orders DISABLE TRIGGER ALL", "constraint disabled_triggers", DESTRUCTIVE),
    Case("ALTER TABLE shop.customer DISABLE TRIGGER ALL", "constraint disabled_triggers", DESTRUCTIVE),
    Case("COMMENT ON CONSTRAINT customer_email_key ON shop.customer IS 'x'", "constraint comment", COSMETIC),
    Case("CREATE INDEX more ON shop.orders (total)", "index added", ADDITIVE),
    Case("CREATE UNIQUE INDEX more ON shop.orders (total)", "index added", NARROWING),
    Case("DROP INDEX shop.orders_placed_idx", "index removed", DESTRUCTIVE),
    Case("ALTER INDEX shop.orders_placed_idx RENAME TO other", "index renamed", DESTRUCTIVE),
    Case("ALTER INDEX shop.orders_placed_idx SET (fillfactor = 50)", "index options", CHANGING),
    Case("ALTER INDEX shop.orders_slot_idx ALTER COLUMN 2 SET STATISTICS 300", "index statistics_targets", COSMETIC),
    Case("ALTER TABLE shop.orders CLUSTER ON orders_pkey", "index clustered", COSMETIC),
    Case("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shop.orders_placed_idx'::regclass",
         "index invalid", DESTRUCTIVE),
    Case("DROP INDEX shop.orders_slot_idx; CREATE INDEX orders_slot_idx ON shop.orders"
         " (customer_id, ((placed AT TIME ZONE 'UTC')::date))", "index unique", DESTRUCTIVE),
    Case("CREATE UNIQUE INDEX home_key ON shop.home (street); ALTER TABLE shop.home ADD UNIQUE USING INDEX home_key",
         "constraint added", NARROWING),
    Case("ALTER TABLE shop.letter ADD CONSTRAINT letter_id_idx UNIQUE USING INDEX letter_id_idx", "index unique", NARROWING),
    Case("DROP INDEX shop.orders_slot_idx; CREATE UNIQUE INDEX orders_slot_idx ON shop.orders"
         " (customer_id, ((placed AT TIME ZONE 'UTC')::date)) NULLS NOT DISTINCT", "index definition", CHANGING, 15),
    # sequences
    Case("ALTER SEQUENCE shop.ticket OWNER TO pg_monitor", "sequence owner", CHANGING),
    Case("ALTER SEQUENCE shop.ticket AS integer", "sequence type", DESTRUCTIVE),
    Case("ALTER SEQUENCE shop.ticket CACHE 10", "sequence cache", CHANGING),
    Case("CREATE SEQUENCE shop.more", "sequence added", ADDITIVE),
    Case("DROP SEQUENCE shop.ticket", "sequence removed", DESTRUCTIVE),
    Case("ALTER SEQUENCE shop.ticket MAXVALUE 2000", "sequence maximum", WIDENING),
    Case("ALTER SEQUENCE shop.ticket MAXVALUE 500", "sequence maximum", NARROWING),
    Case("ALTER SEQUENCE shop.ticket INCREMENT 2", "sequence increment", CHANGING),
    Case("ALTER SEQUENCE shop.ticket CYCLE", "sequence cycle", CHANGING),
    Case("ALTER SEQUENCE shop.ticket OWNED BY shop.orders.id", "sequence owned_by", CHANGING),
    # views and rules
    Case("CREATE VIEW shop.more AS SELECT 1 AS one", "view added", ADDITIVE),
    Case("DROP VIEW shop.open_orders", "view removed", DESTRUCTIVE),
    Case("CREATE OR REPLACE VIEW shop.open_orders AS SELECT id, customer_id, total FROM shop.orders WHERE state = 'paid'",
         "view definition", CHANGING),
    Case("ALTER VIEW shop.open_orders SET (security_barrier)", "view options", CHANGING),
    Case("DROP VIEW shop.open_orders; CREATE VIEW shop.open_orders AS SELECT id, customer_id FROM shop.orders"
         " WHERE state = 'new'", "column removed", DESTRUCTIVE),
    Case("ALTER VIEW shop.guarded RESET (security_invoker)", "view options", DESTRUCTIVE, 15),
    Case("ALTER VIEW shop.guarded SET (security_barrier = off)", "view options", DESTRUCTIVE, 15),
    Case("ALTER VIEW shop.guarded SET (check_option = local)", "view options", CHANGING),
    Case("ALTER VIEW shop.open_orders ALTER id SET DEFAULT 1", "column default", CHANGING),
    Case("DROP MATERIALIZED VIEW shop.totals", "materialized_view removed", DESTRUCTIVE),
    Case("REFRESH MATERIALIZED VIEW shop.totals WITH NO DATA", "materialized_view populated", DESTRUCTIVE),
    Case("CREATE RULE more AS ON INSERT TO shop.letter DO NOTHING", "rule added", CHANGING),
    Case("ALTER TABLE shop.letter DISABLE RULE keep", "rule enabled", DESTRUCTIVE),
    Case("DROP RULE keep ON shop.letter", "rule removed", DESTRUCTIVE),
    # routines
    Case("CREATE FUNCTION shop.more() RETURNS int LANGUAGE sql RETURN 1", "function added", ADDITIVE),
    Case("DROP FUNCTION shop.twice", "function removed", DESTRUCTIVE),
    Case("ALTER FUNCTION shop.twice RENAME TO double", "function renamed", DESTRUCTIVE),
    Case("CREATE OR REPLACE FUNCTION shop.twice(n integer) RETURNS integer LANGUAGE sql IMMUTABLE RETURN n + n",
         "function body", CHANGING),
    Case("ALTER FUNCTION shop.twice SECURITY DEFINER", "function security_definer", CHANGING),
    Case("ALTER FUNCTION shop.twice VOLATILE", "function volatility", CHANGING),
    Case("ALTER FUNCTION shop.twice SET search_path = shop", "function settings", CHANGING),
    Case("ALTER FUNCTION shop.twice LEAKPROOF", "function leakproof", CHANGING),
    Case("ALTER FUNCTION shop.twice STRICT", "function strict", CHANGING),
    Case("ALTER FUNCTION shop.twice OWNER TO pg_monitor", "function owner", CHANGING),
    Case("ALTER FUNCTION shop.safe RESET search_path", "function settings", DESTRUCTIVE),
    Case("ALTER FUNCTION shop.safe SECURITY INVOKER", "function security_definer", CHANGING),
    Case("ALTER FUNCTION shop.twice COST 7", "function cost", CHANGING),
    Case("REVOKE EXECUTE ON FUNCTION shop.twice FROM PUBLIC", "acl privileges", DESTRUCTIVE),
    Case("COMMENT ON FUNCTION shop.twice IS 'x'", "function comment", COSMETIC),
    Case("DROP PROCEDURE shop.clean", "procedure removed", DESTRUCTIVE),
    Case("CREATE OR REPLACE AGGREGATE shop.product(integer) (SFUNC = int4mul, STYPE = integer, INITCOND = '2')",
         "aggregate initial_value", CHANGING),
    Case("DROP AGGREGATE shop.product(integer)", "aggregate removed", DESTRUCTIVE),
    Case("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep FROM PUBLIC", "acl privileges", DESTRUCTIVE),
    Case("ALTER FUNCTION pg_catalog.pg_stat_reset OWNER TO pg_monitor", "system_object added", DESTRUCTIVE),
    # what a newer version has
    Case("CREATE PUBLICATION more FOR TABLE shop.letter WITH (publish_generated_columns = stored)", "publication added", WIDENING, 18),
    Case("ALTER PUBLICATION feed SET (publish_generated_columns = stored)", "publication generated_columns", CHANGING, 18),
    Case("ALTER TABLE shop.orders ADD twice bigint GENERATED ALWAYS AS (id * 2) VIRTUAL", "column added", ADDITIVE, 18),
    Case("ALTER TABLE shop.letter ADD CONSTRAINT there NOT NULL id NOT VALID", "not_null_constraint added", DESTRUCTIVE, 18),
    Case("ALTER TABLE shop.orders RENAME CONSTRAINT orders_id_not_null TO named", "not_null_constraint renamed", DESTRUCTIVE, 18),
    Case("ALTER TABLE shop.orders ADD CONSTRAINT later CHECK (id > 0) NOT ENFORCED", "constraint added", NARROWING, 18),
    Case("CREATE TABLE shop.stay (room int4range, during tsrange, PRIMARY KEY (room, during WITHOUT OVERLAPS))", "table added", ADDITIVE, 18),
    Case("ALTER DOMAIN shop.due DROP NOT NULL", "domain_not_null_constraint removed", WIDENING, 17),
    # what initdb made
    Case("ALTER FUNCTION pg_catalog.lower(text) COST 7", "initdb_objects digest", CHANGING),
    Case("ALTER FUNCTION pg_catalog.upper(text) SET search_path = shop", "initdb_objects digest", CHANGING),
    Case("ALTER OPERATOR pg_catalog.= (int4, int4) SET (RESTRICT = NONE)", "initdb_objects digest", CHANGING),
    Case("ALTER TYPE pg_catalog.jsonb SET (STORAGE = main)", "initdb_objects digest", CHANGING),
    Case("ALTER TEXT SEARCH DICTIONARY pg_catalog.simple (Accept = false)", "initdb_objects digest", CHANGING),
    Case("ALTER TEXT SEARCH CONFIGURATION pg_catalog.english DROP MAPPING FOR word", "initdb_objects digest", CHANGING),
    Case("DROP TEXT SEARCH DICTIONARY pg_catalog.danish_stem CASCADE", "initdb_objects digest", CHANGING),
    Case("ALTER OPERATOR FAMILY pg_catalog.jsonb_ops USING btree ADD FUNCTION 4 (jsonb) pg_catalog.btequalimage(oid)",
         "initdb_objects digest", CHANGING),
    Case("COMMENT ON LANGUAGE sql IS 'x'", "initdb_objects digest", CHANGING),
    Case("COMMENT ON ACCESS METHOD heap IS NULL", "initdb_objects digest", CHANGING),
    Case("COMMENT ON FUNCTION pg_catalog.lower(text) IS 'x'", "initdb_objects digest", CHANGING),
    Case("CREATE OR REPLACE VIEW information_schema.information_schema_catalog_name AS SELECT NULL::information_schema.sql_identifier"
         " AS catalog_name", "initdb_objects digest", CHANGING),
    Case("ALTER TABLE information_schema.sql_features ADD COLUMN z int", "initdb_objects digest", CHANGING),
    Case("CREATE TRIGGER t BEFORE INSERT ON information_schema.sql_features FOR EACH ROW EXECUTE FUNCTION shop.touch()",
         "initdb_objects digest", CHANGING),
    Case("CREATE POLICY p ON information_schema.sql_features", "initdb_objects digest", CHANGING),
    # triggers
    Case("CREATE TRIGGER more AFTER INSERT ON shop.orders EXECUTE FUNCTION shop.touch()", "trigger added", CHANGING),
    Case("DROP TRIGGER orders_touch ON shop.orders", "trigger removed", DESTRUCTIVE),
    Case("ALTER TABLE shop.orders DISABLE TRIGGER orders_touch", "trigger enabled", DESTRUCTIVE),
    Case("ALTER TABLE shop.orders ENABLE REPLICA TRIGGER orders_touch", "trigger enabled", DESTRUCTIVE),
    Case("ALTER TABLE shop.orders ENABLE ALWAYS TRIGGER orders_touch", "trigger enabled", CHANGING),
    Case("CREATE OR REPLACE TRIGGER orders_touch BEFORE INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION shop.touch()",
         "trigger definition", CHANGING),
    Case("ALTER EVENT TRIGGER guard ENABLE", "event_trigger enabled", CHANGING),
    Case("DROP EVENT TRIGGER guard", "event_trigger removed", DESTRUCTIVE),
    Case("CREATE EVENT TRIGGER other ON sql_drop EXECUTE FUNCTION shop.guard()", "event_trigger added", CHANGING),
    # policies
    Case("CREATE POLICY more ON shop.customer USING (true)", "policy added", WIDENING),
    Case("CREATE POLICY more ON shop.customer AS RESTRICTIVE USING (true)", "policy added", NARROWING),
    Case("ALTER POLICY own ON shop.customer USING (level < 9)", "policy using", CHANGING),
    Case("ALTER POLICY own ON shop.customer TO PUBLIC", "policy roles", CHANGING),
    Case("DROP POLICY strict ON shop.customer; CREATE POLICY strict ON shop.customer USING (level < 9)",
         "policy permissive", DESTRUCTIVE),
    Case("DROP POLICY own ON shop.customer; CREATE POLICY own ON shop.customer AS RESTRICTIVE FOR SELECT TO pg_monitor"
         " USING (level < 5)", "policy permissive", NARROWING),
    Case("ALTER POLICY strict ON shop.customer TO pg_monitor", "policy roles", CHANGING),
    Case("ALTER POLICY own ON shop.customer RENAME TO mine", "policy renamed", DESTRUCTIVE),
    Case("DROP POLICY own ON shop.customer", "policy removed", DESTRUCTIVE),
    # types
    Case("ALTER TYPE shop.state ADD VALUE 'returned'", "enum labels", WIDENING),
    Case("ALTER TYPE shop.state RENAME VALUE 'new' TO 'fresh'", "enum labels", DESTRUCTIVE),
    Case("CREATE TYPE shop.colour AS ENUM ('red')", "enum added", ADDITIVE),
    Case("ALTER TYPE shop.state RENAME TO condition", "enum renamed", DESTRUCTIVE),
    Case("REVOKE USAGE ON TYPE shop.state FROM PUBLIC", "acl privileges", DESTRUCTIVE),
    Case("ALTER TYPE shop.address ADD ATTRIBUTE zip text CASCADE", "column added", CHANGING),
    Case("ALTER TYPE shop.address DROP ATTRIBUTE city", "column removed", DESTRUCTIVE),
    Case("COMMENT ON TYPE shop.address IS 'x'", "composite_type comment", COSMETIC),
    Case("CREATE TYPE shop.point AS (x int, y int)", "composite_type added", ADDITIVE),
    Case("ALTER DOMAIN shop.amount SET NOT NULL", "domain not_null", DESTRUCTIVE),
    Case("ALTER DOMAIN shop.amount DROP DEFAULT", "domain default", DESTRUCTIVE),
    Case("ALTER DOMAIN shop.amount ADD CONSTRAINT small CHECK (VALUE < 1000)", "domain_constraint added", NARROWING),
    Case("ALTER DOMAIN shop.amount DROP CONSTRAINT not_negative; ALTER DOMAIN shop.amount ADD CONSTRAINT not_negative"
         " CHECK (VALUE >= 0) NOT VALID", "domain_constraint not_valid", DESTRUCTIVE),
    Case("ALTER DOMAIN shop.due DROP NOT NULL", "domain not_null", WIDENING),
    Case("ALTER DOMAIN shop.amount OWNER TO pg_monitor", "domain owner", CHANGING),
    Case("ALTER TYPE shop.address RENAME ATTRIBUTE city TO town CASCADE", "column renamed", DESTRUCTIVE),
    Case("ALTER DOMAIN shop.amount DROP CONSTRAINT not_negative", "domain_constraint removed", DESTRUCTIVE),
    Case("DROP TYPE shop.textrange", "range removed", DESTRUCTIVE),
    Case("DROP TYPE shop.pending", "base_type removed", DESTRUCTIVE),
    Case("COMMENT ON TYPE shop.pending IS 'x'", "base_type comment", COSMETIC),
    Case("DROP COLLATION shop.plain", "collation removed", DESTRUCTIVE),
    # operators and the rest
    Case("ALTER OPERATOR shop.=== (integer, integer) SET (RESTRICT = eqsel)", "operator restriction", CHANGING),
    Case("DROP OPERATOR shop.=== (integer, integer)", "operator removed", DESTRUCTIVE),
    Case("ALTER OPERATOR FAMILY shop.numbers USING btree ADD OPERATOR 1 < (integer, bigint)",
         "operator_family_member added", ADDITIVE),
    Case("ALTER OPERATOR FAMILY shop.numbers USING btree ADD FUNCTION 1 btint48cmp(integer, bigint)",
         "operator_family_member added", ADDITIVE),
    Case("ALTER OPERATOR FAMILY shop.numbers USING btree OWNER TO pg_monitor", "operator_family owner", CHANGING),
    Case("DROP OPERATOR CLASS shop.odd_ops USING btree", "operator_class removed", DESTRUCTIVE),
    Case("ALTER OPERATOR CLASS shop.odd_ops USING btree RENAME TO even_ops", "operator_class renamed", DESTRUCTIVE),
    Case("DROP CAST (shop.address AS text)", "cast removed", DESTRUCTIVE),
    Case("CREATE CAST (text AS shop.address) WITH INOUT AS IMPLICIT", "cast added", CHANGING),
    Case("COMMENT ON CAST (shop.address AS text) IS 'x'", "cast comment", COSMETIC),
    Case("CREATE CONVERSION shop.other FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8", "conversion added", ADDITIVE),
    Case("CREATE DEFAULT CONVERSION shop.other FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8", "conversion added", CHANGING),
    Case("DROP CONVERSION shop.latin", "conversion removed", DESTRUCTIVE),
    Case("ALTER TEXT SEARCH CONFIGURATION shop.find DROP MAPPING FOR asciiword",
         "text_search_configuration mappings", CHANGING),
    Case("ALTER TEXT SEARCH DICTIONARY shop.stop (ACCEPT = false)", "text_search_dictionary options", CHANGING),
    Case("DROP TEXT SEARCH TEMPLATE shop.words", "text_search_template removed", DESTRUCTIVE),
    Case("DROP TEXT SEARCH PARSER shop.parts", "text_search_parser removed", DESTRUCTIVE),
    Case("ALTER STATISTICS shop.orders_stats SET STATISTICS 50", "statistics statistics_target", COSMETIC),
    Case("DROP STATISTICS shop.orders_stats", "statistics removed", DESTRUCTIVE),
    Case("DROP ACCESS METHOD second_heap", "access_method removed", DESTRUCTIVE),
    Case("DROP LANGUAGE shoplang", "language removed", DESTRUCTIVE),
    Case("REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC", "acl privileges", DESTRUCTIVE),
    Case("DROP TRANSFORM FOR integer LANGUAGE sql", "transform removed", DESTRUCTIVE),
    Case(f"CREATE EXTENSION {'vector' if MAJOR == 16 else 'hstore'}", "extension added", ADDITIVE),
    Case("ALTER FUNCTION shop.twice DEPENDS ON EXTENSION plpgsql", "extension_dependency added", CHANGING),
    Case("ALTER FUNCTION shop.touch NO DEPENDS ON EXTENSION plpgsql", "extension_dependency removed", CHANGING),
    Case("ALTER INDEX shop.orders_pkey DEPENDS ON EXTENSION plpgsql", "extension_dependency added", CHANGING),
    Case("ALTER TRIGGER orders_touch ON shop.orders DEPENDS ON EXTENSION plpgsql", "extension_dependency added", CHANGING),
    Case("COMMENT ON LARGE OBJECT 4711 IS 'x'", "large_object comment", COSMETIC),
    Case("SELECT lo_unlink(4711)", "large_object removed", DESTRUCTIVE),
    Case("COMMENT ON EXTENSION plpgsql IS NULL", "extension comment", COSMETIC),
    # foreign data
    Case("ALTER FOREIGN DATA WRAPPER paper OPTIONS (SET mode 'fast')", "foreign_data_wrapper options", CHANGING),
    Case("ALTER SERVER desk OPTIONS (SET password 'other')", "foreign_server options", CHANGING),
    Case("GRANT USAGE ON FOREIGN SERVER desk TO pg_monitor", "acl privileges", WIDENING),
    Case("GRANT USAGE ON FOREIGN DATA WRAPPER paper TO pg_monitor", "acl privileges", WIDENING),
    Case("ALTER USER MAPPING FOR PUBLIC SERVER desk OPTIONS (SET password 'other')", "user_mapping options", CHANGING),
    Case("CREATE USER MAPPING FOR pg_monitor SERVER desk", "user_mapping added", WIDENING),
    Case("REVOKE GRANT OPTION FOR SELECT ON shop.letter FROM pg_monitor", "acl privileges", DESTRUCTIVE),
    Case("DROP USER MAPPING FOR PUBLIC SERVER desk", "user_mapping removed", DESTRUCTIVE),
    Case("ALTER FOREIGN TABLE shop.memo OPTIONS (SET sheet 'two')", "foreign_table options", CHANGING),
    Case("ALTER FOREIGN TABLE shop.memo ALTER id OPTIONS (SET field 'nr')", "column foreign_options", CHANGING),
    # replication
    Case("ALTER PUBLICATION feed ADD TABLE shop.letter", "publication_table added", WIDENING),
    Case("ALTER PUBLICATION feed SET TABLE shop.orders (id)", "publication_table columns", CHANGING, 15),
    Case("ALTER PUBLICATION feed SET TABLE shop.orders (id, state) WHERE (id > 5)", "publication_table where", CHANGING, 15),
    Case("ALTER PUBLICATION feed SET (publish_via_partition_root = true)", "publication via_partition_root", CHANGING),
    Case("CREATE PUBLICATION more FOR ALL TABLES", "publication added", WIDENING),
    Case("CREATE SUBSCRIPTION more CONNECTION 'dbname=nowhere' PUBLICATION feed WITH (connect = false, slot_name = NONE)",
         "subscription added", CHANGING),
    Case("ALTER PUBLICATION old_news DROP TABLES IN SCHEMA archive", "publication_schema removed", DESTRUCTIVE, 15),
    Case("ALTER PUBLICATION feed SET (publish = 'insert')", "publication update", DESTRUCTIVE),
    Case("DROP PUBLICATION feed", "publication removed", DESTRUCTIVE),
    Case("ALTER SUBSCRIPTION intake CONNECTION 'dbname=elsewhere'", "subscription connection", CHANGING),
    Case("ALTER SUBSCRIPTION intake SET (binary = true)", "subscription binary", CHANGING),
    Case("ALTER SUBSCRIPTION intake SKIP (lsn = '0/12345')", "subscription skipped_transaction", CHANGING, 15),
    Case("DROP SUBSCRIPTION intake", "subscription removed", DESTRUCTIVE),
    # defaults for later objects, and the database itself
    Case("ALTER DEFAULT PRIVILEGES IN SCHEMA archive REVOKE SELECT ON TABLES FROM pg_monitor",
         "default_acl privileges", DESTRUCTIVE),
    Case("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC", "default_acl privileges", DESTRUCTIVE),
    Case("ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO pg_monitor", "default_acl privileges", WIDENING),
    Case("DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''5MB''', current_database()); END$$",
         "role_setting added", CHANGING),
    Case("DO $$BEGIN EXECUTE format('COMMENT ON DATABASE %I IS ''x''', current_database()); END$$",
         "database comment", COSMETIC),
    Case("DO $$BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END$$",
         "acl privileges", DESTRUCTIVE),
    Case("DO $$BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 5', current_database()); END$$",
         "database connection_limit", CHANGING),
]  # fmt: skip

# The schema is the same afterwards, letter for letter, and its rows are gone or under another name.
MADE_ANEW = [
    ("DROP TABLE shop.cache; CREATE UNLOGGED TABLE shop.cache (key text PRIMARY KEY, value jsonb) WITH (fillfactor = 70)",
         "table removed"),
    ("ALTER TABLE shop.cache DROP COLUMN value; ALTER TABLE shop.cache ADD COLUMN value jsonb", "column removed"),
    ("ALTER TABLE shop.home RENAME street TO s; ALTER TABLE shop.home RENAME city TO street;"
         " ALTER TABLE shop.home RENAME s TO city", "column renamed"),
    ("DROP SEQUENCE shop.ticket; CREATE SEQUENCE shop.ticket MAXVALUE 1000", "sequence removed"),
    ("ALTER TYPE shop.address DROP ATTRIBUTE city CASCADE; ALTER TYPE shop.address ADD ATTRIBUTE city text CASCADE",
         "column removed"),
]  # fmt: skip


@pytest.fixture(scope="module")
def session(cluster: Cluster) -> Iterator[Session]:
    name = "every_kind"
    cluster.create_database(name)
    cluster.load(SCHEMA, name)
    cluster.psql("CREATE TABLE shop.home (street text, city text)", name)
    with client_of(cluster, name).session("phasegate:test") as opened:
        yield opened
    cluster.psql("ALTER SUBSCRIPTION intake DISABLE; DROP SUBSCRIPTION intake", name)
    cluster.drop_database(name)


@pytest.fixture(scope="module")
def base(session: Session) -> Snapshot:
    return take_snapshot(session)


@pytest.mark.parametrize("case", [case for case in CASES if case.since <= MAJOR], ids=lambda case: case.sql[:70])
def test_a_change_is_seen_and_judged(session: Session, base: Snapshot, case: Case) -> None:
    session.execute("BEGIN")
    try:
        session.execute(case.sql)
        delta = read_changed(session, base)
        full = read_facts(session)
    finally:
        session.execute("ROLLBACK")
    assert delta.facts == full.facts
    assert delta.fingerprint == full.fingerprint != base.fingerprint
    changes = diff(base, full)
    assert diff(base, delta).changes == changes.changes
    kind, _space, what = case.change.partition(" ")
    found = [(change.kind, change.attribute or change.action) for change in changes.changes]
    assert (kind, what) in found, changes.text()
    assert changes.severity is not None
    assert changes.severity.value == case.gravest, changes.text()
    assert unchanged_since(session, base)


@pytest.mark.parametrize(("sql", "change"), MADE_ANEW)
def test_what_was_made_anew_under_its_name_is_gone(session: Session, base: Snapshot, sql: str, change: str) -> None:
    session.execute("BEGIN")
    try:
        session.execute(sql)
        delta = read_changed(session, base)
        full = read_facts(session)
    finally:
        session.execute("ROLLBACK")
    assert delta.fingerprint == full.fingerprint == base.fingerprint
    changes = diff(base, full)
    assert diff(base, delta).changes == changes.changes
    assert change in [f"{found.kind} {found.action}" for found in changes.changes], changes.text()
    assert {found.severity.value for found in changes.changes if found.action != "added"} == {DESTRUCTIVE}
    # a file knows no rows of the catalog: against it only the structure counts
    assert not diff(base.unlocated(), full)


def test_every_kind_is_in_the_sample(base: Snapshot) -> None:
    in_snapshot = {fact.kind for fact in base.decoded()}
    in_cases = {case.change.partition(" ")[0] for case in CASES}
    of_other_places = {"role", "role_membership", "tablespace", "unknown"}
    kinds = {query.kind.name for query in QUERIES if query.since <= MAJOR}
    assert kinds - of_other_places == in_snapshot | (in_cases & kinds)


def test_no_secret_and_no_oid_is_in_a_fact(session: Session, base: Snapshot) -> None:
    text = "\n".join(base.lines())
    assert not [word for word in ("secret-word", "hidden-word", "third-word") if word in text]
    assert "password=sha256:" in text
    oids = {row[0] for row in session.rows("SELECT oid FROM pg_class WHERE relnamespace = 'shop'::regnamespace")}
    assert not [line for line in base.lines() if any(f'"{oid}"' in line for oid in oids)]


def test_cluster_facts_are_a_section_of_their_own(session: Session, base: Snapshot) -> None:
    session.execute("BEGIN; CREATE ROLE integration_role; GRANT pg_monitor TO integration_role")
    try:
        cluster_facts = read_facts(session, sections=("cluster",))
        assert read_facts(session).fingerprint == base.fingerprint
    finally:
        session.execute("ROLLBACK")
    kinds = {fact.kind for fact in cluster_facts.decoded()}
    assert {"role", "role_membership"} <= kinds
    assert "table" not in kinds


def test_what_is_not_known_fails_closed(session: Session, base: Snapshot) -> None:
    session.execute("BEGIN; UPDATE pg_class SET relkind = 'z' WHERE oid = 'shop.cache'::regclass")
    try:
        changes = diff(base, read_facts(session))
    finally:
        session.execute("ROLLBACK")
    assert [change.identity for change in changes.changes if change.severity.value == "unknown"] == [
        ("relation kind", "shop.cache")
    ]
