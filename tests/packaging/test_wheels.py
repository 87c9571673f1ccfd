"""The wheels, built and installed into an environment that has what they declare and nothing else."""

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PLACES = [ROOT / place for place in ("producer", "worker", "worker/trackdesk_simulator")]
FOLDERS = {
    tomllib.loads((place / "pyproject.toml").read_text("utf-8"))["project"]["name"]: place
    for place in PLACES
    if (place / "pyproject.toml").exists()
}
"""Every distribution of the repository."""


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every wheel, by the name of its distribution."""
    target = tmp_path_factory.mktemp("wheels")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", target, *FOLDERS.values())
    return {file.name.split("-")[0].replace("_", "-"): file for file in target.iterdir()}


def metadata_of(wheel: Path) -> dict[str, list[str]]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        message = Parser().parsestr(archive.read(name).decode())
    return {key: message.get_all(key) or [] for key in set(message.keys())}


def needed(requirements: list[str], extras: frozenset[str] = frozenset({""})) -> Iterator[str]:
    """Yield the distributions that requirements ask for here, with all that those ask for."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(Requirement(line), extras) for line in requirements]
    while waiting:
        requirement, asked = waiting.pop()
        wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in asked)
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras | {""}))
        if not wanted or key in seen:
            continue
        seen.add(key)
        if key[0] not in FOLDERS:
            yield key[0]
            waiting += [(Requirement(line), key[1]) for line in distribution(key[0]).requires or []]


def environment(directory: Path, installed: list[Path], requirements: list[str]) -> Path:
    """Make an environment with wheels and links to the distributions they need; return its interpreter."""
    run(sys.executable, "-m", "venv", "--without-pip", directory / "venv")
    python = directory / "venv/bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps")
    run(*pip, *installed)
    linked = directory / "dependencies"
    linked.mkdir()
    for name in needed(requirements):
        try:
            found = distribution(name)
        except PackageNotFoundError:
            pytest.fail(f"{name} is declared and not in the locked environment")
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] != ".."}:
            if not (linked / top).exists():
                (linked / top).symlink_to(Path(str(found.locate_file(top))))
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "dependencies.pth").write_text(f"{linked}\n", "utf-8")
    return python


@pytest.fixture(scope="module")
def worker_python(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with producer and worker, and no extra."""
    base = [wheels["trackdesk-producer"], wheels["trackdesk-worker"]]
    requirements = [line for wheel in base for line in metadata_of(wheel)["Requires-Dist"]]
    return environment(tmp_path_factory.mktemp("worker"), base, requirements)


def test_the_wheels_have_one_version_and_the_licence(wheels: dict[str, Path]) -> None:
    assert wheels.keys() == FOLDERS.keys()
    metadata = {name: metadata_of(wheel) for name, wheel in wheels.items()}
    (version,) = {one["Version"][0] for one in metadata.values()}
    assert f"trackdesk-producer=={version}" in metadata["trackdesk-worker"]["Requires-Dist"]
    for name, one in metadata.items():
        assert one["License-Expression"] == ["Apache-2.0"], name
        with zipfile.ZipFile(wheels[name]) as archive:
            licences = [entry for entry in archive.namelist() if entry.endswith(".dist-info/licenses/LICENSE")]
            assert len(licences) == 1, f"{name}: link LICENSE into {FOLDERS[name].relative_to(ROOT)}"
            assert archive.read(licences[0]) == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("name", FOLDERS)
def test_a_wheel_has_every_file_of_its_package_and_nothing_else(wheels: dict[str, Path], name: str) -> None:
    package = name.replace("-", "_")
    folder = FOLDERS[name] if FOLDERS[name].name == package else FOLDERS[name] / package
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", ".", cwd=folder).splitlines()
    ours = {f"{package}/{line}" for line in listed if (folder / line).exists()}
    with zipfile.ZipFile(wheels[name]) as archive:
        packed = {entry for entry in archive.namelist() if ".dist-info/" not in entry}
    assert packed == ours - {f"{package}/{file}" for file in ("pyproject.toml", "README.md", "LICENSE")}


def test_the_producer_needs_only_what_it_declares(wheels: dict[str, Path], tmp_path: Path) -> None:
    wheel = wheels["trackdesk-producer"]
    requirements = metadata_of(wheel)["Requires-Dist"]
    names = {Requirement(line).name for line in requirements if "extra ==" not in line}
    assert names == {"pydantic", "redis"}
    python = environment(tmp_path, [wheel], requirements)
    code = "from trackdesk_producer import *; Producer(); AsyncProducer(); print(Durability.FSYNC, State.READY)"
    assert run(python, "-I", "-c", code, cwd=tmp_path) == "fsync ready\n"


def test_the_worker_s_commands_start_with_what_it_declares(worker_python: Path, tmp_path: Path) -> None:
    trackdesk = worker_python.with_name("trackdesk")
    listed = run(trackdesk, "--help", cwd=tmp_path)
    code = "from trackdesk_worker.cli import COMMANDS, cli; [cli.get_command(None, name) for name in COMMANDS]"
    run(worker_python, "-I", "-c", code, cwd=tmp_path)
    assert "enqueue" in listed
    simulated = subprocess.run([trackdesk, "simulate"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (simulated.returncode, simulated.stdout) == (1, "")
    assert "[simulator]" in simulated.stderr
    assert run(trackdesk, "--version", cwd=tmp_path).startswith("trackdesk, version ")


def test_the_worker_s_scripts_and_pages_are_found_in_its_wheel(worker_python: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; import trackdesk_worker, trackdesk_producer; "
        "roots = [Path(one.__file__).parent for one in (trackdesk_worker, trackdesk_producer)]; "
        "print(*(root for root in roots)); "
        "print(sum(1 for root in roots for _ in root.rglob('*.lua')) > 20)"
    )
    roots, enough = run(worker_python, "-I", "-c", code, cwd=tmp_path).splitlines()
    assert all(str(worker_python.parents[1]) in root for root in roots.split())
    assert enough == "True"
