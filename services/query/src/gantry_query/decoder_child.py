"""The child that decodes: `python -m gantry_query.decoder_child`, see `gantry_query.decoding`.

A job is a JSON object with `job` (decompress, render, frames), `source` and `target`, two paths,
and what the job needs besides. The answer is a JSON string: `done`, or the slug of why not.
"""

import json
import os
import resource
import sys
import warnings
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian

from gantry_query.decoding import DONE, FAILED
from gantry_query.rendering import NotRenderable, frame_values, open_image, render
from gantry_query.rendering_request import Rendering, Viewport, Window, WindowFunction

_MEMORY = 3 * 2**30


def _decompress(job: dict[str, Any]) -> None:
    ds = dcmread(job["source"])
    ds.decompress()
    if ds.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian:
        raise ValueError("not decoded")
    ds.save_as(job["target"])


def _render(job: dict[str, Any]) -> None:
    picture = render(job["source"], job["frame"], _rendering(job["rendering"]))
    with open(job["target"], "wb") as file:
        file.write(picture)


def _frames(job: dict[str, Any]) -> None:
    with open(job["target"], "wb") as file:
        for frame in job["frames"]:
            ds = open_image(job["source"], frame)
            values = np.ascontiguousarray(frame_values(job["source"], ds, frame))
            file.write(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())


def _rendering(told: dict[str, Any]) -> Rendering:
    window, viewport = told["window"], told["viewport"]
    if window:
        window = Window(window["center"], window["width"], WindowFunction(window["function"]))
    if viewport:
        region = tuple(viewport["region"]) if viewport["region"] else None
        viewport = Viewport(viewport["width"], viewport["height"], region)
    return Rendering(told["media_type"], told["quality"], window, viewport)


_JOBS = {"decompress": _decompress, "render": _render, "frames": _frames}


def main() -> None:
    """Jobs from standard input until it ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    # What a decoder prints must not be taken for an answer.
    os.dup2(2, 1)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            _JOBS[job["job"]](job)
            answer = DONE
        except NotRenderable as error:
            answer = str(error)
        except Exception:  # noqa: BLE001 - a door: decoders raise anything; the parent counts it
            answer = FAILED
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
