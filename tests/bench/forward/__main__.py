"""Forwarding: a study to a sink that discards, by Gantry and by Orthanc, and how soon one leaves.

    .venv/bin/python tests/bench/forward --rounds 5 --write

Both are asked over HTTP to send the same study and say when they have; both run all the time and
one is measured at a time. Then complete studies leave Gantry by a route and by themselves, one
after the other: its own metric tells after how long each was delivered. `--write` puts it into
docs/performance.md.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

# The servers, data and tables of the other benchmark.
sys.path.append(str(Path(__file__).parents[1] / "store"))

import data
import servers
from measuring import Bench, Figures, machine, table, turns, write
from prometheus_client.parser import text_string_to_metric_families

from gantry_testkit import peers

GANTRY, PEER = "Gantry", "Orthanc"
_LAG = "gantry_worker_delivery_lag_seconds"


def _asked(url: str, body: object = None) -> Any:
    encoded = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, encoded, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


def sent_by_gantry(web: str, uid: str, images: int) -> None:
    """Push, and follow it to its end."""
    number = _asked(f"{web}/deliveries", {"uid": uid, "to": "SINK"})["number"]
    while (told := _asked(f"{web}/deliveries/{number}"))["state"] != "delivered":
        if told["state"] in ("dead", "failed"):
            raise RuntimeError(told["reason"])
        time.sleep(0.03)
    assert told["arrived"] == images, told


def sent_by_orthanc(web: str, images: int) -> None:
    """Its answer comes when all is sent."""
    (study,) = _asked(f"{web}/studies")
    told = _asked(f"{web}/modalities/sink/store", study)
    assert (told["InstancesCount"], told["FailedInstancesCount"]) == (images, 0), told


def throughput(folder: Path, rounds: int, images: int) -> Figures:
    """Instances of 512 KiB per second, from the request until it is done."""
    figures: Figures = defaultdict(list)
    with ExitStack() as stack:
        sender, program = servers.compile_aids(folder)
        sink = stack.enter_context(servers.sink(program, folder / "nothing", discards=True))
        address = f"127.0.0.1:{sink.port}"
        gantry = stack.enter_context(
            servers.gantry(
                folder / "gantry", f"partners: [{{ae_title: SINK, address: '{address}'}}]\n"
            )
        )
        options = {"DicomModalities": {"sink": ["SINK", "127.0.0.1", sink.port]}}
        orthanc = stack.enter_context(peers.orthanc(folder / "orthanc", options=options))
        web = f"http://127.0.0.1:{orthanc.http_port}"
        uid = _study(Bench(folder, sender), [gantry.port, orthanc.port], images)
        while gantry.found(uid) < images or len(_asked(f"{web}/instances")) < images:
            time.sleep(0.1)
        ways: dict[str, Callable[[], None]] = {
            GANTRY: lambda: sent_by_gantry(gantry.web, uid, images),
            PEER: lambda: sent_by_orthanc(web, images),
        }

        def measure(name: str) -> None:
            begun = time.monotonic()
            ways[name]()
            figures[name, f"{images} x 512 KiB"].append(images / (time.monotonic() - begun))

        turns(list(ways), rounds, measure)
    return figures


def _study(bench: Bench, ports: list[int], images: int) -> str:
    sample = data.sample(data.SIZES["512 KiB"], 1)
    for port in ports:
        _send(bench, sample, port, images)
    return sample.study_instance_uid


def _send(bench: Bench, sample: data.Sample, port: int, images: int) -> None:
    file = bench.folder / "data"
    file.write_bytes(sample.encoded)
    options = [data.CT_IMAGE, "1.2.840.10008.1.2.1", sample.offset, sample.length, 0]
    command = [bench.sender, port, "GANTRY", 1, images, file, *options]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    assert done.stdout.split()[2] == "0", done.stdout


def lags(folder: Path, studies: int) -> dict[str, float]:
    """How many studies of 10 images were delivered within so many seconds of being complete."""
    with ExitStack() as stack:
        sender, program = servers.compile_aids(folder)
        sink = stack.enter_context(servers.sink(program, folder / "nothing", discards=True))
        config = (
            "complete_after: 500ms\nsweep: {after: 2s, every: 500ms}\n"
            f"partners: [{{ae_title: SINK, address: '127.0.0.1:{sink.port}'}}]\n"
            "routes: [{name: all, send_to: [SINK]}]\n"
        )
        gantry = stack.enter_context(servers.gantry(folder / "gantry", config))
        metrics = f"http://127.0.0.1:{gantry.port - 11112 + 9102}/metrics"
        bench = Bench(folder, sender)
        for number in range(studies):
            _send(bench, data.sample(data.SIZES["512 KiB"], 100 + number), gantry.port, 10)
            while (counted := _buckets(metrics)).get("+Inf", 0) < number + 1:
                time.sleep(0.2)
    return counted


def _buckets(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text = answer.read().decode()
    return {
        sample.labels["le"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"{_LAG}_bucket" and sample.labels["destination"] == "SINK"
    }


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gantry-bench-"))
    folder.chmod(0o711)
    try:
        (folder / "one").mkdir(0o711)
        (folder / "two").mkdir(0o711)
        figures = throughput(folder / "one", options.rounds, options.images)
        print(*table(figures, PEER), sep="\n", flush=True)
        counted = lags(folder / "two", options.studies)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    within = ", ".join(f"{counted[le]:.0f} within {le} s" for le in ("0.5", "1.0", "2.0", "5.0"))
    lines = [
        f"{machine()}; {options.rounds} rounds.",
        "",
        "Instances per second of one study, from the request over HTTP until its end is told (and",
        f"the ratio to {PEER}):",
        "",
        *table(figures, PEER),
        "",
        f"Of {options.studies} studies of 10 such images that became complete, delivered by a route"
        f" after that: {within}.",
    ]
    print(*lines, sep="\n")
    if options.write:
        write("tests/bench/forward", lines)


if __name__ == "__main__":
    main()
