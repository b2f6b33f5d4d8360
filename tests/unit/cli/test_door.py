"""The command's door: a mistake is one line on stderr and exit status 2, never a stack trace."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gantry_cli.main import main

Said = tuple[object, str, str]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Runs the command in this process; gives its exit status and what it wrote."""

    def invoke(*arguments: str, **names: str) -> Said:
        for name in tuple(os.environ):
            if name.startswith("GANTRY_"):
                monkeypatch.delenv(name)
        for name, value in {"GANTRY_DATA": str(tmp_path / "data"), **names}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["gantry", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code, *capsys.readouterr())

    return invoke


@pytest.mark.parametrize(
    ("arguments", "names", "expected"),
    [
        (("frobnicate",), {}, "No such command 'frobnicate'"),
        (("up", "--dmo"), {}, "No such option '--dmo'"),
        (("echo",), {}, "Missing argument 'AE'"),
        (("echo", "CT01"), {}, "no partner is called CT01; none is configured"),
        (("status",), {"GANTRY_PORT_BASE": "7"}, "GANTRY_PORT_BASE is '7'"),
        (("up",), {"GANTRY_PRT_BASE": "100"}, "did you mean GANTRY_PORT_BASE?"),
        (("up",), {"GANTRY_CONFIG": "/nowhere/g.yaml"}, "/nowhere/g.yaml: cannot be read"),
        (("up",), {"GANTRY_DATA": "/dev/null/x"}, "cannot be used for data"),
        (("migrate",), {"GANTRY_CONFIG": "/proc/self/mem"}, "cannot be read"),
        (("status",), {"GANTRY_PORT_BASE": "19900"}, "Gantry does not run here"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    run: Callable[..., Said], arguments: tuple[str, ...], names: dict[str, str], expected: str
) -> None:
    code, out, err = run(*arguments, **names)
    assert code == 2
    assert err.startswith("gantry: ")
    assert expected in err
    assert err.count("\n") == 1
    assert out == ""


def gantry(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(Path(sys.executable).with_name("gantry")), *arguments],
        env={k: v for k, v in os.environ.items() if not k.startswith("GANTRY_")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_lists_the_commands() -> None:
    done = gantry("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for command in ("up", "test", "migrate", "reindex", "echo", "status"):
        assert f"\n  {command} " in done.stdout


def test_nothing_to_do_shows_the_help() -> None:
    done = gantry()
    assert done.returncode == 2
    assert "Commands:" in done.stdout
    assert done.stderr == ""
