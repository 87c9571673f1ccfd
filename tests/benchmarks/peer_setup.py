"""The peers: what is run, and how each is set up in a scratch directory. None of it is in our lock files."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent / "peers"
CELERY = ("celery[redis]==5.7.0", "httpx==0.28.1", "gevent==26.9.0")
TASKIQ = ("taskiq==0.13.0", "taskiq-redis==1.2.4", "httpx==0.28.1", "httpx-aiohttp==0.2.0", "aiohttp==3.14.5")


class Missing(Exception):
    """A peer cannot be run here; the message says why."""


@dataclass(frozen=True)
class Commands:
    """How to run a prepared peer. ``enqueue`` is given the number of sales."""

    directory: Path
    enqueue: Sequence[str]
    work: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """One peer: `jobs` is sized so that a run takes some seconds."""

    name: str
    about: str
    jobs: int
    prepare: Callable[[Path], Commands]


def _run(*command: str, cwd: Path | None = None, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Missing(f"`{' '.join(command[:4])} …` failed: {(done.stderr or done.stdout).strip()[-300:]}")


def _fresh(scratch: Path, name: str, recipe: str) -> tuple[Path, bool]:
    """Return the directory of this very recipe, and whether it is still to be filled."""
    directory = scratch / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    return directory, not (directory / ".done").exists()


def _python(scratch: Path, name: str, packages: Sequence[str]) -> Path:
    directory, empty = _fresh(scratch, name, "\n".join([sys.version, *packages]))
    if empty:
        shutil.rmtree(directory, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(directory))
        _run(str(directory / "bin/python"), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *packages)
        (directory / ".done").touch()
    return directory / "bin"


def _celery(style: str, *pool: str) -> Callable[[Path], Commands]:
    def prepare(scratch: Path) -> Commands:
        bin_ = _python(scratch, "celery", CELERY)
        quiet = ("--loglevel", "WARNING", "--without-gossip", "--without-mingle")
        return Commands(
            HERE,
            [str(bin_ / "python"), "celery_httpx.py", "enqueue"],
            [str(bin_ / "celery"), "-A", "celery_httpx", "worker", *pool, *quiet],
            {"BENCH_STYLE": style},
        )

    return prepare


def _taskiq(scratch: Path) -> Commands:
    bin_ = _python(scratch, "taskiq", TASKIQ)
    work = [str(bin_ / "taskiq"), "worker", "taskiq_httpx:broker", "--workers", "1", "--max-async-tasks", "256"]
    return Commands(
        HERE,
        [str(bin_ / "python"), "taskiq_httpx.py", "enqueue"],
        [*work, "--log-level", "WARNING"],
    )


def _bullmq(scratch: Path) -> Commands:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Missing("node and npm are not installed")
    source = HERE / "bullmq"
    recipe = "".join((source / name).read_text() for name in ("package.json", "peer.js"))
    directory, empty = _fresh(scratch, "bullmq", recipe)
    if empty:
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(source, directory)
        _run(npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent", cwd=directory)
        (directory / ".done").touch()
    return Commands(directory, [node, "peer.js", "enqueue"], [node, "peer.js", "worker"])


def _asynq(scratch: Path) -> Commands:
    go = shutil.which("go")
    if go is None:
        raise Missing("go is not installed")
    source = HERE / "asynq"
    directory, empty = _fresh(scratch, "asynq", "".join(path.read_text() for path in sorted(source.iterdir())))
    if empty:
        directory.mkdir(parents=True, exist_ok=True)
        _run(go, "build", "-o", str(directory / "peer"), ".", cwd=source, GOTOOLCHAIN="local", GOFLAGS="-mod=readonly")
        (directory / ".done").touch()
    return Commands(directory, ["./peer", "enqueue"], ["./peer", "worker"])


PEERS = (
    Peer(
        "celery-threads",
        "Celery task with `httpx.post`, 50 threads",
        500,
        _celery("post", "--pool", "threads", "--concurrency", "50"),
    ),
    Peer(
        "celery-threads-client",
        "Celery task with one shared `httpx.Client`, 50 threads",
        2_500,
        _celery("client", "--pool", "threads", "--concurrency", "50"),
    ),
    Peer(
        "celery-gevent-client",
        "Celery task with one shared `httpx.Client`, 200 greenlets",
        2_000,
        _celery("client", "--pool", "gevent", "--concurrency", "200"),
    ),
    Peer("taskiq", "taskiq on a Redis stream, httpx over aiohttp, 256 in flight", 6_000, _taskiq),
    Peer("bullmq", "BullMQ on Node with undici, 256 in flight", 20_000, _bullmq),
    Peer("asynq", "Asynq (Go) with net/http, 256 in flight", 20_000, _asynq),
)
