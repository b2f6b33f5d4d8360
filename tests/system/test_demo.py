"""`up --demo` shows each study's way through the system; the addresses it prints answer."""

import re
from collections.abc import Callable

import httpx
import pytest

from blackbox.run import Gantry
from blackbox.waiting import until

ADDRESS = re.compile(r"http://[^\s,]+/dicomweb/studies/[0-9.]+[^\s,]*")


@pytest.mark.long
def test_the_addresses_of_the_demo_answer(new_gantry: Callable[..., Gantry]) -> None:
    run = new_gantry()
    run.start("--demo")

    def addresses() -> list[str]:
        return [found for line in tuple(run.lines) for found in ADDRESS.findall(line)]

    until(lambda: len(set(addresses())) >= 4, "several studies are shown", seconds=60)
    assert run.up is not None
    assert run.up.poll() is None
    for address in dict.fromkeys(addresses()):
        answer = httpx.get(address, timeout=30)
        assert answer.status_code == 200, f"{address}: {answer.status_code}"
        assert answer.content
    modalities = {item["00080061"]["Value"][0] for item in run.http.get("/dicomweb/studies").json()}
    assert len(modalities) >= 3
    run.stop_cleanly()
