"""The core: what a space may ask, and everything that can answer."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.choose import (
    Choose,
    Question,
    Recorder,
    Scalar,
    SpaceError,
    crossed,
    estimated_size,
    every,
    first,
    mutated,
    position,
    replay,
    sample,
)


def tree(choose: Choose) -> tuple[Scalar, ...]:
    """A space with a condition: 2 samples with a, 3 x 2 with b."""
    if choose("kind", ("a", "b")) == "a":
        return ("a", choose("flag", (False, True)))
    return ("b", choose("size", (1, 2, 3)), choose("rate", (0.5, 1.0)))


def answers(choose: Choose) -> tuple[dict[str, Scalar], tuple[Scalar, ...]]:
    recorder = Recorder(choose)
    result = tree(recorder)
    return recorder.decisions, result


def test_every_enumerates_each_sample_once_in_order() -> None:
    results = [result for _, result in every(tree)]
    assert results == [
        ("a", False),
        ("a", True),
        ("b", 1, 0.5),
        ("b", 1, 1.0),
        ("b", 2, 0.5),
        ("b", 2, 1.0),
        ("b", 3, 0.5),
        ("b", 3, 1.0),
    ]


def test_every_records_the_questions_of_each_sample() -> None:
    for questions, result in every(tree):
        assert answers(replay({q.name: q.answer for q in questions}))[1] == result


def test_every_of_a_space_without_questions_is_one_sample() -> None:
    assert list(every(lambda choose: 7)) == [((), 7)]


def test_estimated_size_is_exact_for_small_spaces_and_covers_large_ones() -> None:
    size = estimated_size(tree, random.Random(0))
    assert (size.estimate, size.exact) == (8, True)

    def large(choose: Choose) -> None:
        if choose("deep", (False, True)):
            for i in range(6):
                choose(f"x{i}", tuple(range(5)))
        for i in range(4):
            choose(f"y{i}", tuple(range(6)))

    size = estimated_size(large, random.Random(1))
    assert size.low <= 6**4 * (1 + 5**6) <= size.high
    assert not size.exact


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no options"),
        ((1, 1), "twice"),
        ((None,), "NoneType"),
        ((float("nan"),), "finite"),
        ((float("inf"), 1.0), "finite"),
        (([1],), "list"),
    ],
)
def test_recorder_refuses_options_that_are_none(options: Sequence[Scalar], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Recorder(first)("x", options)


def test_recorder_refuses_a_name_that_is_asked_twice() -> None:
    recorder = Recorder(first)
    recorder("x", (1, 2))
    with pytest.raises(SpaceError, match="'x' was asked twice"):
        recorder("x", (1, 2))


def test_recorder_refuses_an_answer_that_is_no_option() -> None:
    with pytest.raises(SpaceError, match=r"answered 3; allowed: \[1, 2\]"):
        Recorder(lambda name, options: 3)("x", (1, 2))


def test_recorder_tells_true_from_one() -> None:
    with pytest.raises(SpaceError, match="answered True"):
        Recorder(lambda name, options: True)("x", (1, 2))


def test_position_tells_types_apart() -> None:
    assert [position((True, 1, 1.0), answer) for answer in (1.0, 1, True, "1")] == [2, 1, 0, -1]


def test_replay_says_what_is_missing_or_gone() -> None:
    with pytest.raises(SpaceError, match=r"'flag' is missing; allowed: \[False, True\]"):
        tree(replay({"kind": "a"}))
    with pytest.raises(SpaceError, match=r"'kind' is 'c'; allowed: \['a', 'b'\]"):
        tree(replay({"kind": "c"}))
    with pytest.raises(SpaceError, match="'flag' is 1"):
        tree(replay({"kind": "a", "flag": 1}))
    assert tree(replay({"kind": "a"}, otherwise=first)) == ("a", False)


@given(st.integers(0, 2**32))
def test_decisions_go_through_json(seed: int) -> None:
    decisions, result = answers(sample(random.Random(seed)))
    again, same = answers(replay(json.loads(json.dumps(decisions))))
    assert (again, same) == (decisions, result)


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_mutated_changes_exactly_one_answer(seed: int, mutation: int) -> None:
    recorder = Recorder(sample(random.Random(seed)))
    tree(recorder)
    after, _ = answers(mutated(recorder.questions, random.Random(mutation)))
    kept = [q for q in recorder.questions if q.name in after]
    changed = [q.name for q in kept if after[q.name] != q.answer]
    assert len(changed) == 1
    if changed != ["kind"]:
        assert set(after) == set(recorder.decisions)


def test_mutated_leaves_a_sample_with_nothing_to_change() -> None:
    assert mutated([Question("x", (1,), 1)], random.Random(0))("x", (1,)) == 1


@given(st.integers(0, 2**32))
def test_crossed_takes_each_answer_from_a_parent(seed: int) -> None:
    rng = random.Random(seed)
    one, _ = answers(sample(rng))
    two, _ = answers(sample(rng))
    child, _ = answers(crossed(one, two, rng))
    for name, answer in child.items():
        if name in one or name in two:
            assert answer in (one.get(name), two.get(name))
