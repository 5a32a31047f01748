"""The one question a search space may ask, and everything that can answer it.

A space is a function ``space(choose, task, config) -> Architecture`` that calls ``choose(name, options)``. Random
sampling, replay, mutation, enumeration, an Optuna trial and the RL controller are all *choosers*: they differ only in
who answers. The recorded ``{name: answer}`` are the *decisions*, the genotype of an architecture.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Scalar = bool | int | float | str
Decisions = Mapping[str, Scalar]
Options = tuple[Scalar, ...]
T = TypeVar("T", bound=Scalar)
Result = TypeVar("Result")


class Choose(Protocol):
    """Answer one named question with one of its options.

    Called once for each name in a sample. Equal names always come with equal options, in the same order.
    """

    def __call__(self, name: str, options: Sequence[T], /) -> T: ...


class SpaceError(ValueError):
    """A space broke a rule of ``choose``, or decisions do not fit their space.

    Says the name, the value and what was allowed.
    """


@dataclass(frozen=True)
class Question:
    """What was asked and answered: ``answer`` is one of ``options``."""

    name: str
    options: Options
    answer: Scalar


def position(options: Sequence[Scalar], answer: Scalar) -> int:
    """Index of ``answer`` in ``options``, or -1. True is not 1 and 1 is not 1.0, though Python calls them equal."""
    kind = type(answer)
    for i, option in enumerate(options):
        if option == answer and type(option) is kind:
            return i
    return -1


class Recorder:
    """Chooser that passes each question on and writes it down, checking the rules of a space as it goes.

    Raises SpaceError when a name is asked twice, options are empty, repeated or not finite scalars, or the answer is
    not an option.
    """

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self.questions: list[Question] = []
        self._names: set[str] = set()

    def __call__(self, name: str, options: Sequence[T], /) -> T:
        if name in self._names:
            raise SpaceError(f"decision {name!r} was asked twice; give each decision a name of its own")
        _check_options(name, options)
        answer = self._choose(name, options)
        if position(options, answer) < 0:
            raise SpaceError(f"decision {name!r} was answered {answer!r}; allowed: {list(options)}")
        self._names.add(name)
        self.questions.append(Question(name, tuple(options), answer))
        return answer

    @property
    def decisions(self) -> dict[str, Scalar]:
        return {question.name: question.answer for question in self.questions}


GOOD_AT_MOST = 10_000
_GOOD: set[tuple[object, ...]] = set()
"""Options that were found to be right, with their types: a space asks the same ones again and again."""


def _check_options(name: str, options: Sequence[Scalar]) -> None:
    known = (*options, *map(type, options))
    try:
        if known in _GOOD:
            return
    except TypeError:  # not hashable, so not a scalar
        pass
    if not options:
        raise SpaceError(f"decision {name!r} has no options")
    for option in options:
        if not isinstance(option, (bool, int, float, str)):
            raise SpaceError(
                f"decision {name!r} has option {option!r} of type {type(option).__name__}; "
                "allowed: bool, int, float, str"
            )
        if isinstance(option, float) and not float("-inf") < option < float("inf"):
            raise SpaceError(f"decision {name!r} has option {option!r}; numbers must be finite")
    if len({(type(option), option) for option in options}) != len(options):
        raise SpaceError(f"decision {name!r} lists an option twice: {list(options)}")
    if len(_GOOD) < GOOD_AT_MOST:
        _GOOD.add(known)


def sample(rng: random.Random) -> Choose:
    """Chooser that answers uniformly at random."""

    def choose(name: str, options: Sequence[T], /) -> T:
        return options[rng.randrange(len(options))]

    return choose


def first(name: str, options: Sequence[T], /) -> T:
    """Chooser that always takes the first option: the smallest sample of most spaces."""
    return options[0]


def replay(decisions: Decisions, otherwise: Choose | None = None) -> Choose:
    """Chooser that answers from recorded decisions; a name that is missing goes to ``otherwise``.

    Raises SpaceError when a name is missing and there is no ``otherwise``, or when the recorded answer is not an
    option any more.
    """

    def choose(name: str, options: Sequence[T], /) -> T:
        if name not in decisions:
            if otherwise is None:
                raise SpaceError(f"decision {name!r} is missing; allowed: {list(options)}")
            return otherwise(name, options)
        index = position(options, decisions[name])
        if index < 0:
            raise SpaceError(f"decision {name!r} is {decisions[name]!r}; allowed: {list(options)}")
        return options[index]

    return choose


def mutated(questions: Sequence[Question], rng: random.Random, changes: int = 1) -> Choose:
    """Chooser that repeats ``questions`` but for ``changes`` of them, drawn at random, which get another answer.

    Questions that only the change brings up are answered uniformly at random, so every sample stays inside the space.
    """
    open_questions = [question for question in questions if len(question.options) > 1]
    changed = {q.name for q in rng.sample(open_questions, min(changes, len(open_questions)))}
    known = {question.name: question.answer for question in questions}
    at_random = sample(rng)

    def choose(name: str, options: Sequence[T], /) -> T:
        index = position(options, known[name]) if name in known else -1
        if index < 0:
            return at_random(name, options)
        if name not in changed:
            return options[index]
        others = [option for i, option in enumerate(options) if i != index]
        return others[rng.randrange(len(others))] if others else options[index]

    return choose


def crossed(one: Decisions, two: Decisions, rng: random.Random) -> Choose:
    """Chooser that takes each answer from one of two parents by a fair coin, and at random where neither has one."""
    at_random = sample(rng)

    def choose(name: str, options: Sequence[T], /) -> T:
        parents = [parent for parent in (one, two) if name in parent and position(options, parent[name]) >= 0]
        if not parents:
            return at_random(name, options)
        return options[position(options, parents[rng.randrange(len(parents))][name])]

    return choose


def _follow(prefix: Sequence[int], trail: list[tuple[int, int]]) -> Choose:
    """Chooser that takes the options numbered ``prefix``, then the first; writes (taken, available) to ``trail``."""

    def choose(name: str, options: Sequence[T], /) -> T:
        index = prefix[len(trail)] if len(trail) < len(prefix) else 0
        trail.append((index, len(options)))
        return options[index]

    return choose


def every(run: Callable[[Choose], Result]) -> Iterator[tuple[tuple[Question, ...], Result]]:
    """Every sample of a space, in the order of its options: depth first, conditions included.

    Lazy, so large spaces can be cut off.
    """
    prefix: list[int] = []
    while True:
        trail: list[tuple[int, int]] = []

        recorder = Recorder(_follow(prefix, trail))
        result = run(recorder)
        yield tuple(recorder.questions), result
        while trail and trail[-1][0] + 1 == trail[-1][1]:
            trail.pop()
        if not trail:
            return
        prefix = [index for index, _ in trail[:-1]] + [trail[-1][0] + 1]


@dataclass(frozen=True)
class SpaceSize:
    """How many samples a space has; ``low`` to ``high`` is a 95 % confidence interval, one number if ``exact``."""

    estimate: float
    low: float
    high: float
    exact: bool


def estimated_size(
    run: Callable[[Choose], object], rng: random.Random, samples: int = 200, exact_up_to: int = 1000
) -> SpaceSize:
    """Number of distinct decision sets: counted where there are at most ``exact_up_to``, else estimated.

    The estimator is Knuth's (Mathematics of Computation 29, 1975): the product of the number of options along a
    random path is unbiased for the number of leaves of the decision tree.
    """
    paths = every(run)
    count = 0
    for count, _ in enumerate(paths, 1):
        if count > exact_up_to:
            break
    else:
        return SpaceSize(float(count), float(count), float(count), exact=True)
    products = []
    for _ in range(samples):
        recorder = Recorder(sample(rng))
        run(recorder)
        product = 1.0
        for question in recorder.questions:
            product *= len(question.options)
        products.append(product)
    mean = sum(products) / samples
    deviation = (sum((p - mean) ** 2 for p in products) / (samples - 1)) ** 0.5
    margin = 1.96 * deviation / samples**0.5
    return SpaceSize(mean, max(mean - margin, float(exact_up_to)), mean + margin, exact=deviation == 0)
