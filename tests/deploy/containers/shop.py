"""Runs in a container beside the workers: sells without pause until its input ends, and says what was accepted.

Like a shop it keeps what was refused or not confirmed, and tries that again.
"""

import json
import sys
import threading

from trackdesk_producer import Conversion, Producer, ProducerError

PAUSE_S = 0.02
ended = threading.Event()


def end_with_stdin() -> None:
    sys.stdin.read()
    ended.set()


threading.Thread(target=end_with_stdin, daemon=True).start()

accepted: list[str] = []
repeated = 0
with Producer("redis://redis:6379/0", tenant="demo-shop", namespace=sys.argv[1]) as shop:
    number = 0
    while not ended.is_set():
        number += 1
        sale = Conversion(
            conversion_type_code="sale", cid=f"click-{number}", amount="10.50", currency="EUR",
            external_id=f"sold-{number}",
        )  # fmt: skip
        while True:
            try:
                assert shop.enqueue(sale).ok
            except ProducerError:
                repeated += 1
                ended.wait(0.2)
            else:
                accepted.append(f"sold-{number}")
                break
        ended.wait(PAUSE_S)
print(json.dumps({"accepted": accepted, "repeated": repeated}))
