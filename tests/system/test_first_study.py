"""What `helm test` runs in a cluster, run against a Gantry of this machine."""

import subprocess
import sys

from blackbox.run import ROOT, Gantry

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
        assert done.stdout.splitlines() == ["C-ECHO: success", "C-STORE: success", "QIDO: found"]


def test_it_says_what_is_wrong(gantry: Gantry) -> None:
    done = first_study(gantry, called="NOBODY")
    assert done.returncode == 1
    assert "accepts no association of HELMTEST" in done.stdout
