"""The quickstart of the producer's README, run as it is."""

import re
import subprocess
import sys
from pathlib import Path

import redis

from tests.support.store_check import check_store
from trackdesk_producer.contract.keys import Keys
from trackdesk_worker.local.embedded import EmbeddedServer
from trackdesk_worker.store.job_store import JobStore

README = Path(__file__).parents[2] / "producer" / "README.md"
URL = "redis://localhost:6379/0"


def test_the_quickstart_stores_a_sale_once_and_a_repeat_is_a_duplicate(
    own_server: EmbeddedServer, tmp_path: Path
) -> None:
    block = re.search(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert block is not None
    code = block.group(1)
    assert code.count(URL) == 1
    script = tmp_path / "shop.py"
    script.write_text(code.replace(URL, own_server.url), "utf-8")
    said = []
    for _ in range(2):
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        said.append(done.stdout)
    assert said == ["accepted ready\n", "duplicate ready\n"]
    with redis.Redis(port=own_server.port) as client:
        assert check_store(JobStore(client, Keys())).records.keys() == {"my-shop/order-1001"}
