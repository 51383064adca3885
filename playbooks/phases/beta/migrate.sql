-- Phase beta, revision r1: what phase alpha added is made binding. Every unit has an authority, it is one of three
-- words, and units can be found by it.

BEGIN;

SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';
SET LOCAL idle_in_transaction_session_timeout = '60s';

-- 1. Backfill: alpha left "authority" of the sandbox units NULL. Must report 76 rows.
UPDATE sandbox_tac.logical_unit
   SET authority = CASE lifecycle_status
                       WHEN 'draft_only' THEN 'draft'
                       WHEN 'enacted' THEN 'enacted'
                       WHEN 'runtime' THEN 'runtime'
                   END
 WHERE authority IS NULL;

-- 2. The three words. NOT VALID at first: adding the constraint reads no row, validating it does.
ALTER TABLE public.tac_logical_unit
    ADD CONSTRAINT tac_logical_unit_authority_check CHECK (authority IN ('draft', 'enacted', 'runtime')) NOT VALID;
ALTER TABLE public.tac_logical_unit
    VALIDATE CONSTRAINT tac_logical_unit_authority_check;

ALTER TABLE sandbox_tac.logical_unit
    ADD CONSTRAINT logical_unit_authority_check CHECK (authority IN ('draft', 'enacted', 'runtime')) NOT VALID;
ALTER TABLE sandbox_tac.logical_unit
    VALIDATE CONSTRAINT logical_unit_authority_check;

-- 3. A CHECK lets NULL pass.
ALTER TABLE public.tac_logical_unit
    ALTER COLUMN authority SET NOT NULL;
ALTER TABLE sandbox_tac.logical_unit
    ALTER COLUMN authority SET NOT NULL;

SELECT (SELECT count(*) FROM public.tac_logical_unit WHERE authority = 'draft')    AS tac_authority_draft,
       (SELECT count(*) FROM sandbox_tac.logical_unit WHERE authority = 'draft')   AS sandbox_authority_draft;

COMMIT;

-- 4. After COMMIT, by itself: the build lets writes go on.
CREATE INDEX CONCURRENTLY idx_tac_logical_unit_authority ON public.tac_logical_unit (authority);
