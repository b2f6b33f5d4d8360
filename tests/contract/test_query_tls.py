"""TLS on the port of queries: the code of the front door, on a port of its own."""

import os
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind
from sqlalchemy.engine import Engine

from gantry_dimse.server import DimseServer
from gantry_testkit.certificates import Authority, Signed
from gantry_testkit.peer_ae import PeerAE
from gantry_testkit.ports import free_port

ServeFind = Callable[..., AbstractContextManager[DimseServer]]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def associate(port: int, context: ssl.SSLContext | None) -> Association:
    ae = PeerAE(ae_title="READING")
    return ae.associate(
        "127.0.0.1",
        port,
        contexts=[build_context(StudyRootQueryRetrieveInformationModelFind)],
        ae_title="GANTRY",
        tls_args=None if context is None else (context, "127.0.0.1"),
    )


def test_a_partner_with_a_certificate_can_query(
    authority: Authority, engine: Engine, serve_find: ServeFind, tmp_path: Path
) -> None:
    own, reading = authority.sign("gantry"), authority.sign("reading", dns="reading.example")
    files = tmp_path / "own.pem", tmp_path / "own.key"

    def put(signed: Signed) -> None:
        for source, file in zip((signed.certificate, signed.key), files, strict=True):
            (tmp_path / "new").write_bytes(source.read_bytes())
            os.replace(tmp_path / "new", file)

    def context(shown: Signed) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=authority.certificate)
        made.load_cert_chain(shown.certificate, shown.key)
        return made

    put(own)
    port = free_port()
    configuration = (
        f"listen: {{query_tls_port: {port}, tls_certificate: {files[0]}, tls_key: {files[1]},"
        f" tls_ca: {authority.certificate}}}\n"
        "partners: [{ae_title: READING, certificate: [reading.example]}]\n"
    )
    question = Dataset()
    question.QueryRetrieveLevel = "STUDY"
    question.StudyInstanceUID = ""
    with serve_find(engine, configuration) as server:
        # Also with a certificate of ours that has come since the start.
        for renewed in (None, authority.sign("gantry, renewed")):
            if renewed is not None:
                put(renewed)
            assoc = associate(port, context(reading))
            assert assoc.is_established
            answers = assoc.send_c_find(question, StudyRootQueryRetrieveInformationModelFind)
            assert [status.Status for status, _ds in answers] == [0x0000]
            assoc.release()
        for where, shown in ((port, context(authority.sign("ct02"))), (server.address[1], None)):
            refused = associate(where, shown)
            assert refused.is_rejected
            assert refused.acceptor.primitive.diagnostic == 0x03  # calling AE not recognized
