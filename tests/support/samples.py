# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outputs that README and docs show: found by their marks, compared with a run's, and rewritten from it.

A sample is a fenced block right below ``<!-- sample: NAME -->``. ``tests/e2e/test_samples.py`` makes every output anew and
compares; what it made is kept in ``.cache/samples.json``, from which ``scripts/samples --write`` rewrites the pages. What
no two runs have in common (times, digests, identifiers, directories) is left out of the comparison.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / ".cache" / "samples.json"
#: The directory of all runs, as the README and the other pages show it.
SHOWN_ROOT = {"README.md": "artefacts"}
DEFAULT_ROOT = "/var/lib/phasegate"
#: The pages of the last run that docs show pictures of, and the pictures.
PAGES = ROOT / ".cache" / "pages"
PICTURES = ROOT / "docs" / "images"
LOOKS = PICTURES / "looks.json"

_MARK = re.compile(r"<!-- sample: ([a-z0-9-]+) -->")
_LOOK = re.compile(r"<style>.*?</style>|<h[12][^>]*>.*?</h[12]>", re.DOTALL)
_FENCE = re.compile(r"^```(\w*)$")
_PROMPT = re.compile(r"^[$#] ")
_VARYING = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "<sha256>"),
    (re.compile(r"SHA256:[A-Za-z0-9+/]{43}"), "<key>"),
    (re.compile(r"(?<!\d)\d{8}T\d{6}Z"), "<stamp>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[0-9.Z+]*"), "<time>"),
    (re.compile(r"\b\d{19}\b"), "<system identifier>"),
    (re.compile(r"^(seconds +)[\d.]+$", re.MULTILINE), r"\1<seconds>"),
    (re.compile(r" +\d+\.\d s\b"), " <seconds> s"),
    (re.compile(r"\bpid \d+"), "pid <pid>"),
    (re.compile(r"\btransaction open for \d+ s\b"), "transaction open for <seconds> s"),
    (re.compile(r"\b\d+ bytes\b"), "<size> bytes"),
    (re.compile(r"\b[\d.]+ days old\b"), "<age> days old"),
    (re.compile(r"(?:/[\w.-]+)+/(?=alpha_|plans/)|\b(?:artefacts|plans)/(?=alpha_|plans/)"), ""),
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. ``line`` is that of its fence, from 1; ``sample`` the name in the mark above it, or ''."""

    page: str
    line: int
    language: str
    sample: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """What stands between the fences."""
        return "\n".join(self.lines)


def pages() -> list[Path]:
    """Return README, docs and the READMEs of the roles."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "roles").glob("*/README.md"))]


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of one page, in order."""
    found = []
    lines = path.read_text(encoding="utf-8").split("\n")
    start, language = None, ""
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        if start is None:
            start, language = number, fence[1]
            continue
        mark = _MARK.fullmatch(lines[start - 1]) if start else None
        inside = tuple(lines[start + 1 : number])
        found.append(Block(str(path.relative_to(ROOT)), start + 1, language, mark[1] if mark else "", inside))
        start = None
    assert start is None, f"{path} ends inside a block"
    return found


def documented() -> list[Block]:
    """Return every sample of every page."""
    return [block for path in pages() for block in blocks(path) if block.sample]


def normalised(text: str) -> str:
    """Return an output without what no two runs have in common."""
    for pattern, by in _VARYING:
        text = pattern.sub(by, text)
    return text


def transcript(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with its prompt, and what the block shows below each."""
    parts: list[tuple[list[str], list[str]]] = []
    complete = True
    for line in lines:
        if complete and _PROMPT.match(line):
            parts.append(([line], []))
        elif not parts:
            parts.append(([], [line]))
        else:
            parts[-1][complete].append(line)
        complete = not parts[-1][0] or _complete("\n".join(parts[-1][0])[2:])
    return [("\n".join(command), "\n".join(output)) for command, output in parts]


def _complete(command: str) -> bool:
    """Whether a shell needs no further line to run a command."""
    if command.endswith("\\"):
        return False
    read = subprocess.run(["bash", "-n"], input=command + "\n", capture_output=True, text=True, check=False)
    return not read.stderr


def perform(block: Block, directory: Path, environment: Mapping[str, str], shown: Mapping[str, str], first: str) -> str:
    """Run the commands of a console block and return the block as it should be.

    :param shown: what is in the page by what takes its place here.
    :param first: shell text to run before them.
    """
    commands = [command for command, _output in transcript(block.lines)]
    script = first + "\n"
    for command in commands:
        text = command[2:]
        for page, here in shown.items():
            text = text.replace(page, here)
        script += f"{text}\nprintf '\\0'\n"
    argv = ["bash", "-e", "-o", "pipefail"]
    done = subprocess.run(
        argv, input=script, cwd=directory, env=dict(environment), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    outputs = [output.strip("\n") for output in done.stdout.split("\0")]
    return "\n".join(line for pair in zip(commands, outputs, strict=False) for line in pair if line)


def record(outputs: Mapping[str, str]) -> None:
    """Keep the outputs of a run for ``scripts/samples``."""
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(outputs, indent=1, ensure_ascii=False), encoding="utf-8")


def keep_page(name: str, page: Path) -> None:
    """Keep a page of a run for ``scripts/samples --pictures``."""
    PAGES.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(page, PAGES / f"{name}.html")


def looks() -> dict[str, str]:
    """Return a digest of what the look of each page that was kept comes from: its style, its title, its sections."""
    found = {}
    for file in sorted(PAGES.glob("*.html")):
        parts = _LOOK.findall(file.read_text(encoding="utf-8"))
        assert parts, f"{file} is no page"
        found[file.stem] = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return found


def photographed() -> dict[str, str]:
    """Return what ``looks`` was when the pictures were made."""
    return dict(json.loads(LOOKS.read_text(encoding="utf-8")))


def photograph(browser: Browser) -> list[str]:
    """Make a picture of the top of each page that was kept, and return their names."""
    PICTURES.mkdir(exist_ok=True)
    LOOKS.write_text(json.dumps(looks(), indent=2) + "\n", encoding="utf-8")
    made = []
    for file in sorted(PAGES.glob("*.html")):
        # the narrowest with all columns, so that it can be read at half its size
        page = browser.new_page(viewport={"width": 1000, "height": 1100}, color_scheme="light")
        page.goto(file.as_uri())
        page.screenshot(path=PICTURES / f"{file.stem}.png")
        made.append(f"docs/images/{file.stem}.png")
    return made


def write(outputs: Mapping[str, str]) -> list[str]:
    """Put the outputs into the pages where these differ from them, and return what was rewritten."""
    written = []
    for path in pages():
        lines = path.read_text(encoding="utf-8").split("\n")
        changed = False
        for block in reversed(blocks(path)):
            output = outputs.get(block.sample, block.text)
            if normalised(output) == normalised(block.text):
                continue
            shown = output.replace(DEFAULT_ROOT, SHOWN_ROOT.get(block.page, DEFAULT_ROOT))
            lines[block.line : block.line + len(block.lines)] = shown.split("\n")
            written.append(f"{block.page}: {block.sample}")
            changed = True
        if changed:
            path.write_text("\n".join(lines), encoding="utf-8")
    return written
