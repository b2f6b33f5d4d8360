"""schemathesis asks whatever the OpenAPI document allows, and what it does not: no answer is a 5xx.

It is not installed with the project: `pip install schemathesis` elsewhere, and put it on PATH.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from gantry_testkit.stored import file_of, image

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

# Bodies of the store transaction are none that it could make up; `events` would wait as long as
# it is told to.
LEFT_OUT = "^/p/|/events"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_nothing_that_can_be_asked_fails_on_our_side(web, method: str, tmp_path: Path) -> None:
    program = shutil.which("schemathesis")
    if program is None:
        pytest.skip("there is no schemathesis here")
    # The document's example.
    uids = dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"), "1.2.3")
    web.put(file_of(image(**uids)), file_of(image()))
    done = subprocess.run(
        [
            program,
            "run",
            f"{web.base}/openapi.json",
            f"--url={web.base.removesuffix('/dicomweb')}",
            f"--include-method={method}",
            f"--exclude-path-regex={LEFT_OUT}",
            "--checks=not_a_server_error",
            "--phases=examples,coverage,fuzzing",
            "--mode=all",
            "--max-examples=20",
            "--request-timeout=30",
        ],
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
        cwd=tmp_path,  # where it keeps notes
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
