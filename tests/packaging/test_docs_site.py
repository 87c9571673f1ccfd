"""The docs build without a network, warn about nothing, and load nothing from another host."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OFFLINE = """
import socket, sys
def refuse(self, address):
    raise AssertionError(f"the build asked {address}")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda *a, **k: refuse(None, a)
from sphinx.cmd.build import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-c", OFFLINE, "-q", "-W", "--keep-going", "-b", "html", "-d", target / "trees"]
    done = subprocess.run(
        [str(part) for part in (*command, ROOT / "docs", target / "html")],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return target / "html"


def test_a_page_loads_nothing_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        text = page.read_text("utf-8")
        loaded = re.findall(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"', text)
        loaded += re.findall(r'<link\b[^>]*\brel="(?:stylesheet|preload|icon)"[^>]*\bhref="([^"]+)"', text)
        assert [url for url in loaded if url.startswith(("http:", "https:", "//"))] == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text("utf-8")), style.name


def test_an_alert_s_anchor_is_in_the_runbook_and_a_broken_link_fails_the_build(site: Path, tmp_path: Path) -> None:
    assert 'id="trackdesknoworkers"' in (site / "runbook.html").read_text("utf-8")
    source = tmp_path / "docs"
    source.mkdir()
    (source / "conf.py").write_text((ROOT / "docs/conf.py").read_text("utf-8"), "utf-8")
    (source / "index.md").write_text("# Start\n\n## Here\n\n[there](#here), [nowhere](#gone)\n", "utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(source), str(tmp_path / "html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode != 0
    assert "gone" in done.stderr
