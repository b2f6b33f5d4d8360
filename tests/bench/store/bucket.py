"""The same with the images on a real S3 server, against a bare client of that server."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import data
import obstore
import servers
from measuring import COUNTS, Bench, machine, table, turns
from obstore.store import S3Store

from gantry_testkit.s3_server import S3Server

_BARE = "bare client"


def measured(folder: Path, rounds: int, associations: list[int]) -> list[str]:
    """Lines of the page: Gantry's rate and what the S3 server takes, 512 KiB each."""
    sender, _ = servers.compile_aids(folder)
    bench = Bench(folder, sender)
    s3 = S3Server()
    try:
        config = f"objects: {{url: 's3://{s3.create_bucket()}/run', endpoint: '{s3.endpoint}'}}\n"
        put = _bare_client(s3, s3.create_bucket())
        with servers.gantry(folder / "gantry", config, s3.environment) as gantry:
            for number in associations:
                steps: list[Callable[[], None]] = [
                    lambda: bench.measure(gantry, "512 KiB", number),  # noqa: B023
                    lambda: bench.stored[_BARE, f"512 KiB, {number}"].append(put(number)),  # noqa: B023
                ]
                turns(steps, rounds, lambda step: step())
                print(*table(bench.stored, _BARE), sep="\n", flush=True)
    finally:
        s3.close()
    return [
        f"{machine()}; {rounds} rounds; Ceph RGW with its data in memory.",
        "",
        "Stored, instances per second by associations or requests at once (and the ratio to",
        "obstore that puts the same bytes and does no more):",
        "",
        *table(bench.stored, _BARE),
    ]


def _bare_client(s3: S3Server, bucket: str) -> Callable[[int], float]:
    store = S3Store(
        bucket,
        endpoint=s3.endpoint,
        region=s3.region,
        access_key_id=s3.access_key,
        secret_access_key=s3.secret_key,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    content = data.sample(data.SIZES["512 KiB"], 0).encoded

    def put(at_once: int) -> float:
        """Objects per second."""
        count = COUNTS["512 KiB"]
        begun = time.monotonic()
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(lambda n: obstore.put(store, f"{begun}/{n}", content), range(count)))
        seconds: float = time.monotonic() - begun
        return count / seconds

    return put
