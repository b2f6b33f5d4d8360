"""The programs by which devices ask for their worklist: pynetdicom, dcmtk and odil.

Each reads what it was answered by itself, character sets too.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from gantry_testkit.modality import CONTEXTS, WORKLIST
from gantry_testkit.orders_door import Address
from gantry_testkit.query_scu import answers, associated


@dataclass(frozen=True, slots=True)
class Shown:
    """One step as a program shows it; the groups of the name have = between them."""

    AccessionNumber: str
    PatientName: str


Ask = Callable[[Address, Sequence[Dataset]], list[list[Shown]]]
"""The matches of each question. A question that ends in another way than Success fails."""


def ask_pynetdicom(address: Address, questions: Sequence[Dataset]) -> list[list[Shown]]:
    """With pynetdicom, over one association."""
    shown = []
    with associated(address, calling="CT01", contexts=CONTEXTS) as assoc:
        for ds in questions:
            statuses, found = answers(assoc, ds, WORKLIST)
            assert statuses[-1].Status == 0, statuses
            shown.append(
                [Shown(match.AccessionNumber, str(match.PatientName).strip("=")) for match in found]
            )
    return shown


def ask_dcmtk(address: Address, questions: Sequence[Dataset]) -> list[list[Shown]]:
    """With dcmtk's findscu, over one association."""
    with tempfile.TemporaryDirectory() as name:
        output = _findscu(address, *_written(questions, Path(name)))
    return [
        [_dumped(part) for part in of_one.split(b"Find Response: ")[1:]]
        for of_one in re.split(rb"Received Final Find Response \(Success\)", output)[:-1]
    ]


def findscu(address: Address, *keys: str) -> list[Dataset]:
    """The answers to one question of dcmtk's findscu; `keys` as on its command line."""
    with tempfile.TemporaryDirectory() as name:
        wanted = [part for key in keys for part in ("-k", key)]
        output = _findscu(address, options=["-X", "-od", name, *wanted])
        assert b"Received Final Find Response (Success)" in output, output[-2000:]
        return [dcmread(file) for file in sorted(Path(name).iterdir())]


def _findscu(address: Address, *files: str, options: Sequence[str] = ()) -> bytes:
    return _run(
        "findscu", "-v", "-W", "-aet", "CT01", "-aec", "GANTRY", *options,
        address[0], str(address[1]), *files,
    )  # fmt: skip


def _dumped(text: bytes) -> Shown:
    number, name, charset = (
        (match[1] or b"").strip()
        if (match := re.search(rb"%b (?:\[(.*)\]|\(no value)" % re.escape(tag), text))
        else b""
        for tag in (b"(0008,0050) SH", b"(0010,0010) PN", b"(0008,0005) CS")
    )
    return Shown(number.decode("ascii"), _decoded(name, charset).strip("="))


def _decoded(raw: bytes, charset: bytes) -> str:
    # Neither dcmtk with the C library of Linux nor odil decodes sets with escape sequences.
    if b"IR 149" in charset:
        return raw.replace(b"\x1b$)C", b"").decode("euc_kr")
    codecs = {b"ISO_IR 192": "utf_8", b"GB18030": "gb18030", b"\\ISO 2022 IR 87": "iso2022_jp"}
    return raw.decode(codecs[charset] if charset else "ascii")


# Runs in the system's Python, for which odil is packaged.
_ODIL = """
import json, sys, odil
host, port, model, *files = sys.argv[1:]
context = odil.AssociationParameters.PresentationContext(
    1, model, [odil.registry.ImplicitVRLittleEndian],
    odil.AssociationParameters.PresentationContext.Role.SCU)
association = odil.Association()
association.set_peer_host(host)
association.set_peer_port(int(port))
association.update_parameters().set_calling_ae_title("CT01").set_called_ae_title(
    "GANTRY").set_presentation_contexts([context])
association.associate()
find = odil.FindSCU(association)
find.set_affected_sop_class(model)
found = []
for file in files:
    with odil.open(file) as stream:
        _, question = odil.Reader.read_file(stream)
    found.append([json.loads(odil.as_json(each)) for each in find.find(question)])
association.release()
json.dump(found, sys.stdout)
"""


def ask_odil(address: Address, questions: Sequence[Dataset]) -> list[list[Shown]]:
    """With odil, over one association."""
    with tempfile.TemporaryDirectory() as name:
        files = _written(questions, Path(name))
        output = _run(
            "/usr/bin/python3", "-c", _ODIL, address[0], str(address[1]), WORKLIST, *files
        )
    return [[_shown(match) for match in found] for found in json.loads(output)]


def _shown(document: Mapping[str, Mapping[str, list[str | dict[str, str]]]]) -> Shown:
    (name,) = document["00100010"].get("Value") or [{}]
    (number,) = document["00080050"].get("Value") or [""]
    assert isinstance(name, dict)
    groups = (name.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic"))
    text = "=".join(groups).strip("=")
    if "\x1b" in text:  # as it came, a character for each byte
        charset = "\\".join(str(term or "") for term in document["00080005"]["Value"])
        text = _decoded(text.encode("latin_1"), charset.encode())
    return Shown(str(number), text)


def has_odil() -> bool:
    """Whether odil is installed."""
    return shutil.which("odil") is not None


def _written(questions: Sequence[Dataset], folder: Path) -> list[str]:
    """A file for each."""
    files = []
    for number, ds in enumerate(questions):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UID(WORKLIST)
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        whole = Dataset()
        whole.update(ds)
        whole.file_meta = meta
        file = folder / f"{number:03}"
        whole.save_as(file, enforce_file_format=True)
        files.append(str(file))
    return files


def _run(*command: str) -> bytes:
    """What a program wrote that must succeed."""
    done = subprocess.run(
        command,
        # Or dcmtk waits 40 ms at each message.
        env=os.environ | {"TCP_NODELAY": "1"},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout
