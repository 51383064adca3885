-- Rollback of phase beta, revision r1: removes exactly what r1 added, and nothing else.
--
-- The backfill is undone as well, or the phase could not run again: 76 rows, as it filled. If units came or went since, the
-- count is another one, and this stops.

BEGIN;

SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';
SET LOCAL idle_in_transaction_session_timeout = '60s';

ALTER TABLE sandbox_tac.logical_unit
    ALTER COLUMN authority DROP NOT NULL,
    DROP CONSTRAINT logical_unit_authority_check;

ALTER TABLE public.tac_logical_unit
    ALTER COLUMN authority DROP NOT NULL,
    DROP CONSTRAINT tac_logical_unit_authority_check;

UPDATE sandbox_tac.logical_unit
   SET authority = NULL
 WHERE authority IS NOT NULL;

COMMIT;

-- IF EXISTS: the phase may have stopped before its index was there.
DROP INDEX CONCURRENTLY IF EXISTS public.idx_tac_logical_unit_authority;
