"""The dashboard and the rules, asked of a Prometheus that scrapes a run with traffic of all kinds.

What each panel showed is left in `panels.json`, in the folder that pytest keeps.
"""

import base64
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import Dataset
from pynetdicom import build_context
from pynetdicom.sop_class import ModalityPerformedProcedureStep as MPPS
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FIND

from blackbox.datasets import image, new_uid, write
from blackbox.dicomweb import Archive
from blackbox.findscu import findscu, worklist
from blackbox.peers import free_port, storescp
from blackbox.run import ROOT, SERVICES, Gantry
from blackbox.scu import associate, contexts_of, send
from blackbox.waiting import until

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(400),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed"),
]

RULES = ROOT / "infra" / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((ROOT / "infra" / "grafana" / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

# Of these nothing is seen while all is well: they count what a defect of ours would make.
QUIET = {"Tasks failed"}

_SCRAPED = "1s"
_RATE_INTERVAL = "10s"  # Grafana makes it of the interval of scraping

TOKEN = "a-token-of-the-tests"
SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"
CONFIG = """
auth: {{kind: token, clients: {{tests: {{scopes: [read, store, review, decide]}}}}}}
policies:
  - {{rule: images_per_study, limit: 2, action: warn}}
  - rule: required_attributes
    attributes: [BodyPartExamined]
    action: hold
    when: {{StudyDescription: Doubtful}}
complete_after: 500ms
sweep: {{after: 2s, every: 500ms}}
http: {{processes: 1}}
query: {{processes: 1}}
partners:
  - {{ae_title: CT01}}
  - {{ae_title: STORESCP, address: '127.0.0.1:{storescp}', prove: find}}
  - {{ae_title: DOWN, address: '127.0.0.1:{down}'}}
routes:
  - {{name: everything, send_to: [STORESCP, DOWN]}}
webhooks: [{{name: hook, url: 'http://127.0.0.1:{hook}'}}]
worklist: {{performed_to: [DOWN]}}
forward: {{backoff: {{first: 300ms, longest: 1s}}, late_after: 2s}}
"""


@dataclass
class Traffic:
    """Devices, clients and strangers, until it is stopped."""

    run: Gantry
    folder: Path
    _stop: threading.Event = field(default_factory=threading.Event)
    _decided: bool = False

    @contextmanager
    def flowing(self) -> Iterator[None]:
        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(self._work)
            try:
                yield
            finally:
                self._stop.set()
                work.result()

    def _work(self) -> None:
        while not self._stop.wait(0.2):
            self._round()

    def _round(self) -> None:
        run, study, series = self.run, new_uid(), new_uid()
        samples = [
            write(image(study=study, series=series, number=number), self.folder)
            for number in range(4)
        ]
        *sent, posted = samples
        assert all(answer.success for answer in send(run.port("dimse"), sent))
        answer = run.http.post(
            "/dicomweb/studies",
            content=posted.path.read_bytes(),
            headers={"Content-Type": "application/dicom"},
        )
        assert answer.status_code == 200
        self._strangers()
        web = Archive(run.http)
        wanted = [sample.SOPInstanceUID for sample in samples]
        until(lambda: set(web.found(wanted)) == set(wanted), "all are found")
        web.retrieve(study, series, wanted[0])
        assert findscu(run.port("find"), "STUDY", f"StudyInstanceUID={study}").matches
        self._getscu(study)
        self._held()
        self._order()

    def _strangers(self) -> None:
        port = self.run.port("dimse")
        without_series = image()
        del without_series.SeriesInstanceUID
        refused = write(without_series, self.folder)
        assert not send(port, [refused])[0].success
        assert associate(port, contexts_of([refused]), called_ae="NOBODY").is_rejected
        associate(port, contexts_of([refused])).abort()
        find = [build_context(FIND)]
        assert associate(self.run.port("find"), find, called_ae="NOBODY").is_rejected
        assert httpx.get(self.run.http.base_url.join("/dicomweb/studies")).status_code == 401

    def _held(self) -> None:
        """A study that is held; the first of them a person lets through."""
        doubtful = image()
        doubtful.StudyDescription = "Doubtful"
        assert send(self.run.port("dimse"), [write(doubtful, self.folder)])[0].success
        if not self._decided:
            study = f"/held/{doubtful.StudyInstanceUID}"
            until(lambda: self.run.http.get(study).status_code == 200, "it is held")
            decision = {"kind": "accept", "reason": "looked at"}
            answer = self.run.http.post(f"{study}/decisions", json=decision)
            assert answer.status_code == 200, answer.text
            self._decided = True

    def _order(self) -> None:
        """An order that comes, is looked for and is performed."""
        number = new_uid()
        order = (
            f"MSH|^~\\&|RIS|HOSP|GANTRY|HOSP|20261121080000||ORM^O01|{number}|P|2.3.1\r"
            f"PID|||{number}||CHAN^TAI MAN\rORC|NW|{number[-16:]}||||||||||\r"
            f"OBR|1|{number[-16:]}||CTHEAD^CT\r"
        )
        with socket.create_connection(("127.0.0.1", self.run.port("hl7")), timeout=60) as sock:
            sock.sendall(b"\x0b" + order.encode() + b"\x1c\r")
            assert b"MSA|AA|" in sock.recv(65536)
        assert worklist(self.run.port("orders"), "PatientID", "Modality").status == "Success"
        step, item = Dataset(), Dataset()
        item.StudyInstanceUID = new_uid()
        step.ScheduledStepAttributesSequence = [item]
        step.PerformedProcedureStepStatus = "IN PROGRESS"
        assoc = associate(self.run.port("orders"), [build_context(MPPS)])
        assert assoc.send_n_create(step, MPPS, new_uid())[0].Status == 0
        assoc.release()

    def _getscu(self, study: str) -> None:
        with_study = ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
        folder = self.folder / "got"
        folder.mkdir(exist_ok=True)
        where = ["127.0.0.1", str(self.run.port("find"))]
        subprocess.run(
            ["getscu", "-S", "-aet", "CT01", "-aec", "GANTRY", "-od", folder, *with_study, *where],
            env=os.environ | {"TCP_NODELAY": "1"},
            check=True,
            capture_output=True,
            timeout=60,
        )


class _Hook(BaseHTTPRequestHandler):
    """A web server that is told of events, and takes them all."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def hook() -> Iterator[int]:
    """The port of one."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class Prometheus:
    """Debian's Prometheus, which scrapes one run and evaluates our rules."""

    def __init__(self, run: Gantry, folder: Path) -> None:
        jobs = "".join(
            f"  - job_name: gantry-{service}\n"
            f"    static_configs: [{{targets: ['127.0.0.1:{run.port(service)}']}}]\n"
            for service in SERVICES
        )
        (folder / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {_SCRAPED}, evaluation_interval: {_SCRAPED}}}\n"
            f"rule_files: ['{RULES}']\nscrape_configs:\n{jobs}"
        )
        port = free_port()
        self.began = time.time()
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'series'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30)

    def ask(self, path: str, **parameters: str | float) -> Any:
        answer = self._http.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def scrapes(self) -> bool:
        """Whether every service has been scraped."""
        with suppress(httpx.TransportError, AssertionError):
            found = self.ask("/query", query="sum(up)")["result"]
            return bool(found) and found[0]["value"][1] == str(len(SERVICES))
        return False

    def shown(self, expression: str) -> dict[str, list[tuple[float, float]]]:
        """What a panel draws for an expression: the finite values of each series."""
        found = self.ask(
            "/query_range",
            query=expression.replace("$__rate_interval", _RATE_INTERVAL),
            start=self.began,
            end=time.time(),
            step=1,
        )["result"]
        drawn = {
            json.dumps(series["metric"]): [
                (at, float(value)) for at, value in series["values"] if math.isfinite(float(value))
            ]
            for series in found
        }
        return {name: values for name, values in drawn.items() if values}

    def close(self) -> None:
        self._http.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        self._log.close()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """With traffic behind it while the tests ask."""
    folder = tmp_path_factory.mktemp("dashboard")
    with ExitStack() as stack:
        peer = stack.enter_context(storescp(folder / "peer"))
        ports = {"storescp": peer.port, "hook": stack.enter_context(hook()), "down": free_port()}
        run = Gantry(config=CONFIG.format(**ports))
        run.names["GANTRY_HTTP_TOKENS"] = json.dumps({"tests": TOKEN})
        run.names["GANTRY_WEBHOOK_SECRETS"] = json.dumps({"hook": SECRET})
        run.http.headers["Authorization"] = f"Bearer {TOKEN}"
        stack.callback(run.clean)
        run.start()
        prometheus = Prometheus(run, folder)
        stack.callback(prometheus.close)
        until(prometheus.scrapes, "every service is scraped")
        with Traffic(run, folder).flowing():
            yield prometheus
        run.stop_cleanly()


def test_every_panel_shows_what_happens(prometheus: Prometheus, tmp_path: Path) -> None:
    seen: dict[str, dict[str, Any]] = {}

    def dark() -> list[str]:
        for panel in PANELS:
            seen[panel["title"]] = {
                target["expr"]: prometheus.shown(target["expr"]) for target in panel["targets"]
            }
        return [
            f"{title}: {expression}"
            for title, shown in seen.items()
            for expression, series in shown.items()
            if not series and title not in QUIET
        ]

    with suppress(AssertionError):
        until(lambda: not dark(), "every expression has values", seconds=90, every=1)
    (tmp_path / "panels.json").write_text(json.dumps(seen))
    assert dark() == []


def test_every_rule_can_be_evaluated_and_none_fires_that_should_not(prometheus: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        groups = prometheus.ask("/rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    until(
        lambda: all(rule["health"] != "unknown" for rule in rules()),
        "each was evaluated",
        seconds=60,
    )
    assert {rule["name"]: rule.get("lastError") for rule in rules() if rule["health"] != "ok"} == {}
    # One destination is down, one caller is turned away and one object refused; nothing else is.
    firing = {rule["name"] for rule in rules() if rule["state"] == "firing"}
    assert firing <= {"GantryDeliveriesLate", "GantryObjectsRefused", "GantryDeliveriesDead"}
