"""A container engine of the tests' own, and base images made from Debian packages: nothing is pulled, nothing stays.

The images carry the names that FROM and docker-compose.yml ask for, and what this machine needs to reach its package
index (certificates, pip's settings), so that the product's own Dockerfile need not know of either.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
SUITE = "trixie"
"""Debian 13: Python 3.13, as FROM asks for, Redis 8, Prometheus and Alertmanager."""
PACKAGES = ("ca-certificates", "python3", "python3-venv", "redis-server", "prometheus", "prometheus-alertmanager")
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
COMPOSE = Path(sys.executable).with_name("docker-compose")
_KEPT_OF_PIP = re.compile(r"^(?:global|:env:)\.(index-url|extra-index-url|proxy|timeout)='(.*)'$", re.MULTILINE)


def why_not() -> str | None:
    """Return why no engine can be run here, in one sentence, or None."""
    if sys.platform != "linux":
        return "a container engine of the tests' own needs Linux"
    if os.geteuid() != 0:
        return "starting dockerd needs root"
    missing = [name for name in ("dockerd", "iptables-save", "mmdebstrap") if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not found: apt-get install docker.io iptables mmdebstrap"
    if _client() is None:
        return "no docker client that can build: apt-get install docker.io, or add the buildx plugin"
    if Path("/sys/class/net/docker0").exists():
        return "another dockerd has docker0 on this machine, and the tests would change its firewall rules"
    return None


def _client() -> str | None:
    """Return a client that builds with BuildKit: up to 22 it is built in, later ones need a plugin."""
    for candidate in ("/usr/bin/docker", shutil.which("docker")):
        if candidate is None or not Path(candidate).exists():
            continue
        version = subprocess.run([candidate, "--version"], capture_output=True, text=True, timeout=10, check=False)
        found = re.search(r"version (\d+)\.", version.stdout)
        builds = (
            subprocess.run([candidate, "buildx", "version"], capture_output=True, timeout=10, check=False).returncode
            == 0
        )
        if found and (int(found[1]) < 23 or builds):
            return candidate
    return None


class Engine:
    """A dockerd over directories of its own; `engine` starts and removes it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home / "dockerd.log"
        self._docker = _client() or "docker"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What clients of this engine find in their environment."""
        return {**os.environ, "DOCKER_HOST": f"unix://{self.home}/docker.sock", "DOCKER_BUILDKIT": "1"}

    def start(self, *, within_s: float = 60) -> None:
        """Start it and wait until it answers."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    *("--host", f"unix://{self.home}/docker.sock", "--pidfile", str(self.home / "docker.pid")),
                    *("--data-root", str(self.home / "data"), "--exec-root", str(self.home / "exec")),
                    *("--bip", "172.31.250.1/24", "--default-address-pool", "base=172.31.240.0/21,size=24"),
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        process = self._process

        def answers() -> bool:
            assert process.poll() is None, self.log.read_text()[-3000:]
            return self.docker("version", check=False).returncode == 0

        wait_until(answers, lambda: f"dockerd answers: {self.log.read_text()[-3000:]}", within_s=within_s, poll_s=0.1)

    def stop(self) -> None:
        """End it with its containers, by its pid."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def docker(
        self, *arguments: str, check: bool = True, stdin: str | None = None, timeout_s: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run one command of the client."""
        return self._run([self._docker, *arguments], check=check, stdin=stdin, timeout_s=timeout_s)

    def out(self, *arguments: str) -> str:
        """Return what a command of the client prints."""
        return self.docker(*arguments).stdout.strip()

    def compose(
        self,
        *arguments: str,
        variables: Mapping[str, str],
        check: bool = True,
        stdin: str | None = None,
        timeout_s: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run one command of Compose over the product's file."""
        command = [str(COMPOSE), "--project-directory", str(ROOT), *arguments]
        return self._run(command, check=check, stdin=stdin, timeout_s=timeout_s, variables=variables)

    def _run(
        self,
        command: Sequence[str],
        *,
        check: bool,
        stdin: str | None,
        timeout_s: float,
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            env={**self.environment, **(variables or {})},
            cwd=ROOT,
            input="" if stdin is None else stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def make_base_images(self, tags: Mapping[str, str]) -> None:
        """Make one file system from Debian packages, and an image of it for each tag and its own Dockerfile lines."""
        (self.home / "pip.conf").write_text(_pip_settings())
        archive = self.home / "rootfs.tar"
        hooks = [
            f'cp {BUNDLE} "$1{BUNDLE}"',
            f'cp {self.home}/pip.conf "$1/etc/pip.conf"',
            'ln -s /usr/bin/python3 "$1/usr/local/bin/python"',
            'install -d -o 999 -g 999 "$1/data"',
            'install -d -o 65534 -g 65534 "$1/prometheus" "$1/alertmanager"',
            'rm -rf "$1/var/lib/apt/lists" "$1/var/cache/apt"',
        ]
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
        command += ["--aptopt=APT::Install-Recommends false"]
        command += [f"--customize-hook={hook}" for hook in hooks]
        self._run([*command, SUITE, str(archive)], check=True, stdin=None, timeout_s=600)
        self.docker("import", str(archive), "trackdesk-test-root")
        archive.unlink()
        empty = self.home / "empty"
        empty.mkdir()
        for tag, lines in tags.items():
            dockerfile = f"FROM trackdesk-test-root\nENV PATH=/usr/local/bin:/usr/bin:/bin\n{lines}\n"
            self.docker("build", "--quiet", "--tag", tag, "--file", "-", str(empty), stdin=dockerfile)

    def build(self, tag: str, *arguments: str) -> None:
        """Build the product's image, over the machine's own network: that is how it reaches the package index."""
        self.docker(
            *("build", "--quiet", "--network", "host", "--file", "deploy/Dockerfile", "--tag", tag),
            *(*arguments, "."),
            timeout_s=900,
        )


def _pip_settings() -> str:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True, timeout=30
    )
    lines = [f"{name} = {value}" for name, value in _KEPT_OF_PIP.findall(listed.stdout)]
    return "\n".join(["[global]", f"cert = {BUNDLE}", *lines, ""])


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """Run an engine while the block does; take away its files, mounts, bridge and firewall rules."""
    home = Path(tempfile.mkdtemp(prefix="td-engine-"))
    running = Engine(home)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove, home)
        stack.enter_context(_network_as_before())
        stack.callback(running.stop)
        running.start()
        yield running


@contextlib.contextmanager
def _network_as_before() -> Iterator[None]:
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    before = forwarding.read_text()
    rules = _command("iptables-save").stdout
    links = _links()
    try:
        yield
    finally:
        for link in _links() - links:
            if link == "docker0" or link.startswith(("br-", "veth")):
                _command("ip", "link", "del", link)
        for table in ("nat", "filter", "mangle", "raw"):
            if f"*{table}\n" not in rules:  # the engine made it: empty it
                for arguments in (["-F"], ["-X"]):
                    _command("iptables", "-t", table, *arguments)
        _command("iptables", "-P", "FORWARD", "ACCEPT")
        subprocess.run(["iptables-restore"], input=rules, text=True, check=False, timeout=10)
        forwarding.write_text(before)


def _links() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def _command(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)


def _remove(home: Path) -> None:
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        where = line.split()[1]
        if where.startswith(f"{home}/"):
            _command("umount", "--lazy", where)
    shutil.rmtree(home, ignore_errors=True)
