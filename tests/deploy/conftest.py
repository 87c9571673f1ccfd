"""One engine and one set of images for the tier."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import Engine, engine, why_not

HERE = Path(__file__).parent
IMAGE, DEMO = "trackdesk:test", "trackdesk-demo:test"
BASES = {
    "python:3.13-slim": "",
    "redis:7.4-bookworm": "VOLUME /data",
    "prom/prometheus:v3.5.0": 'USER nobody\nENTRYPOINT ["/bin/prometheus"]',
    "prom/alertmanager:v0.28.1": (
        'RUN ln -s prometheus-alertmanager /bin/alertmanager\nUSER nobody\nENTRYPOINT ["/bin/alertmanager"]'
    ),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tier its mark: `make test` leaves it out."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.deploy)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def docker() -> Iterator[Engine]:
    """An engine with base images and the product's two images, built by its Dockerfile."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with engine() as running:
        running.make_base_images(BASES)
        running.build(IMAGE)
        running.build(DEMO, "--target", "demo")
        yield running
