-- Phase alpha, revision r2: who vouches for a logical unit, which address format it uses,
-- and an empty table for addresses that a unit had or will have.
--
-- Revision r1 was rejected: it added "authority" together with its default. Every row then had a value at once,
-- and the backfill below, which fills only what is NULL, matched nothing. r2 adds the column without a default,
-- fills it, and sets the default afterwards.

BEGIN;

SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';
SET LOCAL idle_in_transaction_session_timeout = '60s';

-- 1. public units. "authority" stands alone because it must not carry a default yet.
ALTER TABLE public.tac_logical_unit
    ADD COLUMN authority text;

-- A constant default does not rewrite the table.
ALTER TABLE public.tac_logical_unit
    ADD COLUMN canonical_address_format_version text NOT NULL DEFAULT 'canonical-address-v1';

-- 2. sandbox units: the same two columns; the rows that exist keep "authority" NULL.
ALTER TABLE sandbox_tac.logical_unit
    ADD COLUMN authority text,
    ADD COLUMN canonical_address_format_version text NOT NULL DEFAULT 'canonical-address-v1';

-- 3. Backfill (BR-4). Must report 86 rows. The birth gate trigger moves "updated_at" of every one of them to the
--    start of this transaction; that is accepted, and measured. The old values come back from the backup only.
UPDATE public.tac_logical_unit
   SET authority = CASE lifecycle_status
                       WHEN 'draft_only' THEN 'draft'
                       WHEN 'enacted' THEN 'enacted'
                       WHEN 'runtime' THEN 'runtime'
                   END
 WHERE authority IS NULL;

-- 4. Only now the default: it is for rows to come.
ALTER TABLE public.tac_logical_unit
    ALTER COLUMN authority SET DEFAULT 'draft';

ALTER TABLE sandbox_tac.logical_unit
    ALTER COLUMN authority SET DEFAULT 'draft';

-- 5. The alias table, empty. No foreign key (a target may live in either unit table) and no CHECK.
CREATE TABLE cutter_governance.canonical_address_alias (
    alias_id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    target_unit_id uuid NOT NULL,
    alias_text     text NOT NULL,
    alias_kind     text NOT NULL,
    valid_from     timestamptz NOT NULL DEFAULT now(),
    valid_until    timestamptz,
    created_by     text,
    rationale      text,
    scenario_ref   text
);

CREATE INDEX idx_alias_alias_text ON cutter_governance.canonical_address_alias (alias_text);
CREATE INDEX idx_alias_target_unit_id ON cutter_governance.canonical_address_alias (target_unit_id);
CREATE INDEX idx_alias_alias_kind ON cutter_governance.canonical_address_alias (alias_kind);
CREATE INDEX idx_alias_validity_window ON cutter_governance.canonical_address_alias (valid_from, valid_until DESC);

-- 6. Six comments. The record of this phase says six and lists seven: two columns on each of the two unit tables,
--    the alias table, and two of its columns. Six is what was executed and counted, so six it is: of the alias
--    table's columns only the kind is described here; its validity window is explained with the table.
COMMENT ON COLUMN public.tac_logical_unit.authority IS
    'Standing of the unit''s text: draft, enacted or runtime. Derived from lifecycle_status for rows that existed before phase alpha.';
COMMENT ON COLUMN public.tac_logical_unit.canonical_address_format_version IS
    'Format of canonical_address in this row.';
COMMENT ON COLUMN sandbox_tac.logical_unit.authority IS
    'Standing of the unit''s text: draft, enacted or runtime. NULL for rows that existed before phase alpha.';
COMMENT ON COLUMN sandbox_tac.logical_unit.canonical_address_format_version IS
    'Format of canonical_address in this row.';
COMMENT ON TABLE cutter_governance.canonical_address_alias IS
    'Other addresses of a logical unit, each valid from valid_from until valid_until (NULL: still valid).';
COMMENT ON COLUMN cutter_governance.canonical_address_alias.alias_kind IS
    'Why the alias exists, for example a former address or a short form.';

SELECT (SELECT count(*) FROM public.tac_logical_unit WHERE authority = 'draft')   AS tac_authority_draft,
       (SELECT count(*) FROM public.tac_logical_unit WHERE authority = 'enacted') AS tac_authority_enacted,
       (SELECT count(*) FROM public.tac_logical_unit WHERE authority = 'runtime') AS tac_authority_runtime,
       (SELECT count(*) FROM public.tac_logical_unit WHERE authority IS NULL)     AS tac_authority_null,
       (SELECT count(*) FROM public.tac_logical_unit
         WHERE canonical_address_format_version = 'canonical-address-v1')         AS tac_format_v1,
       (SELECT count(*) FROM sandbox_tac.logical_unit WHERE authority IS NULL)    AS sandbox_authority_null,
       (SELECT count(*) FROM sandbox_tac.logical_unit
         WHERE canonical_address_format_version = 'canonical-address-v1')         AS sandbox_format_v1,
       (SELECT count(*)
          FROM pg_catalog.pg_class AS c
          JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname = 'cutter_governance'
           AND c.relname = 'canonical_address_alias'
           AND c.relkind = 'r')                                                   AS alias_table_present;

COMMIT;
