# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of statements: PostgreSQL's command tags, and the finer kinds that a phase's scope allows.

Pure data, standard library only.

A *tag* is what PostgreSQL reports after a statement (``ALTER TABLE``). A *kind* is what a scope lists: a tag, or a
tag with the words of its subcommand (``ALTER TABLE ADD COLUMN``). A scope that lists ``ALTER TABLE`` allows all of
its subcommands. Nothing else is implied: ``CREATE TABLE`` does not allow ``CREATE TABLE AS``, ``DROP TABLE`` does
not allow ``DROP TABLE CASCADE``.

Source of the tags: src/include/tcop/cmdtaglist.h and CreateCommandTag() in src/backend/tcop/utility.c. Node and
enum names are those of PostgreSQL's parser. A node, object type or subcommand that is not listed here is rejected.
"""

from __future__ import annotations

from typing import Collection, Dict, FrozenSet, Iterable, List, Optional, Tuple

#: Parse node of a top-level statement → command tag, where the node alone decides.
NODE_TAGS: Dict[str, str] = {
    "AlterCollationStmt": "ALTER COLLATION",
    "AlterDatabaseRefreshCollStmt": "ALTER DATABASE",
    "AlterDatabaseSetStmt": "ALTER DATABASE",
    "AlterDatabaseStmt": "ALTER DATABASE",
    "AlterDefaultPrivilegesStmt": "ALTER DEFAULT PRIVILEGES",
    "AlterDomainStmt": "ALTER DOMAIN",
    "AlterEnumStmt": "ALTER TYPE",
    "AlterEventTrigStmt": "ALTER EVENT TRIGGER",
    "AlterExtensionContentsStmt": "ALTER EXTENSION",
    "AlterExtensionStmt": "ALTER EXTENSION",
    "AlterFdwStmt": "ALTER FOREIGN DATA WRAPPER",
    "AlterForeignServerStmt": "ALTER SERVER",
    "AlterOpFamilyStmt": "ALTER OPERATOR FAMILY",
    "AlterOperatorStmt": "ALTER OPERATOR",
    "AlterPolicyStmt": "ALTER POLICY",
    "AlterPublicationStmt": "ALTER PUBLICATION",
    "AlterRoleSetStmt": "ALTER ROLE",
    "AlterRoleStmt": "ALTER ROLE",
    "AlterSeqStmt": "ALTER SEQUENCE",
    "AlterStatsStmt": "ALTER STATISTICS",
    "AlterSubscriptionStmt": "ALTER SUBSCRIPTION",
    "AlterSystemStmt": "ALTER SYSTEM",
    "AlterTSConfigurationStmt": "ALTER TEXT SEARCH CONFIGURATION",
    "AlterTSDictionaryStmt": "ALTER TEXT SEARCH DICTIONARY",
    "AlterTableSpaceOptionsStmt": "ALTER TABLESPACE",
    "AlterTypeStmt": "ALTER TYPE",
    "AlterUserMappingStmt": "ALTER USER MAPPING",
    "CallStmt": "CALL",
    "CheckPointStmt": "CHECKPOINT",
    "ClosePortalStmt": "CLOSE CURSOR",
    "ClusterStmt": "CLUSTER",
    "CommentStmt": "COMMENT",
    "CompositeTypeStmt": "CREATE TYPE",
    "ConstraintsSetStmt": "SET CONSTRAINTS",
    "CopyStmt": "COPY",
    "CreateAmStmt": "CREATE ACCESS METHOD",
    "CreateCastStmt": "CREATE CAST",
    "CreateConversionStmt": "CREATE CONVERSION",
    "CreateDomainStmt": "CREATE DOMAIN",
    "CreateEnumStmt": "CREATE TYPE",
    "CreateEventTrigStmt": "CREATE EVENT TRIGGER",
    "CreateExtensionStmt": "CREATE EXTENSION",
    "CreateFdwStmt": "CREATE FOREIGN DATA WRAPPER",
    "CreateForeignServerStmt": "CREATE SERVER",
    "CreateForeignTableStmt": "CREATE FOREIGN TABLE",
    "CreateOpClassStmt": "CREATE OPERATOR CLASS",
    "CreateOpFamilyStmt": "CREATE OPERATOR FAMILY",
    "CreatePLangStmt": "CREATE LANGUAGE",
    "CreatePolicyStmt": "CREATE POLICY",
    "CreatePublicationStmt": "CREATE PUBLICATION",
    "CreateRangeStmt": "CREATE TYPE",
    "CreateRoleStmt": "CREATE ROLE",
    "CreateSchemaStmt": "CREATE SCHEMA",
    "CreateSeqStmt": "CREATE SEQUENCE",
    "CreateStatsStmt": "CREATE STATISTICS",
    "CreateStmt": "CREATE TABLE",
    "CreateSubscriptionStmt": "CREATE SUBSCRIPTION",
    "CreateTableSpaceStmt": "CREATE TABLESPACE",
    "CreateTransformStmt": "CREATE TRANSFORM",
    "CreateTrigStmt": "CREATE TRIGGER",
    "CreateUserMappingStmt": "CREATE USER MAPPING",
    "CreatedbStmt": "CREATE DATABASE",
    "DeallocateStmt": "DEALLOCATE",
    "DeclareCursorStmt": "DECLARE CURSOR",
    "DeleteStmt": "DELETE",
    "DiscardStmt": "DISCARD",
    "DoStmt": "DO",
    "DropOwnedStmt": "DROP OWNED",
    "DropRoleStmt": "DROP ROLE",
    "DropSubscriptionStmt": "DROP SUBSCRIPTION",
    "DropTableSpaceStmt": "DROP TABLESPACE",
    "DropUserMappingStmt": "DROP USER MAPPING",
    "DropdbStmt": "DROP DATABASE",
    "ExecuteStmt": "EXECUTE",
    "ExplainStmt": "EXPLAIN",
    "FetchStmt": "FETCH",
    "ImportForeignSchemaStmt": "IMPORT FOREIGN SCHEMA",
    "IndexStmt": "CREATE INDEX",
    "InsertStmt": "INSERT",
    "ListenStmt": "LISTEN",
    "LoadStmt": "LOAD",
    "LockStmt": "LOCK TABLE",
    "MergeStmt": "MERGE",
    "NotifyStmt": "NOTIFY",
    "PrepareStmt": "PREPARE",
    "ReassignOwnedStmt": "REASSIGN OWNED",
    "RefreshMatViewStmt": "REFRESH MATERIALIZED VIEW",
    "ReindexStmt": "REINDEX",
    "RuleStmt": "CREATE RULE",
    "SecLabelStmt": "SECURITY LABEL",
    "SelectStmt": "SELECT",
    "TruncateStmt": "TRUNCATE TABLE",
    "UnlistenStmt": "UNLISTEN",
    "UpdateStmt": "UPDATE",
    "VariableShowStmt": "SHOW",
    "ViewStmt": "CREATE VIEW",
}

#: Object type → its words after ALTER and DROP.
OBJECT_WORDS: Dict[str, str] = {
    "OBJECT_ACCESS_METHOD": "ACCESS METHOD",
    "OBJECT_AGGREGATE": "AGGREGATE",
    "OBJECT_ATTRIBUTE": "TYPE",
    "OBJECT_CAST": "CAST",
    "OBJECT_COLLATION": "COLLATION",
    "OBJECT_COLUMN": "TABLE",
    "OBJECT_CONVERSION": "CONVERSION",
    "OBJECT_DATABASE": "DATABASE",
    "OBJECT_DOMAIN": "DOMAIN",
    "OBJECT_DOMCONSTRAINT": "DOMAIN",
    "OBJECT_EVENT_TRIGGER": "EVENT TRIGGER",
    "OBJECT_EXTENSION": "EXTENSION",
    "OBJECT_FDW": "FOREIGN DATA WRAPPER",
    "OBJECT_FOREIGN_SERVER": "SERVER",
    "OBJECT_FOREIGN_TABLE": "FOREIGN TABLE",
    "OBJECT_FUNCTION": "FUNCTION",
    "OBJECT_INDEX": "INDEX",
    "OBJECT_LANGUAGE": "LANGUAGE",
    "OBJECT_LARGEOBJECT": "LARGE OBJECT",
    "OBJECT_MATVIEW": "MATERIALIZED VIEW",
    "OBJECT_OPCLASS": "OPERATOR CLASS",
    "OBJECT_OPERATOR": "OPERATOR",
    "OBJECT_OPFAMILY": "OPERATOR FAMILY",
    "OBJECT_POLICY": "POLICY",
    "OBJECT_PROCEDURE": "PROCEDURE",
    "OBJECT_PUBLICATION": "PUBLICATION",
    "OBJECT_ROLE": "ROLE",
    "OBJECT_ROUTINE": "ROUTINE",
    "OBJECT_RULE": "RULE",
    "OBJECT_SCHEMA": "SCHEMA",
    "OBJECT_SEQUENCE": "SEQUENCE",
    "OBJECT_STATISTIC_EXT": "STATISTICS",
    "OBJECT_SUBSCRIPTION": "SUBSCRIPTION",
    "OBJECT_TABCONSTRAINT": "TABLE",
    "OBJECT_TABLE": "TABLE",
    "OBJECT_TABLESPACE": "TABLESPACE",
    "OBJECT_TRANSFORM": "TRANSFORM",
    "OBJECT_TRIGGER": "TRIGGER",
    "OBJECT_TSCONFIGURATION": "TEXT SEARCH CONFIGURATION",
    "OBJECT_TSDICTIONARY": "TEXT SEARCH DICTIONARY",
    "OBJECT_TSPARSER": "TEXT SEARCH PARSER",
    "OBJECT_TSTEMPLATE": "TEXT SEARCH TEMPLATE",
    "OBJECT_TYPE": "TYPE",
    "OBJECT_USER_MAPPING": "USER MAPPING",
    "OBJECT_VIEW": "VIEW",
}

#: Subcommand of ALTER TABLE and its relatives → its words. Subcommands that only the server makes for itself
#: (AT_ReAddIndex, AT_CookedColumnDefault, …) are absent on purpose.
ALTER_WORDS: Dict[str, str] = {
    "AT_AddColumn": "ADD COLUMN",
    "AT_ColumnDefault": "SET DEFAULT",  # DROP DEFAULT when there is no expression
    "AT_DropNotNull": "DROP NOT NULL",
    "AT_SetNotNull": "SET NOT NULL",
    "AT_SetExpression": "SET EXPRESSION",
    "AT_DropExpression": "DROP EXPRESSION",
    "AT_SetStatistics": "SET STATISTICS",
    "AT_SetOptions": "SET COLUMN OPTIONS",
    "AT_ResetOptions": "RESET COLUMN OPTIONS",
    "AT_SetStorage": "SET STORAGE",
    "AT_SetCompression": "SET COMPRESSION",
    "AT_DropColumn": "DROP COLUMN",
    "AT_AddConstraint": "ADD CONSTRAINT",
    "AT_AlterConstraint": "ALTER CONSTRAINT",
    "AT_ValidateConstraint": "VALIDATE CONSTRAINT",
    "AT_DropConstraint": "DROP CONSTRAINT",
    "AT_AlterColumnType": "ALTER COLUMN TYPE",
    "AT_AlterColumnGenericOptions": "ALTER COLUMN OPTIONS",
    "AT_ChangeOwner": "OWNER TO",
    "AT_ClusterOn": "CLUSTER ON",
    "AT_DropCluster": "SET WITHOUT CLUSTER",
    "AT_SetLogged": "SET LOGGED",
    "AT_SetUnLogged": "SET UNLOGGED",
    "AT_DropOids": "SET WITHOUT OIDS",
    "AT_SetAccessMethod": "SET ACCESS METHOD",
    "AT_SetTableSpace": "SET TABLESPACE",
    "AT_SetRelOptions": "SET PARAMETERS",
    "AT_ResetRelOptions": "RESET PARAMETERS",
    "AT_EnableTrig": "ENABLE TRIGGER",
    "AT_EnableAlwaysTrig": "ENABLE ALWAYS TRIGGER",
    "AT_EnableReplicaTrig": "ENABLE REPLICA TRIGGER",
    "AT_DisableTrig": "DISABLE TRIGGER",
    "AT_EnableTrigAll": "ENABLE TRIGGER ALL",
    "AT_DisableTrigAll": "DISABLE TRIGGER ALL",
    "AT_EnableTrigUser": "ENABLE TRIGGER USER",
    "AT_DisableTrigUser": "DISABLE TRIGGER USER",
    "AT_EnableRule": "ENABLE RULE",
    "AT_EnableAlwaysRule": "ENABLE ALWAYS RULE",
    "AT_EnableReplicaRule": "ENABLE REPLICA RULE",
    "AT_DisableRule": "DISABLE RULE",
    "AT_AddInherit": "INHERIT",
    "AT_DropInherit": "NO INHERIT",
    "AT_AddOf": "OF",
    "AT_DropOf": "NOT OF",
    "AT_ReplicaIdentity": "REPLICA IDENTITY",
    "AT_EnableRowSecurity": "ENABLE ROW LEVEL SECURITY",
    "AT_DisableRowSecurity": "DISABLE ROW LEVEL SECURITY",
    "AT_ForceRowSecurity": "FORCE ROW LEVEL SECURITY",
    "AT_NoForceRowSecurity": "NO FORCE ROW LEVEL SECURITY",
    "AT_GenericOptions": "OPTIONS",
    "AT_AttachPartition": "ATTACH PARTITION",
    "AT_DetachPartition": "DETACH PARTITION",
    "AT_DetachPartitionFinalize": "DETACH PARTITION FINALIZE",
    "AT_AddIdentity": "ADD IDENTITY",
    "AT_SetIdentity": "SET IDENTITY",
    "AT_DropIdentity": "DROP IDENTITY",
}

#: What the same subcommands are called on a composite type.
ALTER_TYPE_WORDS: Dict[str, str] = {
    "AT_AddColumn": "ADD ATTRIBUTE",
    "AT_DropColumn": "DROP ATTRIBUTE",
    "AT_AlterColumnType": "ALTER ATTRIBUTE TYPE",
}

#: Subtype letter of ALTER DOMAIN → its words (gram.y, AlterDomainStmt).
ALTER_DOMAIN_WORDS: Dict[str, str] = {
    "T": "SET DEFAULT",  # DROP DEFAULT when there is no expression
    "N": "DROP NOT NULL",
    "O": "SET NOT NULL",
    "C": "ADD CONSTRAINT",
    "X": "DROP CONSTRAINT",
    "V": "VALIDATE CONSTRAINT",
}

#: Transaction statement → command tag.
TRANSACTION_TAGS: Dict[str, str] = {
    "TRANS_STMT_BEGIN": "BEGIN",
    "TRANS_STMT_START": "START TRANSACTION",
    "TRANS_STMT_COMMIT": "COMMIT",
    "TRANS_STMT_ROLLBACK": "ROLLBACK",
    "TRANS_STMT_SAVEPOINT": "SAVEPOINT",
    "TRANS_STMT_RELEASE": "RELEASE",
    "TRANS_STMT_ROLLBACK_TO": "ROLLBACK TO SAVEPOINT",
    "TRANS_STMT_PREPARE": "PREPARE TRANSACTION",
    "TRANS_STMT_COMMIT_PREPARED": "COMMIT PREPARED",
    "TRANS_STMT_ROLLBACK_PREPARED": "ROLLBACK PREPARED",
}

#: Tags whose row count the author declares.
ROW_TAGS: FrozenSet[str] = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "COPY"})

#: Kinds that cannot run in a transaction: each is a statement that runs on its own, after COMMIT → the strongest lock that it
#: holds on a table while it runs (PostgreSQL manual, 13.3.1, and the page of each command).
AFTER_COMMIT: Dict[str, str] = {
    "CREATE INDEX CONCURRENTLY": "ShareUpdateExclusiveLock",
    "DROP INDEX CONCURRENTLY": "ShareUpdateExclusiveLock",
    "REINDEX CONCURRENTLY": "ShareUpdateExclusiveLock",
    # on the partition, at the end; on the partitioned table SHARE UPDATE EXCLUSIVE
    "ALTER TABLE DETACH PARTITION CONCURRENTLY": "AccessExclusiveLock",
}

#: Tags that no scope can allow, each with the reason.
REFUSED: Dict[str, str] = {
    **dict.fromkeys(TRANSACTION_TAGS.values(), "it controls the transaction, which phasegate opens and ends"),
    **dict.fromkeys(
        (
            "ALTER SYSTEM",
            "CREATE DATABASE",
            "CREATE SUBSCRIPTION",
            "CREATE TABLESPACE",
            "DROP DATABASE",
            "DROP SUBSCRIPTION",
            "DROP TABLESPACE",
            "VACUUM",
        ),
        "it cannot run in a transaction",
    ),
    **dict.fromkeys(
        ("CLOSE CURSOR", "DEALLOCATE", "DECLARE CURSOR", "DISCARD", "FETCH", "LISTEN", "LOAD", "UNLISTEN"),
        "it changes the session, not the database",
    ),
    **dict.fromkeys(("EXECUTE", "EXPLAIN", "PREPARE"), "it hides the statement that runs"),
}

#: Tag of a statement with a body → the kind of one whose body cannot be analysed completely.
COMPUTED: Dict[str, str] = {tag: f"{tag} EXECUTE" for tag in ("DO", "CREATE FUNCTION", "CREATE PROCEDURE")}

#: Settings that a phase may change with SET LOCAL. Each is one that a careful migration has a use for and that
#: cannot weaken the run: not the role, the search path, how text is parsed, durability, triggers or logging.
LOCAL_SETTINGS: FrozenSet[str] = frozenset(
    {
        "check_function_bodies",
        "constraint_exclusion",
        "deadlock_timeout",
        "default_table_access_method",
        "default_tablespace",
        "default_toast_compression",
        "enable_hashjoin",
        "enable_indexscan",
        "enable_mergejoin",
        "enable_nestloop",
        "enable_seqscan",
        "enable_sort",
        "gin_pending_list_limit",
        "hash_mem_multiplier",
        "idle_in_transaction_session_timeout",
        "jit",
        "lock_timeout",
        "maintenance_work_mem",
        "max_parallel_maintenance_workers",
        "max_parallel_workers_per_gather",
        "statement_timeout",
        "temp_buffers",
        "temp_tablespaces",
        "transaction_timeout",
        "vacuum_cost_delay",
        "work_mem",
    }
)

#: Functions of pg_catalog that reach beyond the statement's transaction: other sessions, files, the server, settings,
#: values that a rollback leaves, or SQL in a text. A phase that needs one lists it in ``scope.functions``.
FAR_REACHING: FrozenSet[str] = frozenset(
    {
        "brin_desummarize_range",
        "brin_summarize_new_values",
        "brin_summarize_range",
        "cursor_to_xml",
        "cursor_to_xmlschema",
        "database_to_xml",
        "database_to_xml_and_xmlschema",
        "database_to_xmlschema",
        "dblink",
        "dblink_exec",
        "gin_clean_pending_list",
        "lo_export",
        "lo_import",
        "lo_unlink",
        "loread",
        "lowrite",
        "lo_creat",
        "lo_create",
        "lo_from_bytea",
        "lo_open",
        "lo_put",
        "lo_truncate",
        "lo_truncate64",
        "pg_advisory_lock",
        "pg_advisory_lock_shared",
        "pg_advisory_unlock",
        "pg_advisory_unlock_all",
        "pg_advisory_unlock_shared",
        "pg_backup_start",
        "pg_backup_stop",
        "pg_cancel_backend",
        "pg_clear_attribute_stats",
        "pg_clear_relation_stats",
        "pg_copy_logical_replication_slot",
        "pg_copy_physical_replication_slot",
        "pg_create_logical_replication_slot",
        "pg_create_physical_replication_slot",
        "pg_create_restore_point",
        "pg_current_logfile",
        "pg_drop_replication_slot",
        "pg_export_snapshot",
        "pg_extension_config_dump",
        "pg_import_system_collations",
        "pg_log_backend_memory_contexts",
        "pg_log_standby_snapshot",
        "pg_logical_emit_message",
        "pg_logical_slot_get_binary_changes",
        "pg_logical_slot_get_changes",
        "pg_logical_slot_peek_binary_changes",
        "pg_logical_slot_peek_changes",
        "pg_ls_archive_statusdir",
        "pg_ls_dir",
        "pg_ls_logdir",
        "pg_ls_logicalmapdir",
        "pg_ls_logicalsnapdir",
        "pg_ls_replslotdir",
        "pg_ls_summariesdir",
        "pg_ls_tmpdir",
        "pg_ls_waldir",
        "pg_nextoid",
        "pg_notify",
        "pg_promote",
        "pg_read_binary_file",
        "pg_read_file",
        "pg_read_file_old",
        "pg_reload_conf",
        "pg_replication_origin_advance",
        "pg_replication_origin_create",
        "pg_replication_origin_drop",
        "pg_replication_origin_session_reset",
        "pg_replication_origin_session_setup",
        "pg_replication_origin_xact_reset",
        "pg_replication_origin_xact_setup",
        "pg_replication_slot_advance",
        "pg_restore_attribute_stats",
        "pg_restore_relation_stats",
        "pg_rotate_logfile",
        "pg_rotate_logfile_old",
        "pg_set_attribute_stats",
        "pg_set_relation_stats",
        "pg_stat_file",
        "pg_stat_force_next_flush",
        "pg_stat_reset",
        "pg_stat_reset_backend_stats",
        "pg_stat_reset_replication_slot",
        "pg_stat_reset_shared",
        "pg_stat_reset_single_function_counters",
        "pg_stat_reset_single_table_counters",
        "pg_stat_reset_slru",
        "pg_stat_reset_subscription_stats",
        "pg_stop_making_pinned_objects",
        "pg_switch_wal",
        "pg_sync_replication_slots",
        "pg_terminate_backend",
        "pg_try_advisory_lock",
        "pg_try_advisory_lock_shared",
        "pg_wal_replay_pause",
        "pg_wal_replay_resume",
        "query_to_xml",
        "query_to_xml_and_xmlschema",
        "query_to_xmlschema",
        "schema_to_xml",
        "schema_to_xml_and_xmlschema",
        "schema_to_xmlschema",
        "setval",
        "table_to_xml",
        "table_to_xml_and_xmlschema",
        "table_to_xmlschema",
        "ts_rewrite",
        "ts_stat",
        # of the extension adminpack, which puts them into pg_catalog
        "pg_file_rename",
        "pg_file_sync",
        "pg_file_unlink",
        "pg_file_write",
        "pg_logdir_ls",
    }
)
#: What the names of more such functions begin with.
FAR_REACHING_PREFIX = "binary_upgrade_"


_DEFINED = (
    "AGGREGATE",
    "OPERATOR",
    "TYPE",
    "COLLATION",
    "FUNCTION",
    "PROCEDURE",
    *(f"TEXT SEARCH {words}" for words in ("PARSER", "DICTIONARY", "TEMPLATE", "CONFIGURATION")),
)
_OTHER = (
    *("SET", "GRANT", "REVOKE", "GRANT ROLE", "REVOKE ROLE"),
    *("CREATE TABLE AS", "CREATE MATERIALIZED VIEW", "ANALYZE", "VACUUM"),
)

#: Every tag that an expectation may name.
TAGS: FrozenSet[str] = frozenset(
    [
        *NODE_TAGS.values(),
        *TRANSACTION_TAGS.values(),
        *(f"{verb} {words}" for words in OBJECT_WORDS.values() for verb in ("ALTER", "DROP")),
        *(f"CREATE {words}" for words in _DEFINED),
        *_OTHER,
    ]
)

_TABLE_LIKE = ("TABLE", "INDEX", "SEQUENCE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE")

#: Tag → the words of its subcommands.
_SUBCOMMANDS: List[Tuple[str, Iterable[str]]] = [
    *((f"ALTER {words}", (*ALTER_WORDS.values(), "DROP DEFAULT", "RENAME COLUMN")) for words in _TABLE_LIKE),
    ("ALTER TABLE", ("RENAME CONSTRAINT",)),
    ("ALTER TYPE", ALTER_TYPE_WORDS.values()),
    ("ALTER TYPE", ("ADD VALUE", "RENAME VALUE", "RENAME ATTRIBUTE")),
    ("ALTER DOMAIN", (*ALTER_DOMAIN_WORDS.values(), "DROP DEFAULT", "RENAME CONSTRAINT")),
    *(
        (f"ALTER {words}", ("RENAME", "SET SCHEMA", "OWNER TO", "DEPENDS ON EXTENSION"))
        for words in OBJECT_WORDS.values()
    ),
    ("ALTER EXTENSION", ("UPDATE", "ADD", "DROP")),
]

_PARENTS: Dict[str, str] = {f"{tag} {words}": tag for tag, several in _SUBCOMMANDS for words in several}

#: Kinds that no wider kind implies.
_ALONE = {
    "SET LOCAL",
    *AFTER_COMMIT,
    *COMPUTED.values(),
    *(f"COPY {direction} {place}" for direction in ("FROM", "TO") for place in ("FILE", "PROGRAM")),
    *(f"DROP {words} CASCADE" for words in OBJECT_WORDS.values()),
    *(f"{tag} CASCADE" for tag in ("TRUNCATE TABLE", "REVOKE", "REVOKE ROLE", "DROP OWNED")),
}

#: Every kind that a scope may list.
KINDS: FrozenSet[str] = frozenset((TAGS - set(REFUSED) - {"SET", "COPY"}) | set(_PARENTS) | _ALONE)


def far_reaching(function: str) -> bool:
    """Return whether a function of pg_catalog reaches beyond the statement's transaction."""
    return function in FAR_REACHING or function.startswith(FAR_REACHING_PREFIX)


def parent(kind: str) -> Optional[str]:
    """Return the wider kind that also allows ``kind`` (``ALTER TABLE`` for ``ALTER TABLE ADD COLUMN``), or ``None``."""
    return _PARENTS.get(kind)


def allowed(kind: str, scope: Collection[str]) -> bool:
    """Return whether a scope's list of kinds allows ``kind``."""
    return kind in scope or parent(kind) in scope
