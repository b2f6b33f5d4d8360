"""The child that decodes: `python -m gantry_query.decoder_child`, see `gantry_query.decoding`.

A job is a JSON object with `job` (decompress, encode, render, frames), `source` and `target`, two
paths, and what the job needs besides. The answer is a JSON string: `done`, or the slug of why not.
"""

import contextlib
import json
import os
import resource
import sys
import warnings
from typing import Any

# Before gdcm: else Pillow calls into the zlib of gdcm with some builds of Python, and aborts.
import PIL.Image  # noqa: F401

# isort: split

import gdcm
import numpy as np
from pydicom import dcmread
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian

from gantry_query.decoding import DONE, FAILED
from gantry_query.rendering import NotRenderable, frame_values, open_image, render
from gantry_query.rendering_request import Rendering, Viewport, Window, WindowFunction

_MEMORY = 3 * 2**30
_PIXEL_DATA = 0x7FE00010
_ENCODERS = {
    "1.2.840.10008.1.2.4.80": gdcm.TransferSyntax.JPEGLSLossless,
    "1.2.840.10008.1.2.4.90": gdcm.TransferSyntax.JPEG2000Lossless,
    "1.2.840.10008.1.2.4.70": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "1.2.840.10008.1.2.5": gdcm.TransferSyntax.RLELossless,
}


def _decompress(job: dict[str, Any]) -> None:
    ds = dcmread(job["source"])
    # The same instance: its pixels are what they were.
    ds.decompress(generate_instance_uid=False)
    if ds.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian:
        raise ValueError("not decoded")
    ds.save_as(job["target"])


def _encode(job: dict[str, Any]) -> None:
    """Only the pixels are the encoder's: it would invent a spacing and a position of the image."""
    syntax = _ENCODERS[job["syntax"]]
    whole = f"{job['target']}.whole"
    decoded = f"{job['target']}.decoded"
    try:
        ds = dcmread(job["source"])
        if ds.file_meta.TransferSyntaxUID.is_encapsulated:
            ds.decompress(generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.save_as(decoded, implicit_vr=False, little_endian=True)
        reader = gdcm.ImageReader()
        reader.SetFileName(decoded)
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        if not reader.Read():
            raise ValueError("not read")
        change.SetInput(reader.GetImage())
        writer = gdcm.ImageWriter()
        writer.SetFileName(whole)
        if not change.Change():
            raise ValueError("not encoded")
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise ValueError("not written")
        encoded = dcmread(whole)
        before = dcmread(decoded)
        frames = int(before.get("NumberOfFrames") or 1)
        for frame in range(frames):
            if not np.array_equal(
                pixel_array(before, index=frame), pixel_array(encoded, index=frame)
            ):
                raise ValueError("not the same pixels")
        before[_PIXEL_DATA] = encoded[_PIXEL_DATA]
        for keyword in ("PhotometricInterpretation", "PlanarConfiguration"):
            if keyword in encoded:
                before[keyword] = encoded[keyword]
        before.file_meta.TransferSyntaxUID = job["syntax"]
        before.save_as(job["target"], implicit_vr=False, little_endian=True)
    finally:
        for path in (whole, decoded):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


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


_JOBS = {"decompress": _decompress, "encode": _encode, "render": _render, "frames": _frames}


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
