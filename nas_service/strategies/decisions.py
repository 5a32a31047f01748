"""What the strategies share about samples of a space: draw one, tell two apart, keep trials as JSON."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from nas_service.strategies.protocol import NONE_RUNNING, ObservedTrial, Problem, Proposed
from search_spaces.choose import Choose, Question, Recorder, Scalar, position, replay, sample

Sample = tuple[Question, ...]
"""The questions that a space asked, with the answers."""


def stream(seed: int, number: int, purpose: str = "") -> random.Random:
    """The random numbers of trial ``number``: the same for equal arguments, on every machine."""
    return random.Random(f"{seed}:{number}:{purpose}")


def asked(problem: Problem, choose: Choose) -> tuple[Question, ...]:
    """The questions that the space asks when ``choose`` answers, with the answers."""
    recorder = Recorder(choose)
    problem.ask(recorder)
    return tuple(recorder.questions)


def answering(questions: Sequence[Question]) -> Choose:
    """Chooser that repeats the answers of ``questions``."""
    return replay(decided(questions))


def decided(questions: Sequence[Question]) -> dict[str, Scalar]:
    """The decisions: answers by name."""
    return {question.name: question.answer for question in questions}


def signature(questions: Sequence[Question]) -> str:
    """32 hexadecimal digits, equal for equal decisions: types count, the order of asking does not."""
    decisions = sorted((q.name, type(q.answer).__name__, q.answer) for q in questions)
    return hashlib.sha256(json.dumps(decisions).encode()).hexdigest()[:32]


def unseen(
    problem: Problem, draw: Callable[[int], Choose], seen: set[str], attempts: int, running: Proposed = NONE_RUNNING
) -> tuple[Question, ...]:
    """The first sample of ``draw(0), draw(1), …`` that is neither in ``seen`` nor running; else the last of
    ``attempts``.

    A space with fewer samples than trials has no new one to offer: a repeat is right there, its result is reused.
    """
    taken = seen | signatures(running)
    questions: tuple[Question, ...] = ()
    for attempt in range(attempts):
        questions = asked(problem, draw(attempt))
        if signature(questions) not in taken:
            break
    return questions


def steps(questions: Sequence[Question]) -> list[tuple[str, Scalar]]:
    """Every (decision, other answer) that leads from a sample to one that differs in that decision."""
    return [(q.name, o) for q in questions for i, o in enumerate(q.options) if i != position(q.options, q.answer)]


def stepped(problem: Problem, questions: Sequence[Question], step: tuple[str, Scalar], rng: random.Random) -> Sample:
    """The sample after a step. Questions that only the change brings up are answered at random."""
    name, answer = step
    return asked(problem, replay({**decided(questions), name: answer}, sample(rng)))


def signatures(running: Proposed) -> set[str]:
    """Signatures of the trials that run."""
    return {signature(questions) for questions in running.values()}


def trials_to_json(trials: Sequence[ObservedTrial]) -> dict[str, Any]:
    """Trials as JSON-able data: each question's options are written once, an answer is the index of its option."""
    numbers: dict[tuple[str, str], int] = {}
    questions: list[list[Any]] = []
    rows = []
    for trial in trials:
        answers = []
        for q in trial.questions:
            key = (q.name, json.dumps(q.options))
            if key not in numbers:
                numbers[key] = len(questions)
                questions.append([q.name, list(q.options)])
            answers.append([numbers[key], position(q.options, q.answer)])
        values = None if trial.values is None else list(trial.values)
        rows.append([trial.number, answers, trial.state, values, trial.epoch, list(trial.violations), trial.reused])
    return {"questions": questions, "trials": rows}


def trials_from_json(data: Any) -> list[ObservedTrial]:
    """Inverse of ``trials_to_json``. Raises ValueError where the data is not what that function writes."""
    try:
        questions: list[tuple[str, tuple[Scalar, ...]]] = [(name, tuple(opts)) for name, opts in data["questions"]]
        trials = []
        for number, answers, state, values, epoch, violations, reused in data["trials"]:
            found = tuple(Question(questions[i][0], questions[i][1], questions[i][1][j]) for i, j in answers)
            known = None if values is None else tuple(values)
            trials.append(ObservedTrial(number, found, state, known, epoch, tuple(violations), reused))
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"snapshot of trials cannot be read: {error!r}") from error
    return trials


def check_version(snapshot: dict[str, Any], kind: str, version: int) -> None:
    """Raise ValueError unless ``snapshot`` is one of strategy ``kind`` in format ``version``."""
    found = (snapshot.get("strategy"), snapshot.get("version"))
    if found != (kind, version):
        raise ValueError(f"snapshot of strategy {found[0]!r} version {found[1]!r}; allowed: {kind!r} version {version}")
