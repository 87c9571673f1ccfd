"""The quickstart page, run as it is written: every command in order, in three terminals."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/quickstart.md").read_text("utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", PAGE, re.DOTALL)
SETUP, ACTIVATE, SIMULATE, UP, SELL, LEDGER, SHOP, REFUSED, REDRIVE = (code for _, code in BLOCKS)

pytestmark = pytest.mark.system


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Terminals:
    """Shells in one directory, with the page's ports replaced by free ones."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = {port: str(free_port()) for port in ("8790", "6390", "9463")}
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("TRACKDESK_")}
        self._env |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TRACKDESK_CONSOLE_PORT": self._ports["9463"],
            "TRACKDESK_METRICS_PORT": "0",
        }

    def here(self, text: str) -> str:
        """Return the text with the ports of this run."""
        for port, own in self._ports.items():
            text = text.replace(f":{port}/", f":{own}/")
        text = re.sub(
            r"^trackdesk simulate$", f"exec trackdesk simulate --port {self._ports['8790']}", text, flags=re.M
        )
        return re.sub(r"^trackdesk up$", f"exec trackdesk up --port {self._ports['6390']}", text, flags=re.M)

    def get(self, address: str) -> httpx.Response:
        return httpx.get(self.here(address), timeout=5)

    def answers(self, address: str) -> bool:
        try:
            return self.get(address).is_success
        except httpx.TransportError:
            return False

    @contextmanager
    def running(self, code: str) -> Iterator[None]:
        """Run what goes on until Ctrl-C."""
        shell = subprocess.Popen(["bash", "-eu", "-c", self.here(code)], cwd=self._directory, env=self._env)
        try:
            yield
        finally:
            shell.send_signal(signal.SIGINT)
            shell.wait(60)

    def run(self, code: str, *, interpreter: tuple[str, ...] = ("bash", "-euo", "pipefail", "-c")) -> str:
        """Run what ends; return what it printed."""
        command = [*interpreter, self.here(code)]
        done = subprocess.run(
            command, cwd=self._directory, env=self._env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def test_the_page_sets_up_with_a_target_that_exists() -> None:
    assert SETUP == "make setup\n"
    assert ACTIVATE == "source .venv/bin/activate\n"
    assert re.search(r"^setup:.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


@pytest.mark.timeout(300)
def test_its_commands_deliver_a_sale_and_redrive_a_refused_one(tmp_path: Path) -> None:
    terminals = Terminals(tmp_path)
    ledger = "http://127.0.0.1:8790/_simulator/ledger"
    third, sell = SELL.split("\n", 1)
    enqueue, show = sell.strip().splitlines()
    with terminals.running(SIMULATE):
        wait_until(lambda: terminals.answers(ledger), "the simulator answers", within_s=30)
        with terminals.running(UP):
            wait_until(lambda: terminals.answers("http://127.0.0.1:9463/readyz"), "the stack is up", within_s=60)

            def in_third(code: str) -> str:
                return terminals.run(f"{third}\n{code}")

            def recorded() -> list[str]:
                return sorted(row["external_id"] for row in terminals.get(ledger).json()["rows"])

            assert "accepted" in in_third(enqueue)
            wait_until(lambda: recorded() == ["order-1001"], "Trackdesk has the sale", poll_s=0.1)
            wait_until(lambda: "delivered (paired)" in in_third(show), "the sale is delivered", within_s=60)
            assert [row["external_id"] for row in json.loads(in_third(LEDGER))["rows"]] == ["order-1001"]
            assert "duplicate" in in_third(enqueue)

            assert terminals.run(SHOP, interpreter=(sys.executable, "-c")) == "accepted\n"

            refused = REFUSED.strip().splitlines()
            assert "accepted" in in_third(refused[0])
            wait_until(lambda: "order-1003" in in_third(refused[1]), "it is a dead letter", within_s=60)
            assert "type_not_found" in in_third(refused[2])
            create, redrive, show_again, audit = REDRIVE.strip().splitlines()
            in_third(create)
            in_third(redrive)
            wait_until(lambda: "delivered" in in_third(show_again), "it is delivered too", within_s=60)
            assert recorded() == ["order-1001", "order-1002", "order-1003"]
            in_third(audit)
