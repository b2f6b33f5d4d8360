"""What people decide of held studies: effective at once, undone, told again by a reindex."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from gantry_archive.deciding import Decider, NotDecided
from gantry_archive.indexing import index_batch
from gantry_archive.judging import judge_studies
from gantry_archive.reading import ReadingRules
from gantry_archive.reindex import reindex
from gantry_archive.rejudging import recall_changed
from gantry_archive.replaying import replay
from gantry_cli.held import decide_study, show_study, undo_last
from gantry_cli.policies import explain_study, replay_policies
from gantry_domain.decisions import DecisionKind
from gantry_domain.keys import OBJECTS
from gantry_domain.orders.records import order_of
from gantry_domain.policies.findings import Action, VerdictKind
from gantry_domain.policies.patient_identity import PatientIdentity
from gantry_domain.policies.rules import PolicySet
from gantry_domain.policies.study_rules import ImagesPerStudy
from gantry_query.access import Client, Right, TokenAccess
from gantry_runtime.settings import Settings, load_settings
from gantry_stores.index import migrations
from gantry_stores.index.database import make_engine, transaction
from gantry_stores.index.judged_studies import JudgedStudy, find_judged
from gantry_stores.index.orders.applying import apply_changes
from gantry_stores.objects import DirectoryStore, StoreUnavailable
from gantry_testkit.stored import image, receipts, rows, snapshot, stage

CONFIG = "policies: [{rule: patient_identity, action: hold}, {rule: images_per_study, limit: 2}]"
POLICIES = PolicySet.of([PatientIdentity(Action.HOLD), ImagesPerStudy(2, Action.WARN)])
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Reviewing:
    """An index, its store, and the commands over both."""

    engine: Engine
    store: DirectoryStore
    settings: Settings

    @property
    def decider(self) -> Decider:
        return Decider(store=self.store, engine=self.engine, policies=POLICIES, feed=None)

    def images(self, *, study: str = "", patient: str = "A123456(4)", number: str = "") -> str:
        values = {"PatientID": patient, "PatientName": "CHAN^TAI MAN", "AccessionNumber": number}
        ds = image(**values, PatientBirthDate="19700102", PatientSex="F")
        if study:
            ds.StudyInstanceUID = study
        sent = [stage(self.store, ds)]
        index_batch(receipts(sent), store=self.store, engine=self.engine, rules=ReadingRules())
        judge_studies(self.engine, POLICIES)
        return str(ds.StudyInstanceUID)

    def order(self, number: str, **values: str) -> None:
        told = {"AccessionNumber": number, "PatientID": "A123456(3)", "PatientName": "CHAN^TAI MAN"}
        told |= {"PatientBirthDate": "19700102", "PatientSex": "F"} | values
        told |= {"ScheduledProcedureStepStartDate": "20260102"}
        with transaction(self.engine) as connection:
            apply_changes(connection, [order_of(told)], partition="main", now=datetime.now(UTC))
        recall_changed(self.engine, feed=None)
        judge_studies(self.engine, POLICIES)

    def find(self, study: str) -> JudgedStudy:
        with transaction(self.engine) as connection:
            (found,) = find_judged(connection, study)
        return found

    def decide(self, study: str, kind: DecisionKind, **more: Any) -> None:
        self.decider.decide(self.find(study), kind, by="Dr Wong", reason="it is", **more)

    def undo(self, study: str) -> None:
        self.decider.undo_last(self.find(study), by="Dr Lee", reason="it is not")

    def state(self, study: str) -> tuple[str, bool]:
        found = self.find(study)
        return str(found.verdict), found.visible


@pytest.fixture(scope="module")
def reviewing(
    module_postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reviewing]:
    folder = tmp_path_factory.mktemp("reviewing")
    (folder / "gantry.yaml").write_text(CONFIG)
    names = {"GANTRY_CONFIG": str(folder / "gantry.yaml"), "GANTRY_DATA": str(folder)}
    loaded = load_settings(names)
    # Its URL has a socket for a host, which none of the configuration has.
    url = module_postgres_url.replace("postgresql+psycopg://", "postgresql://")
    loaded = loaded.model_copy(update={"database": url})
    engine = make_engine(module_postgres_url)
    store = DirectoryStore(loaded.data / "objects")
    yield Reviewing(engine, store, loaded)
    engine.dispose()


HELD = ("held", False)
SEEN = ("accepted", True)
REFUSED = ("refused", False)


@pytest.mark.parametrize(
    ("kind", "after"),
    [
        (DecisionKind.ACCEPT, SEEN),
        (DecisionKind.RELEASE, SEEN),
        (DecisionKind.REFUSE, REFUSED),
    ],
)
def test_a_decision_is_effective_at_once_and_undone_exactly(
    reviewing: Reviewing, kind: DecisionKind, after: tuple[str, bool]
) -> None:
    study = reviewing.images()
    before = snapshot(reviewing.engine)
    assert reviewing.state(study) == HELD
    reviewing.decide(study, kind)
    assert reviewing.state(study) == after
    reviewing.undo(study)
    assert reviewing.state(study) == HELD
    assert snapshot(reviewing.engine) == before
    with pytest.raises(NotDecided, match="nothing that was decided"):
        reviewing.undo(study)


def test_accepted_are_the_faults_that_there_were_and_no_others(reviewing: Reviewing) -> None:
    study = reviewing.images(number="F1")
    reviewing.decide(study, DecisionKind.ACCEPT)
    reviewing.images(study=study, number="F1")
    assert reviewing.state(study) == SEEN
    reviewing.order("F1", PatientSex="M")
    # Another fault holds it; nobody loses sight of it.
    assert reviewing.state(study) == ("held", True)
    right = reviewing.images(patient="A123456(3)")
    with pytest.raises(NotDecided, match="no fault"):
        reviewing.decide(right, DecisionKind.ACCEPT)


def test_released_stays_released_and_refused_refused_whatever_comes(reviewing: Reviewing) -> None:
    released, refused = reviewing.images(), reviewing.images(patient="A123456(3)")
    reviewing.decide(released, DecisionKind.RELEASE)
    reviewing.decide(refused, DecisionKind.REFUSE)
    for study in (released, refused):
        reviewing.images(study=study, patient="")
    assert (reviewing.state(released), reviewing.state(refused)) == (SEEN, REFUSED)
    # What was seen before somebody refused it is seen again.
    reviewing.undo(refused)
    assert reviewing.state(refused) == SEEN


def test_a_link_says_which_order_and_its_keys_are_compared_all_the_same(
    reviewing: Reviewing,
) -> None:
    reviewing.order("K1")
    reviewing.order("K2", PatientID="Z9")
    study = reviewing.images(patient="A1234563", number="WRONG")
    assert reviewing.state(study) == SEEN
    reviewing.decide(study, DecisionKind.LINK, order="K2")
    assert reviewing.state(study) == ("held", True)
    reviewing.undo(study)
    reviewing.decide(study, DecisionKind.LINK, order="K1")
    assert reviewing.state(study) == SEEN
    # An order is looked after also where only a link leads to it.
    reviewing.order("K1", PatientSex="M")
    assert reviewing.state(study) == ("held", True)
    with pytest.raises(NotDecided, match="no such order"):
        reviewing.decide(study, DecisionKind.LINK, order="K9")


def test_only_the_last_decision_is_undone_and_only_once(reviewing: Reviewing) -> None:
    study = reviewing.images()
    decider, seen = reviewing.decider, reviewing.find(study)
    decider.decide(seen, DecisionKind.RELEASE, by="a", reason="b")
    decider.decide(seen, DecisionKind.REFUSE, by="a", reason="b")
    assert decider.undo_last(seen, by="c", reason="d").kind is DecisionKind.REFUSE
    assert reviewing.state(study) == SEEN
    assert decider.undo_last(seen, by="c", reason="d").kind is DecisionKind.RELEASE
    assert reviewing.state(study) == HELD
    lines = decider.history(seen)
    assert [line.decision.decided_by for line in lines] == ["a", "a"]
    assert [line.undone.undone_by for line in lines if line.undone] == ["c", "c"]


class _AwayStore(DirectoryStore):
    def create(self, *_: object, **__: object) -> NoReturn:
        raise StoreUnavailable("away")


def test_nothing_is_decided_that_the_journal_does_not_hold(
    reviewing: Reviewing, tmp_path: Path
) -> None:
    study = reviewing.images()
    seen = reviewing.find(study)
    decider = Decider(
        store=_AwayStore(tmp_path / "away"), engine=reviewing.engine, policies=POLICIES, feed=None
    )
    with pytest.raises(StoreUnavailable):
        decider.decide(seen, DecisionKind.RELEASE, by="a", reason="b")
    judge_studies(reviewing.engine, POLICIES)
    assert reviewing.state(study) == HELD
    assert decider.history(seen) == []


STEPS = st.lists(
    st.sampled_from(
        [DecisionKind.ACCEPT, DecisionKind.RELEASE, DecisionKind.REFUSE, DecisionKind.CORRECT]
    ),
    min_size=1,
    max_size=4,
)


@given(STEPS)
@settings(max_examples=8, deadline=None)
def test_undone_one_by_one_each_answer_is_the_former_one(
    reviewing: Reviewing, steps: list[DecisionKind]
) -> None:
    study = reviewing.images()
    answers = [snapshot(reviewing.engine)]
    for number, step in enumerate(steps):
        # Wrong at first, then right.
        values = {"PatientID": f"A123456({4 - number % 2})", "StudyID": str(number)}
        more = {"corrected": values} if step is DecisionKind.CORRECT else {}
        try:
            reviewing.decide(study, step, **more)
        except NotDecided:
            assert step is DecisionKind.ACCEPT  # nothing is wrong with it any more
            continue
        answers.append(snapshot(reviewing.engine))
    for answer in reversed(answers[:-1]):
        reviewing.undo(study)
        assert snapshot(reviewing.engine) == answer


def test_a_reindex_tells_the_same_decisions_and_verdicts(
    reviewing: Reviewing, empty_database_url: str
) -> None:
    rows(reviewing.engine, "DELETE FROM order_step RETURNING 1")
    rows(reviewing.engine, "DELETE FROM order_ RETURNING 1")
    recall_changed(reviewing.engine, feed=None)
    judge_studies(reviewing.engine, POLICIES)
    migrations.upgrade(empty_database_url)
    anew = make_engine(empty_database_url)
    reindex(reviewing.store, anew, policies=POLICIES)
    sql = (
        "SELECT study_instance_uid, kind, order_uid, content, decided_at, decided_by, reason,"
        " undoing_id, undone_by, undone_at, undone_reason FROM decision ORDER BY id"
    )
    assert rows(anew, sql) == rows(reviewing.engine, sql)
    assert len(rows(anew, sql)) > 8
    # Once seen is not told by the journal: what a rule holds now was never seen in the new index.
    sql = "SELECT study_instance_uid, verdict FROM study ORDER BY 1"
    assert rows(anew, sql) == rows(reviewing.engine, sql)
    anew.dispose()
    assert list(reviewing.store.list(OBJECTS))


def test_a_replay_counts_and_touches_nothing(
    reviewing: Reviewing, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    reviewing.images(patient="")
    written = "SELECT xmin, * FROM study ORDER BY pk"
    before = snapshot(reviewing.engine), rows(reviewing.engine, written)
    done = replay(reviewing.engine, PolicySet.of([]))
    total = rows(reviewing.engine, "SELECT count(*) FROM study")[0][0]
    assert done.studies == total
    assert done.verdicts[VerdictKind.HELD, VerdictKind.ACCEPTED] >= 1
    assert not done.faults
    other = tmp_path / "other.yaml"
    other.write_text("policies: [{rule: images_per_study, limit: 1, action: hold}]")
    assert replay_policies(reviewing.settings, since=None, file=str(other)) == 0
    said = capsys.readouterr().out
    assert "images_per_study  too many images" in said
    assert (snapshot(reviewing.engine), rows(reviewing.engine, written)) == before


REVIEWER, READER = "v" * 20, "r" * 20
ACCESS = TokenAccess(
    [
        (Client("dr-ho", frozenset({Right.READ, Right.REVIEW, Right.DECIDE})), [REVIEWER]),
        (Client("reader", frozenset({Right.READ, Right.REVIEW})), [READER]),
        (Client("store", frozenset({Right.READ, Right.STORE})), ["s" * 20]),
    ]
)


def test_the_queue_over_http(
    reviewing: Reviewing, serve: Callable[..., AbstractContextManager[str]]
) -> None:
    reviewing.order("H1", PatientSex="M")
    study = reviewing.images(patient="A123456(3)", number="H1")
    with (
        serve(reviewing.engine, reviewing.store, access=ACCESS, policies=POLICIES) as base,
        httpx.Client(base_url=base.removesuffix("/dicomweb"), timeout=60) as client,
    ):

        def ask(method: str, path: str, token: str = REVIEWER, **more: Any) -> httpx.Response:
            bearer = {"Authorization": f"Bearer {token}"}
            return client.request(method, path, headers=bearer, **more)

        listed = ask("GET", "/held", READER).json()["studies"]
        (line,) = [each for each in listed if each["StudyInstanceUID"] == study]
        assert [finding["code"] for finding in line["findings"]] == ["patient_sex_differs"]
        shown = ask("GET", f"/held/{study}").json()
        assert (shown["PatientSex"], shown["verdict"]) == ("F", "held")
        (order,) = shown["orders"]
        assert order["compared"]["PatientSex"] == "differs"
        assert order["compared"]["PatientID"] == "agrees"
        decisions = f"/held/{study}/decisions"
        release = {"kind": "release", "reason": "stroke"}
        for token in (READER, "s" * 20):
            assert ask("POST", decisions, token, json=release).status_code == 403
        assert ask("GET", "/held", "s" * 20).status_code == 403
        assert ask("POST", decisions, json=release).json() == {
            "StudyInstanceUID": study,
            "verdict": "accepted",
            "visible": True,
        }
        (made,) = ask("GET", f"/held/{study}").json()["decisions"]
        assert (made["by"], made["reason"]) == ("dr-ho", "stroke")
        undone = ask("POST", decisions, json={"kind": "undo", "reason": "mistaken"})
        assert undone.json() == {
            "StudyInstanceUID": study,
            "verdict": "held",
            "visible": False,
        }
        again = ask("POST", decisions, json={"kind": "undo", "reason": "mistaken"})
        assert again.status_code == 409
        for body in ({"kind": "release"}, {"kind": "burn", "reason": "x"}, [], {**release, "x": 1}):
            assert ask("POST", decisions, json=body).status_code == 400
        assert ask("POST", decisions, content=b"x" * 70_000).status_code == 413
        assert ask("GET", "/held/1.2.3").status_code == 404
        assert ask("GET", "/held?limit=0").status_code == 400
        assert ask("GET", "/held?before=x").status_code == 400
        paged, after = [], ""
        while True:
            page = ask("GET", f"/held?limit=1{after}").json()
            paged += page["studies"]
            if "next" not in page:
                break
            after = f"&before={page['next']}"
        assert paged == ask("GET", "/held").json()["studies"]
        assert len(paged) > 1
        assert ask("GET", "/p/north/held").json() == {"studies": []}
    with (
        serve(reviewing.engine, reviewing.store, policies=POLICIES) as base,
        httpx.Client(base_url=base.removesuffix("/dicomweb"), timeout=60) as client,
    ):
        # Nobody signs in, so nobody is a reviewer.
        assert client.get("/held").status_code == 403
        assert client.post(f"/held/{study}/decisions", json=release).status_code == 403


def test_the_commands(reviewing: Reviewing, capsys: pytest.CaptureFixture[str]) -> None:
    reviewing.order("C1", PatientSex="M")
    study = reviewing.images(patient="A123456(3)", number="C1")
    assert explain_study(reviewing.settings, study, partition=None) == 0
    said = capsys.readouterr().out
    assert "its order: UNMATCHED, found by accession number" in said
    assert "patient sex differs" in said
    assert "CHAN" not in said
    assert show_study(reviewing.settings, study, partition="main") == 0
    said = capsys.readouterr().out
    (sex,) = [line.split() for line in said.splitlines() if line.startswith("PatientSex")]
    # The first is its order; others are suggestions.
    assert sex[:4] == ["PatientSex", "F", "M", "(differs)"]
    settings = reviewing.settings
    decided = decide_study(
        settings, study, DecisionKind.RELEASE, order="", partition=None, why="stroke", by="Dr Ho"
    )
    assert decided == 0
    assert capsys.readouterr().out == "release: the study is accepted now\n"
    assert undo_last(settings, study, partition=None, why="mistaken", by=None) == 0
    assert capsys.readouterr().out == "undone: release by Dr Ho; the study is held now\n"
    show_study(settings, study, partition=None)
    (line,) = [each for each in capsys.readouterr().out.splitlines() if " stroke " in each]
    assert "release" in line
    assert "at the command line: mistaken" in line
