"""The fold over objects of one SOP Instance UID: the same end in any order, whatever was purged."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from gantry_domain.comparison import Relation
from gantry_domain.duplicates import (
    ObjectState,
    Outcome,
    Reason,
    Rival,
    pair,
    recorded_relations,
    settle,
)

PARENTS = ("1.1", "1.1.1", "1.2.840.10008.5.1.4.1.1.2")
OTHER_PARENTS = ("1.1", "1.1.2", "1.2.840.10008.5.1.4.1.1.2")


def rival(
    number: int,
    content: bytes = b"a",
    *,
    parents: tuple[str, str, str] = PARENTS,
    take_last: bool = False,
) -> Rival:
    return Rival(UUID(int=number), content, parents, take_last)


def outcome(settled, number):
    found = settled.outcomes[UUID(int=number)]
    relates_to = found.relates_to.int if found.relates_to else None
    return found.state, found.reason, relates_to


def relation_of(one: Rival, other: Rival) -> Relation:
    """A world in which the first byte is the image, the second the demographics, then encoding."""
    if one.parents != other.parents or one.sha256[:1] != other.sha256[:1]:
        return Relation.CONFLICT
    return Relation.DEMOGRAPHICS if one.sha256[1:2] != other.sha256[1:2] else Relation.SAME_CONTENT


def settle_fully(rivals):
    """As indexing does: asks for comparisons until none is missing."""
    by_id = {each.object_id: each for each in rivals}
    relations = {}
    for _ in range(len(rivals) + 1):
        settled = settle(rivals, relations)
        if not settled.missing:
            return settled
        relations |= {
            (one, other): relation_of(by_id[one], by_id[other]) for one, other in settled.missing
        }
    raise AssertionError("comparisons never end")


def test_one_object_is_primary():
    assert outcome(settle([rival(7)], {}), 7) == (ObjectState.PRIMARY, None, None)


def test_same_bytes_are_a_duplicate_without_any_comparison():
    settled = settle([rival(2), rival(1)], {})
    assert settled.primary == UUID(int=1)
    assert outcome(settled, 2) == (ObjectState.DUPLICATE, Reason.SAME_BYTES, 1)


def test_other_parents_are_a_conflict_without_any_comparison():
    settled = settle([rival(1), rival(2, b"b", parents=OTHER_PARENTS)], {})
    assert outcome(settled, 2) == (ObjectState.CONFLICT, Reason.OTHER_PARENTS, 1)


def test_what_is_not_known_is_asked_for_all_at_once():
    settled = settle([rival(1), rival(2, b"b"), rival(3, b"c"), rival(4, b"a")], {})
    assert settled.missing == ((UUID(int=1), UUID(int=2)), (UUID(int=1), UUID(int=3)))
    assert not settled.outcomes


def test_each_relation_has_its_outcome():
    rivals = [rival(1, b"xxx"), rival(2, b"xxy"), rival(3, b"xyy"), rival(4, b"yyy")]
    settled = settle_fully(rivals)
    assert outcome(settled, 2) == (ObjectState.DUPLICATE, Reason.ENCODING, 1)
    assert outcome(settled, 3) == (ObjectState.DUPLICATE, Reason.DEMOGRAPHICS, 1)
    assert outcome(settled, 4) == (ObjectState.CONFLICT, Reason.OTHER_CONTENT, 1)


def test_the_last_demographics_of_a_sender_who_has_the_last_word_replace_the_primary():
    rivals = [
        rival(1, b"xxx"),
        rival(2, b"xyx", take_last=True),
        rival(3, b"xzx"),
        rival(4, b"xxx", take_last=True),
    ]
    settled = settle_fully(rivals)
    assert settled.primary == UUID(int=4)
    assert outcome(settled, 1) == (ObjectState.DUPLICATE, Reason.SUPERSEDED, 2)
    assert outcome(settled, 2) == (ObjectState.DUPLICATE, Reason.SUPERSEDED, 4)
    assert outcome(settled, 3) == (ObjectState.DUPLICATE, Reason.DEMOGRAPHICS, 2)


def test_the_same_conflict_again_is_kept_once():
    rivals = [rival(1, b"x"), rival(2, b"y"), rival(3, b"y")]
    settled = settle_fully(rivals)
    assert outcome(settled, 2) == (ObjectState.CONFLICT, Reason.OTHER_CONTENT, 1)
    assert outcome(settled, 3) == (ObjectState.DUPLICATE, Reason.SAME_BYTES, 2)


rivals_of_one_uid = st.lists(
    st.builds(
        rival,
        st.integers(1, 40),
        st.text("xy", min_size=3, max_size=3).map(str.encode),
        parents=st.sampled_from([PARENTS, PARENTS, OTHER_PARENTS]),
        take_last=st.booleans(),
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda each: each.object_id,
)


@given(rivals_of_one_uid)
def test_there_is_one_primary_and_every_other_says_why(rivals):
    settled = settle_fully(rivals)
    primaries = [o for o in settled.outcomes.values() if o.state is ObjectState.PRIMARY]
    assert len(primaries) == 1
    assert settled.outcomes.keys() == {each.object_id for each in rivals}
    for object_id, found in settled.outcomes.items():
        assert (found.reason is None) == (found.state is ObjectState.PRIMARY)
        assert found.relates_to is None or found.relates_to in settled.outcomes
        assert found.relates_to != object_id


@given(rivals_of_one_uid)
def test_what_has_the_same_bytes_refers_to_an_object_that_is_kept(rivals):
    settled = settle_fully(rivals)
    content = {each.object_id: each.sha256 for each in rivals}
    for object_id, found in settled.outcomes.items():
        if found.reason is Reason.SAME_BYTES:
            assert found.relates_to is not None
            assert content[found.relates_to] == content[object_id]
            assert settled.outcomes[found.relates_to].reason is not Reason.SAME_BYTES


@given(rivals_of_one_uid)
def test_purging_what_has_the_same_bytes_changes_nothing_else(rivals):
    settled = settle_fully(rivals)
    kept = [
        each for each in rivals if settled.outcomes[each.object_id].reason is not Reason.SAME_BYTES
    ]
    again = settle_fully(kept)
    assert again.outcomes == {each.object_id: settled.outcomes[each.object_id] for each in kept}


@given(rivals_of_one_uid)
def test_recorded_outcomes_spare_every_comparison(rivals):
    settled = settle_fully(rivals)
    again = settle(rivals, recorded_relations(settled.outcomes))
    same_bytes_of_others = any(
        o.reason is Reason.SAME_BYTES and o.relates_to != settled.primary
        for o in settled.outcomes.values()
    )
    # One whose bytes are kept elsewhere told nothing of its relation to the primary.
    if not same_bytes_of_others:
        assert again.outcomes == settled.outcomes


def test_a_pair_has_the_older_one_first():
    one, other = UUID(int=1), UUID(int=2)
    assert pair(other, one) == pair(one, other) == (one, other)
    recorded = recorded_relations({other: Outcome(ObjectState.CONFLICT, Reason.OTHER_PARENTS, one)})
    assert recorded == {}
