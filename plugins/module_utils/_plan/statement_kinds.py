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

from ansible_collections.incomex.phasegate.plugins.module_utils._plan.node_tags import (
    ALTER_DOMAIN_WORDS,
    ALTER_TYPE_WORDS,
    ALTER_WORDS,
    NODE_TAGS,
    OBJECT_WORDS,
    TRANSACTION_TAGS,
)

#: Tags whose row count the author declares.
ROW_TAGS: FrozenSet[str] = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "COPY"})

#: Kinds that cannot run in a transaction: each is a statement that runs on its own, after COMMIT → the strongest lock that it
#: holds on a table while it runs (PostgreSQL manual, 13.3.1, and the page of each command).
AFTER_COMMIT_KINDS: Dict[str, str] = {
    "CREATE INDEX CONCURRENTLY": "ShareUpdateExclusiveLock",
    "DROP INDEX CONCURRENTLY": "ShareUpdateExclusiveLock",
    "REINDEX CONCURRENTLY": "ShareUpdateExclusiveLock",
    # on the partition, at the end; on the partitioned table SHARE UPDATE EXCLUSIVE
    "ALTER TABLE DETACH PARTITION CONCURRENTLY": "AccessExclusiveLock",
}

#: Kinds that run after COMMIT where they stand there, and in the transaction otherwise → their lock on the table.
EITHER_KINDS: Dict[str, str] = {
    "ALTER TABLE VALIDATE CONSTRAINT": "ShareUpdateExclusiveLock",
    "ALTER TABLE SET NOT NULL": "AccessExclusiveLock",
    # on the partition's index, which every query of that partition opens
    "ALTER INDEX ATTACH PARTITION": "AccessExclusiveLock",
}

#: Tags that no scope can allow, each with the reason.
REFUSED_TAGS: Dict[str, str] = {
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
COMPUTED_KINDS: Dict[str, str] = {tag: f"{tag} EXECUTE" for tag in ("DO", "CREATE FUNCTION", "CREATE PROCEDURE")}

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

#: Settings that a function of a phase may have besides, as its own: none that changes who runs it, how its text is parsed,
#: whether triggers and foreign keys hold, or what is recorded of it.
_OF_FUNCTIONS: FrozenSet[str] = frozenset(
    {
        *("bytea_output", "client_min_messages", "datestyle", "default_text_search_config", "extra_float_digits"),
        *(
            "from_collapse_limit",
            "intervalstyle",
            "join_collapse_limit",
            "lc_messages",
            "lc_monetary",
            "lc_numeric",
            "lc_time",
        ),
        *(
            "max_parallel_workers",
            "plan_cache_mode",
            "random_page_cost",
            "row_security",
            "search_path",
            "seq_page_cost",
        ),
        *("effective_cache_size", "effective_io_concurrency", "synchronous_commit", "temp_file_limit", "timezone"),
        *(
            "cursor_tuple_fraction",
            "debug_parallel_query",
            "force_parallel_mode",
            "recursive_worktable_factor",
            "xmlbinary",
        ),
    }
)
_OF_THE_PLANNER = ("cpu_", "enable_", "geqo", "jit", "min_parallel_", "parallel_")

#: The first parts of settings by which extensions and languages change what runs, or what is recorded of it.
_OF_EXTENSIONS: FrozenSet[str] = frozenset(
    {
        *(
            "auto_explain",
            "pg_stat_monitor",
            "pg_stat_statements",
            "pgaudit",
            "phasegate",
            "sepgsql",
            "set_user",
            "supautils",
        ),
        *("pljava", "plperl", "plpgsql", "plpython", "plpython3", "plr", "pltcl", "plv8"),
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
        "pg_available_wal_summaries",
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
        "pg_start_backup",
        "pg_stop_backup",
        "pg_stop_making_pinned_objects",
        "pg_switch_wal",
        "pg_sync_replication_slots",
        "pg_terminate_backend",
        "pg_try_advisory_lock",
        "pg_try_advisory_lock_shared",
        "pg_wal_replay_pause",
        "pg_wal_replay_resume",
        "pg_wal_summary_contents",
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
ALL_TAGS: FrozenSet[str] = frozenset(
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

#: Objects that all databases of a cluster share: those that a comment or label, and those that a privilege can be on.
SHARED_OBJECTS = ("DATABASE", "ROLE", "TABLESPACE")
SHARED_GRANTED = ("DATABASE", "TABLESPACE", "PARAMETER")

#: Kinds of statements whose tag does not show whether their object is shared: ``COMMENT ON DATABASE``.
_ON_SHARED = frozenset(
    [
        *(f"{tag} ON {words}" for tag in ("COMMENT", "SECURITY LABEL") for words in SHARED_OBJECTS),
        *(f"{tag} ON {words}" for tag in ("GRANT", "REVOKE") for words in SHARED_GRANTED),
        *(f"REVOKE ON {words} CASCADE" for words in SHARED_GRANTED),
    ]
)

#: Tags of statements that change what all databases of a cluster share.
_CLUSTER_TAGS = (
    *("ALTER DATABASE", "ALTER ROLE", "ALTER TABLESPACE", "CREATE ROLE", "DROP ROLE", "GRANT ROLE", "REVOKE ROLE"),
    *("DROP OWNED", "REASSIGN OWNED"),
)

#: Kinds that no wider kind implies.
_ALONE = {
    *(
        f"{tag} {words} CASCADE"
        for tag, several in _SUBCOMMANDS
        for words in several
        if words in ("DROP COLUMN", "DROP CONSTRAINT", "DROP ATTRIBUTE")
    ),
    *_ON_SHARED,
    "SET LOCAL",
    *AFTER_COMMIT_KINDS,
    *COMPUTED_KINDS.values(),
    *(f"COPY {direction} {place}" for direction in ("FROM", "TO") for place in ("FILE", "PROGRAM")),
    *(f"DROP {words} CASCADE" for words in OBJECT_WORDS.values()),
    *(f"{tag} CASCADE" for tag in ("TRUNCATE TABLE", "REVOKE", "REVOKE ROLE", "DROP OWNED")),
}

#: Every kind that a scope may list.
ALL_KINDS: FrozenSet[str] = frozenset((ALL_TAGS - set(REFUSED_TAGS) - {"SET", "COPY"}) | set(_PARENTS) | _ALONE)


def far_reaching(function: str) -> bool:
    """Return whether a function of pg_catalog reaches beyond the statement's transaction."""
    return function in FAR_REACHING or function.startswith(FAR_REACHING_PREFIX)


def cluster_wide(kind: str) -> bool:
    """Return whether statements of this kind reach beyond their database: roles, databases, tablespaces, parameters."""
    return kind in _ON_SHARED or any(kind == tag or kind.startswith(f"{tag} ") for tag in _CLUSTER_TAGS)


def parent_kind(kind: str) -> Optional[str]:
    """Return the wider kind that also allows ``kind`` (``ALTER TABLE`` for ``ALTER TABLE ADD COLUMN``), or ``None``."""
    return _PARENTS.get(kind)


def kind_allowed(kind: str, scope: Collection[str]) -> bool:
    """Return whether a scope's list of kinds allows ``kind``."""
    return kind in scope or parent_kind(kind) in scope


def may_be_set(name: str) -> bool:
    """Return whether a phase may change a setting with SET LOCAL: one of the list, or one of its own, with a dot."""
    return name in LOCAL_SETTINGS or ("." in name and name.lower().partition(".")[0] not in _OF_EXTENSIONS)


def may_be_a_functions(name: str) -> bool:
    """Return whether a function that a phase makes or alters may have a setting of its own; names of settings have no case."""
    known = name.lower()
    return may_be_set(known) or known in _OF_FUNCTIONS or known.startswith(_OF_THE_PLANNER)


def setting_advice(name: str) -> str:
    """Return what to write in place of a change of this setting that is refused."""
    if name == "search_path":
        return "use settings.search_path in phase.yml"
    if may_be_set(name):
        return "write SET LOCAL, or use settings in phase.yml"
    return "remove it"
