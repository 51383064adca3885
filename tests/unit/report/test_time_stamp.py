# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The time-stamp of a seal, asked for from a real authority over HTTP, and every answer that is none."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ansible_collections.incomex.phasegate.plugins.module_utils._audit import audit
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.directory import RunDirectory
from ansible_collections.incomex.phasegate.plugins.module_utils._bundle.events import RunNotOpened
from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._report import time_stamp
from ansible_collections.incomex.phasegate.plugins.module_utils._report.sealing import seal_and_sign
from ansible_collections.incomex.phasegate.plugins.module_utils._report.time_stamp import require_authority, stamp_seal
from ansible_collections.incomex.phasegate.tests.support.authority import Authority, answering, openssl

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    artefacts = RunDirectory(str(tmp_path / "alpha_prod_1"))
    (tmp_path / "alpha_prod_1").mkdir()
    artefacts.create()
    RunNotOpened(phase="alpha", environment="prod", host="db1").write(artefacts.journal)
    return artefacts


def audited(run: RunDirectory, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, audit.__file__, run.path, *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_seal_is_stamped_and_the_auditor_verifies_it(run: RunDirectory, authority: Authority) -> None:
    with answering(authority.reply) as (url, asked):
        result = seal_and_sign(run, "stopped", None, url)
        assert "unstamped" not in result
        assert result["changed"]
        # nothing is asked for twice
        assert not seal_and_sign(run, "", None, url)["changed"]
    assert len(asked) == 1
    found = audited(run, "--tsa-ca", str(authority.certificate))
    assert "verified with your authorities" in found.stdout, found.stdout


@pytest.mark.fault("stamp-fraction")
def test_a_time_with_a_fraction_of_a_second_is_read(run: RunDirectory, tmp_path: Path) -> None:
    exact = Authority(tmp_path / "exact", "clock_precision_digits = 3")
    with answering(exact.reply) as (url, _asked):
        assert "unstamped" not in seal_and_sign(run, "stopped", None, url)
    found = audited(run, "--tsa-ca", str(exact.certificate))
    assert re.search(r"sealed before \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ, verified with your authorities", found.stdout), (
        found.stdout
    )
    assert "FINDING" not in found.stdout


def test_a_sealed_run_gets_it_later(run: RunDirectory, authority: Authority) -> None:
    assert not Path(run.file(audit.TIMESTAMP)).exists()
    seal_and_sign(run, "stopped", None)
    with answering(authority.reply) as (url, _asked):
        assert seal_and_sign(run, "", None, url, check_mode=True)["changed"]
        assert not Path(run.file(audit.TIMESTAMP)).exists()
        assert seal_and_sign(run, "", None, url)["changed"]
    assert Path(run.file(audit.TIMESTAMP)).exists()


def test_a_bundle_that_was_changed_is_not_stamped(run: RunDirectory, authority: Authority) -> None:
    seal_and_sign(run, "stopped", None)
    Path(run.file("report.md")).write_text("another", encoding="utf-8")
    with answering(authority.reply) as (url, asked):
        assert not seal_and_sign(run, "", None, url)["changed"]
    assert asked == []


def other(authority: Authority, place: Path) -> Callable[[bytes], bytes]:
    """Return what answers with a time-stamp of another text."""
    (place / "other").write_text("another", encoding="utf-8")
    query = openssl("ts", "-query", "-data", str(place / "other"), "-sha256", "-cert")
    return lambda _query: authority.reply(query)


@pytest.mark.parametrize(
    ("answers", "ends"),
    [
        ("other", (200, "the answer is a time-stamp of something else")),
        ("refusal", (200, "the authority refuses: Status: Rejected.")),
        ("page", (200, "the answer is no time-stamp response")),
        ("nothing", (200, "the answer is no time-stamp response")),
        ("much", (200, "ValueError: an answer of more than 65536 bytes")),
        ("page", (503, "HTTPError: HTTP Error 503")),
        ("page", (302, "HTTPError: HTTP Error 302")),
    ],
)
def test_an_answer_that_is_none_changes_nothing(
    run: RunDirectory, authority: Authority, tmp_path: Path, answers: str, ends: tuple[int, str]
) -> None:
    answer: Callable[[bytes], bytes] = {
        "other": other(authority, tmp_path),
        "refusal": lambda _query: authority.reply(b"no query"),
        "page": lambda _query: b"<html>maintenance</html>",
        "nothing": lambda _query: b"",
        "much": lambda _query: b"0" * 70_000,
    }[answers]
    status, said = ends
    place = {"Location": "file:///etc/hostname"} if status == 302 else {}
    with answering(answer, status, 0.0, **place) as (url, _asked):
        result = seal_and_sign(run, "stopped", None, url)
    assert result["unstamped"].startswith(said)
    assert result["outcome"] == "STOPPED"
    assert not Path(run.file(audit.TIMESTAMP)).exists()
    assert audited(run).returncode in (0, 3)


def test_an_authority_that_is_silent_or_absent_is_waited_for_in_vain_and_not_for_long(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_stamp, "TIMEOUT", 1.0)

    def late(_query: bytes) -> bytes:
        time.sleep(2)
        return b""

    with answering(late) as (url, _asked):
        assert "TimeoutError" in seal_and_sign(run, "stopped", None, url)["unstamped"]
    assert "refused" in stamp_seal(run, url)


@pytest.mark.fault("slow-authority")
def test_an_authority_that_answers_byte_by_byte_holds_no_run(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_stamp, "TIMEOUT", 1.0)
    with answering(lambda _query: b"0" * 50, pause=0.2) as (url, _asked):
        began = time.monotonic()
        assert seal_and_sign(run, "stopped", None, url)["unstamped"] == "TimeoutError: no complete answer within 1 s"
        assert time.monotonic() - began < 8
    assert audited(run).returncode in (0, 3)


def test_the_words_of_an_authority_steer_no_terminal(run: RunDirectory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection = server.accept()[0]
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 500 \x1b[2Jgranted\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        told = seal_and_sign(run, "stopped", None, f"http://127.0.0.1:{server.getsockname()[1]}/")["unstamped"]
    assert told == r"HTTPError: HTTP Error 500: \u001b[2Jgranted"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tsa.example.org",
        "file:///etc/passwd",
        "ftp://tsa.example.org/",
        "http://",
        "https://a:secret@tsa.example.org/",
        "http://[::1",
    ],
)
def test_a_url_of_another_kind_stops_before_a_run(url: str) -> None:
    with pytest.raises(PhaseGateError) as caught:
        require_authority(url)
    assert "secret" not in str(caught.value)


def test_a_seal_is_not_stamped_by_such_a_url(run: RunDirectory) -> None:
    result = seal_and_sign(run, "stopped", None, "https://a:secret@tsa.example.org/")
    assert result["unstamped"] == "the URL of the authority is invalid"


def test_a_url_of_an_authority_does_not() -> None:
    require_authority("https://tsa.example.org/tsr")
    require_authority("http://127.0.0.1:3161")


def test_without_openssl_nothing_can_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PhaseGateError, match="openssl"):
        require_authority("https://tsa.example.org/tsr")
