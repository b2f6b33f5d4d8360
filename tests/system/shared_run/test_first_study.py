"""What `helm test` and the image's health check run, run against a Gantry of this machine."""

import subprocess
import sys

from blackbox.run import ROOT, Gantry, environment, free_port_base

SCRIPT = ROOT / "charts" / "gantry" / "files" / "first_study.py"


def first_study(gantry: Gantry, *, called: str = "GANTRY") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            f"--called={called}",
            "--calling=HELMTEST",
            f"--storage=127.0.0.1:{gantry.port('dimse')}",
            f"--web=http://127.0.0.1:{gantry.port('http')}/dicomweb",
            f"--query=127.0.0.1:{gantry.port('find')}",
            "--stow",
            "--patience=30",
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=90,
    )


def test_it_succeeds_each_time(gantry: Gantry) -> None:
    for _ in range(2):
        done = first_study(gantry)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines() == [
            "C-ECHO: success",
            "C-STORE: success",
            "STOW: success",
            "QIDO: found",
            "C-FIND: found",
        ]


def test_it_says_what_is_wrong(gantry: Gantry) -> None:
    done = first_study(gantry, called="NOBODY")
    assert done.returncode == 1
    assert "accepts no association of HELMTEST" in done.stdout


def healthy(base: int) -> bool:
    done = subprocess.run(
        [sys.executable, str(ROOT / "infra" / "docker" / "healthy.py")],
        env=environment({"GANTRY_PORT_BASE": str(base)}),
        check=False,
        timeout=30,
    )
    assert done.returncode in {0, 1}
    return done.returncode == 0


def test_the_health_check_knows_whether_something_is_ready(gantry: Gantry) -> None:
    assert healthy(gantry.base)
    assert not healthy(free_port_base())
