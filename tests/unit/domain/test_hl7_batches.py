"""Batches of messages taken apart, and the answers that a message asks for."""

from datetime import UTC, datetime

import pytest

from gantry_domain.hl7.acknowledgement import Ack
from gantry_domain.hl7.acknowledgement_mode import wanted_of
from gantry_domain.hl7.batches import BrokenBatch, read_batch

NOW = datetime(2026, 11, 21, tzinfo=UTC)
FIRST, SECOND = b"MSH|^~\\&|A|B|C|D|||ADT^A08|1\rPID|1\r", b"MSH|^~\\&|A|B|C|D|||ADT^A08|2\r"


@pytest.mark.parametrize(
    ("raw", "messages"),
    [
        (b"BHS|^~\\&|A|B\r" + FIRST + SECOND + b"BTS|2\r", (FIRST, SECOND)),
        (b"FHS|^~\\&\rBHS|^~\\&\r" + FIRST + b"BTS\rBHS|^~\\&\r" + SECOND + b"BTS|1\rFTS|2\r",
         (FIRST, SECOND)),
        (b"\xef\xbb\xbf\nFHS|^~\\&\r\n" + FIRST.replace(b"\r", b"\r\n") + b"FTS|1\r\n", (FIRST,)),
        (b"BHS|^~\\&\rBTS|0\r", ()),
    ],
)  # fmt: skip
def test_messages_of_a_batch(raw: bytes, messages: tuple[bytes, ...]) -> None:
    batch = read_batch(raw)
    assert batch is not None
    assert batch.messages == messages


def test_a_message_is_no_batch() -> None:
    assert read_batch(FIRST) is None
    assert read_batch(b"") is None


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"BHS|^~\\&\r" + FIRST, "no end"),
        (b"FHS|^~\\&\rBHS|^~\\&\r" + FIRST + SECOND + b"BTS|3\rFTS\r", "another number"),
        (b"BHS|^~\\&\rPID|1\r" + FIRST + b"BTS|1\r", "before its first message"),
    ],
)
def test_a_batch_that_is_not_whole(raw: bytes, why: str) -> None:
    with pytest.raises(BrokenBatch, match=why):
        read_batch(raw)


def test_the_answer_refers_to_the_batch_and_goes_back() -> None:
    raw = b"FHS|^~\\&|APP|FAC|GANTRY|HOSP|||||F7\rBHS|^~\\&|APP|FAC|GANTRY|HOSP|||||B7\r"
    batch = read_batch(raw + FIRST + SECOND + b"BTS|2\rFTS|1\r")
    assert batch is not None
    lines = batch.answered([b"MSH|1\rMSA|AA|1\r", b"MSH|2\rMSA|AA|2\r"], NOW).split(b"\r")
    assert [line[:3] for line in lines] == [
        b"FHS", b"BHS", b"MSH", b"MSA", b"MSH", b"MSA", b"BTS", b"FTS", b"",
    ]  # fmt: skip
    file, head = lines[0].split(b"|"), lines[1].split(b"|")
    assert file[1:7] == [b"^~\\&", b"GANTRY", b"HOSP", b"APP", b"FAC", b"20261121000000+0000"]
    # FHS-12 and BHS-12: counted from the separator.
    assert (file[11], head[11]) == (b"F7", b"B7")
    assert lines[-3:-1] == [b"BTS|2", b"FTS|1"]


@pytest.mark.parametrize(
    ("accept", "application", "codes"),
    [
        ("AL", "NE", ("CA", "CE", "CR")),
        ("AL", "", ("CA", "CE", "CR")),
        ("NE", "AL", ("AA", "AE", "AR")),
        ("", "AL", ("AA", "AE", "AR")),
        ("AL", "AL", ("CA AA", "CA AE", "CR")),
        ("ER", "AL", ("AA", "AE", "CR")),
        ("AL", "ER", ("CA", "CA AE", "CR")),
        ("AL", "SU", ("CA AA", "CE", "CR")),
        ("ER", "NE", ("", "CE", "CR")),
        ("SU", "NE", ("CA", "", "")),
        ("NE", "NE", ("", "", "")),
    ],
)
def test_which_answers_are_wanted(
    accept: str, application: str, codes: tuple[str, str, str]
) -> None:
    wanted = wanted_of(f"MSH|^~\\&|A|B|C|D|||ADT^A08|1|P|2.5|||{accept}|{application}\r".encode())
    assert wanted is not None
    assert tuple(" ".join(wanted.codes(outcome)) for outcome in Ack) == codes


@pytest.mark.parametrize("raw", [FIRST, b"MSH|^~\\&|A|B|C|D|||ADT^A08|1|P|2.5||||\r", b"nothing"])
def test_who_says_nothing_wants_the_original_mode(raw: bytes) -> None:
    assert wanted_of(raw) is None
