# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""README and docs name only what exists, and what they show comes from somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.tests.support import samples
from ansible_collections.incomex.phasegate.tests.support.glossary import PAGE, TABLES, updated

if TYPE_CHECKING:
    from pathlib import Path

ROOT = samples.ROOT
PAGES = samples.pages()

LINK = re.compile(r"\]\(([^)\s]+)\)")
#: In backticks: files and directories of the repository, by the folders at its top.
PATH = re.compile(
    r"`((?:playbooks|roles|plugins|docs|tests|scripts|inventory|molecule|meta|changelogs)/[\w./-]*)`"
    r"|`((?:[\w-]+/)*[\w-]+\.(?:md|toml|cfg|txt))`"
)
#: Files that a run or an author writes.
WRITTEN = {"SUMMARY.txt", "report.md", "review.md", "drift.txt", "schema/diff.txt"}
PLAYBOOK = re.compile(r"\bplaybooks/(\w+)\.yml|\bansible-playbook (\w+)\.yml")
FULL_NAME = re.compile(r"\bincomex\.phasegate\.(\w+)")
VARIABLE = re.compile(r"\bphasegate_[a-z_]*[a-z]\b")
TARGET = re.compile(r"(?:`|^\$ )make ([a-z]+)", re.MULTILINE)
PRIVATE = re.compile(r"`(_[a-z_]+)(?:\.py)?`")


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings as GitHub and GitLab make them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named(pattern: re.Pattern[str]) -> dict[str, list[str]]:
    """Return what a pattern finds, by page."""
    found = {}
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        names = ["".join(match.groups(default="")) or match[0] for match in pattern.finditer(text)]
        found[str(path.relative_to(ROOT))] = names
    assert any(found.values()), "the pattern finds nothing at all"
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_paths_exist() -> None:
    for page, paths in named(PATH).items():
        folder = (ROOT / page).parent
        for path in paths:
            known = path in WRITTEN or any((place / path).exists() for place in (ROOT, folder))
            assert known, f"{page} names {path}"


def test_private_modules_exist() -> None:
    below = ROOT / "plugins" / "module_utils"
    exist = {path.stem for path in below.rglob("_*")}
    for page, names in named(PRIVATE).items():
        if page == "docs/architecture.md":
            assert set(names) <= exist, f"{page}: {sorted(set(names) - exist)}"


def test_playbooks_modules_roles_and_callbacks_exist() -> None:
    playbooks = {path.stem for path in [*(ROOT / "playbooks").glob("*.yml"), *ROOT.glob("*.yml")]}
    modules = {path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")}
    roles = {path.name for path in (ROOT / "roles").iterdir()}
    callbacks = {path.stem for path in (ROOT / "plugins" / "callback").glob("*.py")}
    for page, names in named(PLAYBOOK).items():
        assert set(names) <= playbooks, f"{page}: {sorted(set(names) - playbooks)}"
    for page, names in named(FULL_NAME).items():
        unknown = set(names) - playbooks - modules - roles - callbacks - {"phasegate"}
        assert not unknown, f"{page}: {sorted(unknown)}"


def test_variables_are_inputs() -> None:
    sources = [
        *(ROOT / "playbooks").rglob("*.yml"),
        *(ROOT / "roles").rglob("*.yml"),
        *(ROOT / "plugins").rglob("*.py"),
    ]
    inputs = {name for path in sources for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}
    for page, names in named(VARIABLE).items():
        assert set(names) <= inputs, f"{page}: {sorted(set(names) - inputs)}"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    targets |= set(re.findall(r"^SUITES := (.*)$", makefile, re.MULTILINE)[0].split())
    for page, names in named(TARGET).items():
        assert set(names) <= targets, f"{page}: {sorted(set(names) - targets)}"


def test_what_looks_like_an_output_has_the_mark_of_a_sample() -> None:
    for path in PAGES:
        for block in samples.blocks(path):
            where = f"{block.page}:{block.line}"
            assert block.language or block.sample, f"{where} has neither a language nor a mark"
            if block.language != "console":
                continue
            shown = any(output for _command, output in samples.transcript(block.lines))
            assert not shown or block.sample, f"{where} shows an output and has no mark"


def test_the_glossary_has_the_tables_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == updated(page), "run scripts/glossary --write"
    assert [len(table) for table in TABLES.values()] == [9, 6, 11, 9]


def test_a_glossary_without_a_place_for_a_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 places for the table gates"):
        updated(PAGE.read_text(encoding="utf-8").replace("<!-- generated: gates -->", ""))


def test_the_readmes_of_roles_have_their_inputs() -> None:
    argv = [sys.executable, "scripts/check_roles"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


CONSOLE = """\
$ one \\
    two
out
# cat <<'END'
$ not a command
END
$ three
"""


def test_a_transcript_separates_commands_from_outputs() -> None:
    assert samples.transcript(CONSOLE.splitlines()) == [
        ("$ one \\\n    two", "out"),
        ("# cat <<'END'\n$ not a command\nEND", ""),
        ("$ three", ""),
    ]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("seconds       3.2", "seconds       58.0", True),
        ("bundle alpha_local_20261126T032551Z", "bundle alpha_local_20270101T000000Z", True),
        ("report        /var/lib/phasegate/alpha_x/report.md", "report        artefacts/alpha_x/report.md", True),
        (f"seal {'a' * 64}", f"seal {'b' * 64}", True),
        ("preflight     10/10", "preflight     not run", False),
        ("UPDATE 86", "UPDATE 0", False),
        ("G-1   PASS", "G-1   FAIL", False),
    ],
)
def test_outputs_are_equal_but_for_what_varies(one: str, other: str, same: bool) -> None:
    assert (samples.normalised(one) == samples.normalised(other)) is same


def test_samples_are_rewritten_where_they_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "README.md"
    page.write_text(
        "a\n<!-- sample: x -->\n```\nold\n```\n<!-- sample: y -->\n```\nseconds       1.0\n```\n", encoding="utf-8"
    )
    monkeypatch.setattr(samples, "ROOT", tmp_path)
    assert samples.write({"x": "new\nlines in /var/lib/phasegate", "y": "seconds       2.0"}) == ["README.md: x"]
    text = page.read_text(encoding="utf-8")
    assert "```\nnew\nlines in artefacts\n```" in text
    assert "seconds       1.0" in text
