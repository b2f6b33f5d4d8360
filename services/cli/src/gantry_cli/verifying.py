"""`gantry verify`: reads every object again, and says which are missing or changed."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime

import click

from gantry_archive.verifying import Fault, Verified, verify
from gantry_cli.index import running_index
from gantry_domain.errors import PermanentError
from gantry_domain.keys import object_key
from gantry_runtime.settings import Settings
from gantry_stores.objects import open_store

_READERS = 4


class Damaged(PermanentError):
    """Some objects are missing, or not as they were sent."""


def run_verify(settings: Settings, *, since: datetime | None, with_index: bool) -> int:
    """Print each object that is not as it should be, and how much was read.

    :raises GantryError: there are such objects; or the store or the index went away.
    """
    faults: Counter[Fault] = Counter()
    done = Verified()

    def progress(so_far: Verified) -> None:
        nonlocal done
        done = so_far

    with ExitStack() as stack:
        engine = stack.enter_context(running_index(settings)) if with_index else None
        readers = stack.enter_context(ThreadPoolExecutor(_READERS))
        store = open_store(settings.objects_place)
        for object_id, fault in verify(
            store, engine, readers=readers, since=since, progress=progress
        ):
            faults[fault] += 1
            click.echo(f"{fault.value} {object_key(object_id)}")
    click.echo(f"{done.objects} objects read, {done.bytes / 2**20:.0f} MiB")
    if done.untold:
        click.echo(f"of {done.untold} nobody has told the hash: they could be read, no more")
    if done.strange:
        click.echo(f"{done.strange} files of the store have names that are not ours")
    if faults:
        counts = ", ".join(
            f"{number} {fault.value}"
            for fault, number in sorted(faults.items(), key=lambda item: item[0].value)
        )
        raise Damaged(f"objects are damaged: {counts}")
    return 0
