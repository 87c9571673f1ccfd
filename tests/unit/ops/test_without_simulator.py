"""In the production image there is no simulator, and the commands that want it say what to do."""

import sys

import pytest

from trackdesk_worker.cli import run


@pytest.mark.parametrize("arguments", [["up", "--demo"], ["simulate"]])
def test_a_command_that_needs_the_simulator_says_where_it_is(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trackdesk_simulator", None)  # what Python knows as "not there"
    assert run(arguments) == 1
    assert "--target demo" in capsys.readouterr().err
