# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The corpora, a server for them, and the table of agreement at the end of the run.

The collection is imported where it is used: while pytest collects, a conftest's own imports come too early for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _pytest.terminal import TerminalReporter
    from ansible_collections.incomex.phasegate.tests.corpora.agreement import Result
    from ansible_collections.incomex.phasegate.tests.corpora.corpora import Server

_RESULTS = pytest.StashKey[list["Result"]]()
_NOTES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = []
    config.stash[_NOTES] = []


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> list[Result]:
    """Where tests leave what the closing table shows."""
    return request.config.stash[_RESULTS]


@pytest.fixture(scope="session")
def notes(request: pytest.FixtureRequest) -> list[str]:
    """Where tests leave lines for the end of the run."""
    return request.config.stash[_NOTES]


@pytest.fixture(scope="session")
def root() -> Iterator[Path]:
    """The directory of the corpora; every test that needs it is skipped where they are not."""
    from ansible_collections.incomex.phasegate.tests.corpora import corpora  # noqa: PLC0415

    try:
        with corpora.unpacked() as directory:
            yield directory
    except corpora.MissingCorporaError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    from ansible_collections.incomex.phasegate.tests.corpora import corpora  # noqa: PLC0415

    with corpora.server() as running:
        yield running


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Print the agreement per corpus, and how the disagreements are explained."""
    for note in config.stash[_NOTES]:
        terminalreporter.write_line(note)
    judged = config.stash[_RESULTS]
    if judged:
        from ansible_collections.incomex.phasegate.tests.corpora import agreement  # noqa: PLC0415

        terminalreporter.section("agreement")
        terminalreporter.write_line(agreement.table(judged))
        terminalreporter.write_line(agreement.explanations(judged))
