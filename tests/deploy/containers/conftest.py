"""One engine and one set of images for the tier."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.containers.engine import ROOT, Engine, engine, why_not

HERE = Path(__file__).parent
IMAGE, DEMO = "trackdesk:test", "trackdesk-demo:test"
LINES = {
    "python": "",
    "redis": "VOLUME /data",
    "prom/prometheus": 'USER nobody\nENTRYPOINT ["/bin/prometheus"]',
    "prom/alertmanager": (
        'RUN ln -s prometheus-alertmanager /bin/alertmanager\nUSER nobody\nENTRYPOINT ["/bin/alertmanager"]'
    ),
}
"""What makes an image of Debian packages stand in for a published one. Nothing can stand in for Grafana's."""


def bases() -> dict[str, str]:
    """Return the images to make: by the names and releases that the Dockerfile and docker-compose.yml ask for."""
    (python,) = re.findall(r"^ARG BASE_IMAGE=(.*)$", (ROOT / "deploy/Dockerfile").read_text("utf-8"), re.MULTILINE)
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    named = [python, *re.findall(r"image: \$\{TRACKDESK_[A-Z]+_IMAGE:-(.*)\}", compose)]
    return {image: LINES[image.partition(":")[0]] for image in named if not image.startswith("grafana/")}


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
        running.make_base_images(bases())
        running.build(IMAGE)
        running.build(DEMO, "--target", "demo")
        yield running
