-- Rollback of phase alpha, revision r2: removes exactly what r2 added, and nothing else.
--
-- What it cannot restore:
--   * the values of public.tac_logical_unit.updated_at from before the backfill: the birth gate trigger replaced
--     all of them in one instant, and they come back from the backup only;
--   * whatever was written into the new columns and the alias table since: it is dropped with them.
--
-- No CASCADE: if anything has come to depend on these objects, this stops and nothing is removed.

BEGIN;

SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = '60s';
SET LOCAL idle_in_transaction_session_timeout = '60s';

DROP TABLE cutter_governance.canonical_address_alias;

ALTER TABLE sandbox_tac.logical_unit
    DROP COLUMN canonical_address_format_version,
    DROP COLUMN authority;

ALTER TABLE public.tac_logical_unit
    DROP COLUMN canonical_address_format_version,
    DROP COLUMN authority;

COMMIT;
