"""A tenants file that changes under running workers: torn, empty or wrong, it sends no sale to the wrong host."""

import re
import urllib.request
from pathlib import Path

import pytest

from tests.support.simulator import sale, simulator_process
from tests.support.waiting import wait_until
from tests.support.workers import deployment
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer, free_port

SALES = 20


def refused(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return re.search(r"^trackdesk_tenants_file_refused 1\.0$", answer.read().decode(), re.MULTILINE) is not None


@pytest.mark.system
@pytest.mark.parametrize("server", ["valkey"], indirect=True)
def test_no_sale_goes_to_the_default_host_while_the_file_is_rewritten_and_no_typo_ends_the_worker(
    server: EmbeddedServer, keys: Keys, tmp_path: Path
) -> None:
    port, file = free_port(), tmp_path / "tenants.toml"
    with (
        simulator_process() as wrong,
        simulator_process() as right,
        deployment(server, keys, tmp_path, wrong.base_url) as run,
    ):
        whole = f'[other]\nburst = 3\n[acme]\nbase_url = "{right.base_url}"\n'
        file.write_text(whole)
        worker = run.start_worker({"TRACKDESK_CONFIG": str(file), "TRACKDESK_METRICS_PORT": str(port)})
        ids: list[str] = []

        def sell(about: str) -> None:
            names = [f"{about}-{number}" for number in range(SALES)]
            ids.extend(names)
            run.producer.enqueue_many(map(sale, names))
            wait_until(lambda: run.unfinished() == 0, f"sold while the file is {about}", within_s=30)

        sell("whole")
        with file.open("r+") as rewriting:  # as `cat new > tenants.toml` does, slowly
            rewriting.truncate()
            for part in (whole[:12], whole[12:30], whole[30:]):
                sell(f"cut-at-{rewriting.tell()}")
                rewriting.write(part)
                rewriting.flush()
        sell("whole-again")
        file.write_text("")
        wait_until(lambda: refused(port), "the empty file is refused")
        sell("empty")
        file.write_text(f'[other]\nbase_url = "https://xn--a.trackdesk.com"\n{whole.partition(chr(10))[2]}')
        wait_until(lambda: "xn--a" in run.log_text() or "Codepoint" in run.log_text(), "the typo is refused")
        sell("wrong")
        file.write_text(whole)
        wait_until(lambda: not refused(port), "the whole file is in force again")

        assert worker.poll() is None, run.log_text()
        assert right.exactly_once(ids, tenant="acme").ok
        assert wrong.exactly_once([], tenant="acme").ok, "nothing went to the default host"
