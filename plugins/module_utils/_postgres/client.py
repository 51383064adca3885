# Copyright (c) 2026, incomex.phasegate contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where PostgreSQL's programs run and how they connect: the only code that builds a command line."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import IO, Any, Iterator, Mapping

from ansible_collections.incomex.phasegate.plugins.module_utils._common.errors import PhaseGateError
from ansible_collections.incomex.phasegate.plugins.module_utils._common.module import fail_with
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.psql_session import (
    ALSO,
    ConnectionLost,
    Session,
    SqlError,
)
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.quoting import literal
from ansible_collections.incomex.phasegate.plugins.module_utils._postgres.server_versions import (
    for_major,
    major_of,
    varying,
)

# Settings that change what SQL means, or the text that the server deparses or prints. They are fixed for every session of
# phasegate, no phase may change one, and they are set again after every statement of a phase: a trigger's function can change any.
FIXED_SETTINGS = {
    "search_path": "pg_catalog, pg_temp",
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "client_min_messages": "notice",
    "array_nulls": "on",
    "transform_null_equals": "off",
    # else an index returns some of its rows
    "gin_fuzzy_search_limit": "0",
}

SESSION_SETTINGS = {
    **FIXED_SETTINGS,
    "jit": "off",
    # the role's and the database's own are for applications: a run is ended by its own limits, and says so
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}

# A timeout of one millisecond ends a SET now and then.
_TIMEOUT_ATTEMPTS = 100
_QUERY_CANCELED = "57014"

# Arguments of every module that connects to PostgreSQL; documented in doc_fragments/_connection.py.
CONNECTION_ARGUMENTS: dict[str, dict[str, Any]] = {
    "container": {"type": "str"},
    "container_engine": {"type": "str", "default": "docker"},
    "bindir": {"type": "path"},
    "host": {"type": "str"},
    "port": {"type": "int"},
    "database": {"type": "str", "required": True},
    "user": {"type": "str"},
    "service": {"type": "str"},
    "passfile": {"type": "str", "no_log": False},
    "sslmode": {"type": "str", "choices": ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]},
}


_CONNECTION_STRING = re.compile(
    r"^\s*postgres(ql)?:|://|(^|[\s'?&])(dbname|host|hostaddr|port|user|password|passfile|options|service|servicefile"
    r"|ssl\w+|gss\w+|krbsrvname|application_name|channel_binding|connect_timeout|target_session_attrs|require_auth)\s*=",
    re.IGNORECASE,
)


def require_plain_values(values: Mapping[str, Any]) -> None:
    """Raise ``PhaseGateError`` when a connection's value is a connection string or URL: it could contain a password.

    The message does not repeat the value.
    """
    for name, value in values.items():
        if isinstance(value, str) and _CONNECTION_STRING.search(value):
            raise PhaseGateError(
                f"The connection's {name} is a connection string or URL.",
                expected=f"the plain {name}; host, port, user and the like are options of their own",
                found="key=value settings or a URL, not shown here because they can contain a password",
                next_step="set each value on its own; a password belongs in passfile or a service file, and one that was"
                " written elsewhere has to be changed",
            )


def conninfo(parameters: Mapping[str, str]) -> str:
    """Return a libpq connection string; a backslash goes before every backslash and quote of a value."""
    quoted = {key: value.replace("\\", "\\\\").replace("'", "\\'") for key, value in parameters.items()}
    return " ".join(f"{key}='{value}'" for key, value in quoted.items())


@dataclass(frozen=True)
class Client:
    """The place of PostgreSQL's programs, and one connection.

    ``container`` runs the programs by ``<engine> exec`` there; without it they run on this host, from ``bindir``
    when given. The rest are libpq's parameters. A password is never among them: PostgreSQL reads it from
    ``passfile`` or a service file, or trusts the socket.
    """

    database: str
    container: str | None = None
    container_engine: str = "docker"
    bindir: str | None = None
    host: str | None = None
    port: int | None = None
    user: str | None = None
    service: str | None = None
    passfile: str | None = None
    sslmode: str | None = None

    def __post_init__(self) -> None:
        """Refuse connection strings before a program is started with one."""
        require_plain_values({name: getattr(self, name) for name in CONNECTION_ARGUMENTS})

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Client:
        """Build a client from a module's parameters."""
        return cls(**{name: params[name] for name in CONNECTION_ARGUMENTS})

    @classmethod
    def of_module(cls, module: Any) -> Client:
        """Build a client from an ``AnsibleModule``, which ends as failed when its connection cannot be used."""
        try:
            return cls.from_params(module.params)
        except PhaseGateError as error:
            fail_with(module, error)

    @property
    def place(self) -> str:
        """Return where the programs run, for people."""
        return f"container {self.container}" if self.container else "this host"

    def connection_string(self, application_name: str) -> str:
        """Return the libpq connection string of this client."""
        parameters = {
            "service": self.service,
            "host": self.host,
            "port": None if self.port is None else str(self.port),
            "user": self.user,
            "passfile": self.passfile,
            "sslmode": self.sslmode,
            "dbname": self.database,
            "application_name": application_name,
            "client_encoding": "UTF8",
            "connect_timeout": "10",
        }
        return conninfo({key: value for key, value in parameters.items() if value is not None})

    def engine(self) -> str:
        """Return the path of the container engine's client. Raises ``PhaseGateError`` when there is none."""
        engine = shutil.which(self.container_engine)
        if engine is None:
            raise PhaseGateError(
                "The container engine's client is missing.",
                expected=f"the program {self.container_engine!r} on this host",
                found="not in PATH",
                next_step="install it, name another with container_engine, or omit container to connect from this host",
            )
        return engine

    def argv(self, program: str, *arguments: str) -> list[str]:
        """Return the argument list that runs one of PostgreSQL's client programs in this place."""
        if self.container:
            return [self.engine(), "exec", "-i", self.container, program, *arguments]
        path = os.path.join(self.bindir, program) if self.bindir else shutil.which(program)
        if path is None or not os.access(path, os.X_OK):
            raise PhaseGateError(
                f"The PostgreSQL program {program} is missing.",
                expected=f"{program} on this host" + (f" in {self.bindir}" if self.bindir else ""),
                found="no such program",
                next_step="install the PostgreSQL client programs, set bindir, or set container to run them in a container",
            )
        return [path, *arguments]

    def run_on(self, directory: str, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end that reads a directory of this host and needs no connection.

        If the programs are in a container, this uses a new container of the same image, without network, that sees the
        directory read-only and is removed at the end: nothing is copied into the container of the server.
        """
        if not self.container:
            return self.run(program, *arguments)
        engine = self.engine()
        inspect = [engine, "inspect", "--type=container", "--format={{.Image}}", self.container]
        image = subprocess.run(inspect, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if image.returncode != 0:
            return image
        mount = f"--mount=type=bind,source={directory},target={directory},readonly"
        argv = [engine, "run", "--rm", "--network=none", "--user=0", mount, f"--entrypoint={program}"]
        argv += [image.stdout.decode().strip(), *arguments]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def start(self, program: str, *arguments: str, **streams: Any) -> subprocess.Popen[bytes]:
        """Start a PostgreSQL program in this place. ``streams`` are Popen's stdin, stdout and stderr."""
        return subprocess.Popen(self.argv(program, *arguments), **streams)

    def run(self, program: str, *arguments: str, stdin: IO[bytes] | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run a program to its end with its output captured; the caller checks the exit status."""
        return subprocess.run(
            self.argv(program, *arguments), stdin=stdin or subprocess.DEVNULL, capture_output=True, check=False
        )

    @contextlib.contextmanager
    def session(self, application_name: str = "phasegate", *, detached: bool = False) -> Iterator[Session]:
        """Open a psql session with the settings of ``SESSION_SETTINGS``; it is closed at the end of the block.

        A ``detached`` one can outlive the module: signals to the module's processes do not reach its psql.
        Raises ``PhaseGateError`` with the server's message when the connection fails.
        """
        process = self.start(
            "psql",
            "--no-psqlrc",
            "--no-password",
            "--quiet",
            "--no-align",
            "--tuples-only",
            "--set=ON_ERROR_STOP=0",
            "--set=VERBOSITY=verbose",
            "--dbname",
            self.connection_string(application_name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=detached,
        )
        session = Session(process, another=lambda: self.session(application_name))
        try:
            try:
                _end_timeout(session)
                session.major = major_of(
                    session.value("SELECT pg_catalog.current_setting('server_version_num')") or "0"
                )
                session.execute(_settings_sql(session))
            except ConnectionLost as lost:
                raise PhaseGateError(
                    f"Cannot connect to database {self.database!r} from {self.place}.",
                    expected="a PostgreSQL server that accepts this connection without asking for a password",
                    found=lost.found,
                    next_step="check container, host, port, database, user, service and passfile of this target in the inventory",
                ) from lost
            yield session
        finally:
            session.close()


def restore_settings(session: Session) -> None:
    """Give a session its identity and settings of the beginning again, whatever a script has set since."""
    resets = ("RESET SESSION AUTHORIZATION", "RESET ROLE", "RESET ALL")
    session.execute(ALSO.join((*resets, f"COPY ({_settings_sql(session)}) TO STDOUT")))


def _end_timeout(session: Session) -> None:
    """Set the session's own statement_timeout; one of the role or the database may be so short that it ends this, too."""
    for attempt in range(_TIMEOUT_ATTEMPTS):
        try:
            session.execute("SET statement_timeout = 0")
        except SqlError as error:  # noqa: PERF203 - each attempt has its own end
            if error.sqlstate != _QUERY_CANCELED or attempt == _TIMEOUT_ATTEMPTS - 1:
                raise
        else:
            return


def _settings_sql(session: Session) -> str:
    """Return one SELECT that sets every session setting, and English messages where the role may choose them."""
    settings = ", ".join(
        f"pg_catalog.set_config({literal(name)}, {literal(value)}, false)" for name, value in SESSION_SETTINGS.items()
    )
    english = f"CASE WHEN {varying('may_set', 'lc_messages')} THEN pg_catalog.set_config('lc_messages', 'C', false) END"
    return f"SELECT {settings}, {for_major(english, session.major)}"
