"""dicomweb-client and dcmjs, by which most viewers speak, against a real door.

They are not installed with the project: `npm install dicomweb-client dcmjs xhr2` somewhere, and
name its `node_modules` by NODE_PATH.
"""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from gantry_testkit.stored import file_of, image, new_uid

PACKAGES = ("dicomweb-client", "dcmjs", "xhr2")
SCRIPT = Path(__file__).parent / "node" / "dicomweb_client.cjs"


@pytest.fixture(scope="module")
def node() -> str:
    program = shutil.which("node")
    if program is None:
        pytest.skip("there is no node here")
    there = "; ".join(f"require.resolve({name!r})" for name in PACKAGES)
    if subprocess.run([program, "-e", there], capture_output=True, check=False).returncode:
        pytest.skip(f"npm install {' '.join(PACKAGES)}, and set NODE_PATH")
    return program


def test_from_storing_to_the_pixels(node: str, web, tmp_path: Path) -> None:
    study, series = new_uid(), new_uid()
    first, second = (
        image(
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            InstanceNumber=str(number),
            PatientName="Wong^Mei Ling=黃^美玲",
        )
        for number in (1, 2)
    )
    web.put(file_of(first))
    (tmp_path / "second.dcm").write_bytes(file_of(second))
    done = subprocess.run(
        [node, str(SCRIPT), web.base, study, str(tmp_path / "second.dcm")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["studies"], told["series"], told["instances"], told["files"]) == (1, 1, 1, 1)
    assert told["name"] == {"Alphabetic": "Wong^Mei Ling", "Ideographic": "黃^美玲"}
    assert (told["rows"], told["uid"]) == (16, first.SOPInstanceUID)
    assert base64.b64decode(told["pixels"]) == first.PixelData
    assert base64.b64decode(told["frame"]) == first.PixelData
    assert told["rendered"] == "ffd8"
    web.index()
    assert len(web.get(f"/studies/{study}/instances").json()) == 2
