"""OHIF in a browser against a real door: the list, a study's series, and its pixels on the screen.

Neither is installed with the project: `npm pack @ohif/app@3.12`, unpack it, and name its `dist` by
OHIF_DIST; the browser is Debian's `chromium`.
"""

import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

from gantry_testkit.stored import file_of, image, new_uid

pytestmark = pytest.mark.long

SIDE = 256
WINDOW = (1400, 900)

CONFIG = """
window.config = {
  routerBasename: null, extensions: [], modes: [], showStudyList: true,
  investigationalUseDialog: {option: 'never'},
  maxNumberOfWebWorkers: 2, showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false,
  defaultDataSourceName: 'gantry',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'gantry',
    configuration: {
      friendlyName: 'Gantry', name: 'gantry',
      wadoUriRoot: 'BASE', qidoRoot: 'BASE', wadoRoot: 'BASE',
      qidoSupportsIncludeField: true, imageRendering: 'wadors', thumbnailRendering: 'wadors',
      enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true,
      singlepart: 'bulkdata,pdf,video', bulkDataURI: {enabled: true},
      omitQuotationForMultipartRequest: true,
    },
  }],
};
"""


class _Pages(http.server.SimpleHTTPRequestHandler):
    """The viewer's files, its configuration, and its one page for every other path."""

    def __init__(self, *args: object, config: bytes, **options: object) -> None:
        self.config = config
        super().__init__(*args, **options)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/app-config.js":
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript")
            self.send_header("Content-Length", str(len(self.config)))
            self.end_headers()
            self.wfile.write(self.config)
            return
        if not Path(self.translate_path(path)).is_file():
            self.path = "/index.html"
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def served(dist: Path, base: str) -> Iterator[str]:
    config = CONFIG.replace("BASE", base).encode()
    handler = partial(_Pages, directory=str(dist), config=config)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def study(web) -> str:
    """A CT series of a bright disc on dark ground."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    disc = np.where(x * x + y * y < (SIDE / 4) ** 2, 2000, 100).astype("<u2")
    uid = new_uid()
    web.put(
        *(
            file_of(
                image(
                    StudyInstanceUID=uid,
                    SeriesInstanceUID=f"{uid}.1",
                    SeriesDescription="Disc",
                    StudyDescription="Thorax",
                    InstanceNumber=str(number + 1),
                    PatientName="Wong^Mei Ling=黃^美玲",
                    PatientID="OHIF1",
                    Rows=SIDE,
                    Columns=SIDE,
                    PixelData=disc.tobytes(),
                    PixelSpacing=[1, 1],
                    SliceThickness=1,
                    ImagePositionPatient=[0, 0, number],
                    ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                    FrameOfReferenceUID=f"{uid}.2",
                    RescaleIntercept=0,
                    RescaleSlope=1,
                    WindowCenter=1000,
                    WindowWidth=2000,
                )
            )
            for number in range(5)
        )
    )
    return uid


@pytest.fixture(scope="module")
def viewer(web) -> Iterator[str]:
    dist = Path(os.environ.get("OHIF_DIST", "nowhere"))
    if not (dist / "index.html").is_file():
        pytest.skip("npm pack @ohif/app@3.12, and name its dist by OHIF_DIST")
    with served(dist, web.base) as address:
        yield address


@dataclass(frozen=True)
class Page:
    """A page as it is on the screen, in grey values; its elements; what it asked of the archive."""

    grey: np.ndarray
    elements: str
    asked: list[str]


def shown(address: str, folder: Path) -> Page:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("there is no chromium here")
    picture, log = folder / "page.png", folder / "net.json"
    done = subprocess.run(
        [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size={WINDOW[0]},{WINDOW[1]}",
            "--virtual-time-budget=60000",
            f"--log-net-log={log}",
            f"--screenshot={picture}",
            "--dump-dom",
            address,
        ],
        capture_output=True,
        timeout=400,
        check=False,
    )
    assert picture.is_file(), done.stderr[-2000:]
    grey = np.asarray(Image.open(picture).convert("L"))
    return Page(grey, done.stdout.decode(), _asked(log))


def _asked(log: Path) -> list[str]:
    """Paths with their questions, in their order, as Chromium's own log of its network has them."""
    text = log.read_text(errors="replace").rstrip().rstrip(",")
    events = json.loads(text if text.endswith("}") else f"{text}]}}")["events"]
    urls = [event.get("params", {}).get("url", "") for event in events]
    paths = [unquote(url[url.index("/dicomweb") :]) for url in urls if "/dicomweb/" in url]
    return list(dict.fromkeys(paths))


def test_the_list_of_studies(viewer: str, study: str, tmp_path: Path) -> None:
    page = shown(viewer, tmp_path)
    assert page.asked == [
        "/dicomweb/studies?limit=101&offset=0&fuzzymatching=false&includefield=00081030,00080060"
    ]
    assert all(text in page.elements for text in ("OHIF1", "Wong", "Thorax"))


def test_a_series_is_on_the_screen(viewer: str, study: str, tmp_path: Path) -> None:
    page = shown(f"{viewer}/viewer?StudyInstanceUIDs={study}", tmp_path)
    # What `test_viewers.py` asks without a browser.
    of_study, of_series = f"/dicomweb/studies/{study}", f"/series/{study}.1"
    common = "limit=101&offset=0&fuzzymatching=false&includefield=00081030,00080060"
    assert set(page.asked[:4]) == {
        f"/dicomweb/studies?{common}&StudyInstanceUID={study}",
        f"{of_study}/series?includefield=00080021,00080031,0008103E,00200011",
        f"/dicomweb/studies?00100020=OHIF1&{common}",
        f"{of_study}{of_series}/metadata",
    }
    frames = page.asked[4:]
    assert len(frames) == 5
    assert all(path.startswith(f"{of_study}{of_series}/instances/") for path in frames)
    assert all(path.endswith("/frames/1") for path in frames)
    # The disc: bright in the middle of the viewport, its ground dark, and nearly nothing between.
    height, width = page.grey.shape
    middle = page.grey[height // 4 : 3 * height // 4, width // 3 : 7 * width // 8]
    bright, dark = (middle > 200).mean(), (middle < 60).mean()
    assert 0.3 < bright < 0.5
    assert bright + dark > 0.95
