# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Split and classify a phase's SQL with PostgreSQL's own parser. Controller only.

What has no name here is rejected: an unknown node, object type or subcommand is a problem, not a guess.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from ansible_collections.incomex.phasegate.plugins.module_utils._common.data_kinds import counts_of
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.relation_names import quoted_name
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.phase_file import Phase, SourceFile
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.problems import (
    PhaseFileError,
    Problem,
    Repair,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._definition.strict_yaml import Path
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.byte_ranges import check_cover
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.plan import (
    Batch,
    Batched,
    SearchedNames,
    Statement,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.sql_lexer import check_statements
from ansible_collections.incomex.phasegate.plugins.module_utils._plan.statement_kinds import (
    COMPUTED_KINDS,
    ROW_TAGS,
    kind_allowed,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.accepted_forms import acceptance_problems
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.batches import (
    batch_of,
    batch_problems,
    declared_batches,
    is_batchable,
    is_declared,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.bodies import body_of
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.calls import (
    check_attributes,
    check_calls,
    check_handed,
    searched_names,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.check_query import query_problem
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.classification import (
    RefusedError,
    classify,
    concurrent_subject,
    either_subject,
    kinds_inside,
    returns_rows,
    temporary_relations,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.names import (
    SqlRules,
    StatementNames,
    check_names,
    collect_names,
    names_inside,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.required_privileges import needs_of
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.rollback_draft import BY_HAND
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.splitting import (
    SqlPiece,
    StatementReporter,
    outer_pieces,
    split_file,
    transaction_pieces,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._sql_analysis.syntax_tree import (
    changes_at_once,
    is_concurrent,
    relation_pair,
    walk,
)


@dataclass(frozen=True)
class PhaseStatements:
    """The statements of a phase's two files, as in the plan."""

    migrate: List[Statement]
    rollback: List[Statement]


def analyse_phase(phase: Phase) -> PhaseStatements:
    """Split and classify both files of ``phase`` and check them, and the SQL of its checks, against the definition.

    Raises ``PhaseFileError`` with every problem.
    """
    statements, problems = derive_statements(phase)
    if not problems and phase.definition["accept"]:
        problems = list(acceptance_problems(phase, statements.migrate))
    if phase.unpinned or problems:
        raise PhaseFileError([*phase.unpinned, *problems])
    return statements


def unwritten(phase: Phase) -> List[Problem]:
    """Return each place of the rollback that a draft left to a person and that still has its mark."""
    lines = phase.rollback.data.decode("utf-8", "replace").splitlines()
    return [
        Problem(
            phase.rollback.path,
            number,
            "",
            "a statement of the rollback is not written yet",
            expected="the statement that undoes it, or a sentence under rollback.cannot_restore that says what stays",
            found=line.strip(),
            next_step="write it and remove the line; a draft runs without it: -e phasegate_draft=true",
        )
        for number, line in enumerate(lines, start=1)
        if line.lstrip().startswith(BY_HAND)
    ]


def derive_statements(phase: Phase) -> Tuple[PhaseStatements, List[Problem]]:
    """Return what ``analyse_phase`` returns, and every problem; a statement that is refused is left out."""
    definition = phase.definition
    problems: List[Problem] = []
    migrate = analyse_file(phase.migrate, _rules(definition, "expect"), problems)
    rollback = analyse_file(phase.rollback, _rules(definition, "rollback"), problems)
    if any(statement["run"] for statement in migrate):
        problems.extend(_expectation_problems(phase, migrate, problems))
        problems.extend(_after_commit_problems(phase, migrate))
        problems.extend(batch_problems(phase, migrate))
    functions = frozenset(definition["scope"]["functions"])
    for section in ("preflight", "verify", "non_scope"):
        for index, check in enumerate(definition[section]):
            if "sql" in check:
                problem = query_problem(check["sql"], functions, definition["settings"]["search_path"])
                if problem:
                    problems.append(
                        phase.at.problem(
                            (section, index, "sql"), problem.what, next_step=problem.next_step, repair=problem.repair
                        )
                    )
    return PhaseStatements(migrate, rollback), problems


def _rules(definition: Mapping[str, Any], section: str) -> SqlRules:
    scope = definition["scope"]
    ours = section == "expect"
    return SqlRules(
        schemas=frozenset(scope["schemas"]),
        kinds=frozenset(scope["statements"] if ours else definition["rollback"]["statements"]),
        functions=frozenset(scope["functions"]),
        search_path=tuple(definition["settings"]["search_path"]),
        rows=definition[section]["rows"],
        kinds_at="scope.statements" if ours else "rollback.statements",
        rows_at=f"{section}.rows",
        batches=declared_batches(definition) if ours else {},
    )


def _expectation_problems(
    phase: Phase, statements: Sequence[Statement], problems: Sequence[Problem]
) -> Iterator[Problem]:
    expect = phase.definition["expect"]
    declared, found = (collections.Counter(tags) for tags in (expect["tags"], (one["tag"] for one in statements)))
    refused = {one.line for one in problems if one.file == phase.migrate.path and one.line}
    refused -= {one["line"] for one in statements}
    path: Path = ("expect", "tags")
    # what is missing may be what was refused: the tag of that is not known
    if found - declared or sum((declared - found).values()) > len(refused):
        yield phase.at.problem(
            path,
            f"the statements of {phase.migrate.name} differ from the declared ones",
            expected=_counted(expect["tags"]),
            found=_counted(found),
            next_step="declare what was found if it is intended, or correct the file",
            repair=Repair(path, dict(found)),
        )
    last = [statement for statement in statements if statement["run"] and not statement["after_commit"]][-1:]
    if "result" in expect and not any(statement["returns_rows"] for statement in last):
        yield phase.at.problem(
            ("expect", "result"),
            f"the last statement of {phase.migrate.name} in its transaction returns no rows",
            expected="a SELECT at the end of the transaction",
            found="".join(f"{statement['tag']} on line {statement['line']}" for statement in last) or "no statement",
            next_step="add the SELECT, or remove expect.result",
        )


def _after_commit_problems(phase: Phase, statements: Sequence[Statement]) -> Iterator[Problem]:
    """Reject checks with after_commit when no statement runs after COMMIT."""
    if any(statement["after_commit"] for statement in statements):
        return
    for index, check in enumerate(phase.definition["verify"]):
        if check.get("after_commit"):
            yield phase.at.problem(
                ("verify", index, "after_commit"),
                f"no statement of {phase.migrate.name} runs after COMMIT",
                expected="a check that is evaluated before COMMIT",
                next_step="remove after_commit",
            )


def _counted(tags: Mapping[str, int]) -> str:
    return ", ".join(f"{tag}: {count}" for tag, count in sorted(tags.items()))


def analyse_file(source: SourceFile, rules: SqlRules, problems: List[Problem]) -> List[Statement]:
    """Return the statements of an SQL file; adds to ``problems``."""
    try:
        return _analysed(source, rules, problems)
    except RecursionError:
        step = "write shorter expressions, and fewer blocks inside each other"
        problems.append(Problem(source.path, 0, "", "statements nested too deeply", next_step=step))
        return []


def _analysed(source: SourceFile, rules: SqlRules, problems: List[Problem]) -> List[Statement]:
    pieces = split_file(source, problems)
    if not pieces:
        return []
    body = transaction_pieces(pieces, lambda node: is_concurrent(node) or is_declared(node, rules.batches))
    outer = outer_pieces(body)
    temporary: Set[str] = set()
    seen: Dict[str, int] = collections.Counter()
    refused = 0
    statements: List[Statement] = []
    for number, piece in enumerate(pieces, start=1):
        report = StatementReporter(source.path, piece, problems)
        inner = body_of(piece.node)
        try:
            tag, kinds = classify(piece.node, outer=number in outer)
            kinds += [kind for kind in kinds_inside(tag, inner) if kind not in kinds]
            after_commit, batch = _after_commit(source, piece, rules, report, last=number > len(body))
        except RefusedError as error:
            report(error.what, next_step=error.next_step)
            refused += 1
            continue
        run = number not in outer
        if after_commit and number <= len(body):
            report(
                f"{kinds[0]} before the end of the file: it cannot run in a transaction",
                next_step="move it to the end of the file, after COMMIT; it runs there on its own",
            )
        names = collect_names(piece.node)
        temporary |= temporary_relations(piece.node)
        inside = names_inside(inner)
        if run:
            _check_kinds(kinds, rules, report, inner.computed)
            check_names(names, rules, temporary, report)
            check_names(inside, rules, temporary, report)
            check_calls([*names.calls, *inside.calls], rules.functions, rules.search_path, report)
            check_attributes((names, inside), rules.functions, report)
            for part in (piece.node, *inner.statements, *inner.expressions):
                check_handed(part, rules.functions, rules.search_path, report)
        runs = (piece.node, *inner.statements, *inner.expressions) if tag == "DO" else (piece.node,)
        seen[tag] += 1
        statements.append(
            {
                "n": number,
                "start": piece.start,
                "end": piece.end,
                "line": piece.line,
                "tag": tag,
                "kinds": kinds,
                "relations": sorted(_relations(runs, rules.search_path, temporary)),
                "needs": sorted(needs_of_all(runs) | _needs_of_batch(batch, after_commit)),
                "returns_rows": returns_rows(piece.node),
                "run": run,
                "after_commit": after_commit,
                **_searched(rules, (names, inside), (piece.node, *inner.statements, *inner.expressions)),
                **_planned(batch),
            }
        )
    _check_after_commit(source, pieces[len(body) :], problems)
    _check_rows(source, seen, refused, rules, problems)
    if not any(statement["run"] for statement in statements) and not problems:
        problems.append(Problem(source.path, 1, "", "no statement besides BEGIN and COMMIT"))
    try:
        if not problems:
            check_cover(statements, source.data, source.sha256, source.name)
            # as the target does: what it would refuse is refused here
            check_statements(statements, source.data, source.name)
    except PhaseGateError as error:
        problems.append(Problem(source.path, 1, "", error.what, expected=error.expected, found=error.found))
    return statements


def _after_commit(
    source: SourceFile, piece: SqlPiece, rules: SqlRules, report: StatementReporter, *, last: bool
) -> Tuple[str, Optional[Batch]]:
    """Return what a statement after COMMIT is about, '' for one of the transaction, and how it runs in batches.

    ``last``: it is behind the transaction. Raises ``RefusedError`` for what no phase can have there.
    """
    if is_concurrent(piece.node):
        return concurrent_subject(piece.node), None
    if last and either_subject(piece.node):
        return either_subject(piece.node), None
    if not last or not is_batchable(piece.node):
        return "", None
    batch = batch_of(piece.node, source.data[piece.start : piece.end], rules.batches, report)
    return quoted_name(*relation_pair(piece.node.relation)) if batch else "", batch


def _planned(batch: Optional[Batch]) -> Batched:
    return {"batch": batch} if batch else {}


def _check_after_commit(source: SourceFile, pieces: Sequence[SqlPiece], problems: List[Problem]) -> None:
    """Refuse, as one problem, what stands after COMMIT and could run in a transaction."""
    wrong = [
        piece
        for piece in pieces
        if not is_concurrent(piece.node) and not is_batchable(piece.node) and not either_subject(piece.node)
    ]
    if not wrong:
        return
    problems.append(
        Problem(
            source.path,
            wrong[0].line,
            "",
            "only statements that cannot run in a transaction, batches and what follows them, may be after COMMIT",
            expected="CREATE, DROP or REINDEX INDEX CONCURRENTLY, DETACH PARTITION … CONCURRENTLY, an UPDATE or DELETE with an entry"
            " in batches, ALTER TABLE with VALIDATE CONSTRAINT or SET NOT NULL alone, ALTER INDEX … ATTACH PARTITION with both schemas",
            found="; ".join(f"line {piece.line}: {' '.join(piece.text.split())[:100]}" for piece in wrong),
            next_step="move them before COMMIT; what needs the result of a statement after COMMIT is a phase of its own",
        )
    )


def _check_kinds(kinds: Sequence[str], rules: SqlRules, report: StatementReporter, computed: str) -> None:
    for kind in kinds:
        if not kind_allowed(kind, rules.kinds):
            why = f": its body cannot be analysed ({computed})" if kind in COMPUTED_KINDS.values() else ""
            report(
                f"{kind} is not in {rules.kinds_at}{why}",
                expected="one of " + ", ".join(sorted(rules.kinds)),
                next_step=f"add {kind} to {rules.kinds_at} if it is intended, or remove the statement",
                repair=Repair(tuple(rules.kinds_at.split(".")), kind, add=True),
            )


def _check_rows(
    source: SourceFile, seen: Mapping[str, int], refused: int, rules: SqlRules, problems: List[Problem]
) -> None:
    for tag in sorted(ROW_TAGS):
        found = seen.get(tag, 0)
        declared = len(counts_of(rules.rows.get(tag, ()), found))
        # what is missing may be what was refused: the tag of that is not known
        if not found <= declared <= found + refused:
            problems.append(
                Problem(
                    source.path,
                    0,
                    "",
                    f"{rules.rows_at} does not match the {tag} statements",
                    expected=f"{found} row counts, one for each {tag}",
                    found=f"{declared}",
                    next_step=f"declare under {rules.rows_at} how many rows each {tag} must report",
                    repair=Repair((*rules.rows_at.split("."), tag), {"each": {"min": 0}} if found else None),
                )
            )


def _searched(rules: SqlRules, names: Sequence[StatementNames], parts: Sequence[Any]) -> SearchedNames:
    """Return what the plan says of a statement that is searched for, nothing without a search_path."""
    return {"searched": sorted(searched_names(names, parts))} if rules.search_path else {}


def _needs_of_batch(batch: Optional[Batch], table: str) -> Set[str]:
    # its rows are found by their key
    return {f"SELECT {table}"} if batch else set()


def _tables(node: Any) -> Set[Tuple[str, str, bool]]:
    """Return the relations of a statement: schema or '', name, only read. A table expression of its WITH is none."""
    names = collect_names(node)
    return {one for one in names.relations if one[0] or not (one[2] and one[1] in names.ctes)}


def _relations(nodes: Iterable[Any], search_path: Sequence[str], temporary: Set[str]) -> Set[str]:
    """Return the relations that statements name, as SQL text; of a name alone those of all schemas that are searched."""
    found: Set[str] = set()
    for schema, name, _read in (one for node in nodes for one in _tables(node)):
        alone = not schema and search_path and not name.startswith("pg_")
        found |= {quoted_name(one, name) for one in (search_path if alone else [schema])}
        found |= {quoted_name("", name)} if alone and name in temporary else set()
    return found


def needs_of_all(nodes: Iterable[Any]) -> Set[str]:
    """Return the privileges that statements need: one of a file, or that and those that its body runs."""
    several = [part for one in nodes for part in (one, *changes_at_once(one))]
    return {need for one in several for need in needs_of(one, list(walk(one)), _tables(one), quoted_name)}
