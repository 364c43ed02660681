"""A PostgreSQL server of our own for tests: from the system's packages, in a folder of its own, on a Unix socket.

Each store gets a database of its own, made from a template that `engine/postgres_schema.py` has migrated.
"""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import psycopg

from engine.postgres_schema import migrate

PATIENCE: Final = 60
TEMPLATE: Final = "tocsin_template"
# The server refuses to run as root.
USER: Final = "postgres" if os.geteuid() == 0 else None


def programs() -> Path | None:
    """Where initdb and postgres are; None: PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3].split(".")[0]))
    if found:
        return found[-1].parent
    other = shutil.which("initdb")
    return Path(other).resolve().parent if other else None


def _runs(process: int) -> bool:
    """Whether it is neither gone nor dead."""
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


def name_in(address: str) -> str:
    """The name of the database at an address."""
    return address.partition("?")[0].rpartition("/")[2]


class Postgres:
    """One server. `crash` and `start` do to it what faults do.

    Args:
        durable: it syncs; else a crash of the machine may cost the cluster.
        archived: its write-ahead log is kept in `folder / "archive"`.
        wal: an empty folder for its write-ahead log, in segments of 1 MB instead of 16.
    """

    def __init__(self, folder: Path, *, durable: bool = True, archived: bool = False, wal: Path | None = None) -> None:
        found = programs()
        assert found is not None, "PostgreSQL is not installed"
        self._programs, self.folder, self._durable = found, folder, durable
        self._archive = folder / "archive" if archived else None
        self._numbers = itertools.count(1)
        folder.mkdir(parents=True, exist_ok=True)
        for place in (folder, self._archive, wal):
            if place is not None:
                place.mkdir(exist_ok=True)
                if USER is not None:
                    shutil.chown(place, USER)
        apart = [] if wal is None else ["--waldir", str(wal), "--wal-segsize=1"]
        self._run("initdb", "-D", str(folder / "data"), "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N", "-U", "postgres", *apart)
        self._server: subprocess.Popen[bytes] | None = None
        self.start()
        with self.superuser() as connection:
            connection.execute("CREATE ROLE owner LOGIN; CREATE ROLE app LOGIN")
            connection.execute(f"CREATE DATABASE {TEMPLATE} OWNER owner")
        migrate(self.address(TEMPLATE, user="owner"), role="app")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([self._programs / program, *arguments], user=USER, check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings: list[str] = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={self.folder}", "-c", "max_connections=200"]
        if not self._durable:
            settings += ["-c", "fsync=off", "-c", "full_page_writes=off"]
        if self._archive is not None:
            settings += ["-c", "archive_mode=on", "-c", f"archive_command=test ! -f {self._archive}/%f && cp %p {self._archive}/%f"]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self.folder / "data"), *settings], user=USER, stdout=log, stderr=log, cwd=self.folder
            )
        self._wait()

    def _ready(self) -> bool:
        command = [str(self._programs / "pg_isready"), "-h", str(self.folder), "-q"]
        return subprocess.run(command, check=False).returncode == 0

    def _wait(self) -> None:
        while not self._ready():
            assert self._server is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._server.wait(0.05)
                raise RuntimeError(f"PostgreSQL ended with {code}:\n{(self.folder / 'log').read_text()[-2000:]}")

    def crash(self) -> None:
        """Kill it without a word, each of its processes: a session outlives its postmaster by a while, and answers."""
        assert self._server is not None
        postmaster, *sessions = self._processes()
        for process in (postmaster, *sessions):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._server.wait()
        while any(_runs(session) for session in sessions):
            os.sched_yield()

    def _processes(self) -> list[int]:
        assert self._server is not None
        postmaster = self._server.pid
        if self._server.poll() is not None:
            return []
        return [postmaster, *(int(child) for child in Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split())]

    def freeze(self) -> None:
        """Let it hang: connections stay, and nobody answers."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        for process in self._processes():
            os.kill(process, signal.SIGCONT)

    def limit_files(self, size: int | None) -> None:
        """Let none of its files grow beyond this, and write nowhere beyond it; None: no limit."""
        most = "unlimited" if size is None else str(size)
        for process in self._processes():
            # As its own user: root may not do it to others everywhere. One of them may have ended meanwhile.
            subprocess.run(["prlimit", "--pid", str(process), f"--fsize={most}:"], user=USER, check=False, stderr=subprocess.DEVNULL)

    def supervise(self) -> None:
        """Start it if it has ended by itself; returns when it answers."""
        assert self._server is not None
        while not self._ready():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(0.05)
                self.start()

    def stop(self) -> None:
        """End it; sessions are cut."""
        assert self._server is not None
        self._server.send_signal(signal.SIGINT)  # a "fast" shutdown
        self._server.wait(PATIENCE)

    def base_backup(self) -> Path:
        """A copy of the whole cluster, made beside whoever works on it."""
        target = self.folder / "base"
        self._run("pg_basebackup", "-h", str(self.folder), "-U", "postgres", "-D", str(target), "-X", "none", "--checkpoint=fast", "--no-sync")
        return target

    def archive_now(self) -> None:
        """Returns when everything that was committed is in the archive."""
        with self.superuser() as connection:
            row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
            assert row is not None
            while connection.execute("SELECT last_archived_wal >= %s FROM pg_stat_archiver", row).fetchone() != (True,):
                connection.execute("SELECT pg_sleep(0.02)")

    def recover(self, base: Path, instant: datetime) -> None:
        """Destroy the cluster, and make it again as it was at an instant."""
        self.crash()
        shutil.rmtree(self.folder / "data")
        base.rename(self.folder / "data")
        with (self.folder / "data" / "postgresql.auto.conf").open("a") as settings:
            settings.write(
                f"restore_command = 'cp {self._archive}/%f %p'\nrecovery_target_time = '{instant.isoformat()}'\nrecovery_target_action = 'promote'\n"
            )
        (self.folder / "data" / "recovery.signal").touch()
        self.start()
        with self.superuser() as connection:
            while connection.execute("SELECT pg_is_in_recovery()").fetchone() != (False,):
                connection.execute("SELECT pg_sleep(0.02)")

    def address(self, database: str, *, user: str = "app") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    @contextlib.contextmanager
    def superuser(self, address: str | None = None) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """A session of the role that may do everything on the server, in the database at this address."""
        name = "postgres" if address is None else name_in(address)
        with psycopg.connect(self.address(name, user="postgres"), autocommit=True) as connection:
            yield connection

    def tablespace(self, name: str, place: Path) -> None:
        """Another place for databases: a folder that it makes."""
        place.mkdir()
        if USER is not None:
            shutil.chown(place, USER)
        with self.superuser() as connection:
            connection.execute(f"CREATE TABLESPACE {name} LOCATION '{place}'")

    def database(self, *, tablespace: str = "pg_default") -> str:
        """The address of a new, migrated, empty database."""
        name = f"t{os.getpid()}_{next(self._numbers)}"
        with self.superuser() as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER owner TEMPLATE {TEMPLATE} TABLESPACE {tablespace} STRATEGY file_copy")
            connection.execute(f"GRANT CREATE ON DATABASE {name} TO app")  # a copy of a database has its own rights
        return self.address(name)

    def drop(self, address: str) -> None:
        """Be rid of a database, and of who is still connected to it."""
        with self.superuser() as connection:
            connection.execute(f"DROP DATABASE {name_in(address)} WITH (FORCE)")


@contextlib.contextmanager
def running(*, durable: bool = True, archived: bool = False, wal: Path | None = None) -> Iterator[Postgres]:
    """A server for a while."""
    # The path of a Unix socket may have some 100 characters; a test's own folder has more.
    with tempfile.TemporaryDirectory(prefix="pg", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # the server may run as another user
        server = Postgres(Path(folder) / "s", durable=durable, archived=archived, wal=wal)
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def pooled(server: Postgres, address: str) -> Iterator[str]:
    """The address of a database through a pgbouncer in transaction mode, as it is configured by default otherwise."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    name = name_in(address)
    with tempfile.TemporaryDirectory(prefix="pb", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        settings = Path(folder) / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n{name} = host={server.folder} dbname={name}\n[pgbouncer]\npool_mode = transaction\nlisten_addr =\n"
            f"unix_socket_dir = {folder}\nauth_type = trust\nauth_file = {folder}/users\nlogfile = {folder}/log\nmax_client_conn = 100\ndefault_pool_size = 4\n"
            "ignore_startup_parameters = extra_float_digits\n"
        )
        (Path(folder) / "users").write_text('"app" ""\n"owner" ""\n')
        if USER is not None:
            shutil.chown(folder, USER)
        process = subprocess.Popen([program, "-q", str(settings)], user=USER, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            socket_file = Path(folder) / ".s.PGSQL.6432"
            while not socket_file.exists():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    raise RuntimeError(f"pgbouncer ended with {process.wait(0.05)}")
            yield f"postgresql://app@/{name}?host={folder}&port=6432"
        finally:
            process.terminate()
            process.wait(PATIENCE)
