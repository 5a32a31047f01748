"""The chain from proposal to result: repeated, infeasible, failed, paused and killed candidates, each counted once."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from nas_service.database.session import Database
from nas_service.database.tables import ArchitectureRow, Search, Trial
from nas_service.search.source import Nothing
from nas_service.search.stages import Stages
from nas_service.search.status import progress
from nas_service.settings import Settings
from search_spaces.architecture import Architecture, Node, Task
from search_spaces.choose import Choose
from search_spaces.space import Space, SpaceConfig
from tests.nas_service.search.benches import WIDTHS, Bench, epoch, one_width
from workers.assignment import Assignment, Failure


def states(trials: list[Trial]) -> list[str]:
    return [trial.state for trial in trials]


def started(bench: Bench) -> Assignment:
    """The next candidate, which must be there."""
    found = bench.candidates.next()
    assert isinstance(found, Assignment), found
    return found


def finish(bench: Bench, number: int, accuracy: float = 0.5) -> None:
    """Two epochs, which is all."""
    for i in (1, 2):
        bench.candidates.report(str(number), epoch(i, accuracy, done=i == 2))
    bench.candidates.ended(str(number), pruned=False, death=None)


def test_every_result_is_observed_once_and_in_order(database: Database, settings: Settings) -> None:
    bench = Bench(database, settings, widths=WIDTHS)
    trials = bench.run()
    assert states(trials) == ["completed"] * 3
    assert [t.observed_as for t in trials] == [1, 2, 3]
    assert [t.questions[0][2] for t in trials] == [4, 8, 12]
    assert [t.epoch for t in trials] == [2] * 3
    assert all(t.values == [t.metrics["val_accuracy"]] for t in trials)
    assert [e.number for e in bench.events()] == list(range(1, len(bench.events()) + 1))


def test_a_repeated_architecture_takes_the_result_and_is_free(sqlite: Database, settings: Settings) -> None:
    bench = Bench(sqlite, settings, widths=(4, 4, 8, 4, 12))
    trials = bench.run()
    assert [(t.questions[0][2], t.counted, t.reused_from) for t in trials] == [
        (4, True, None),
        (4, False, [bench.id, 0]),
        (8, True, None),
        (4, False, [bench.id, 0]),
        (12, True, None),
    ]
    assert trials[1].values == trials[0].values
    assert [seen.reused for seen in bench.told.seen] == [False, True, False, True, False]
    bench.restart()
    assert [seen.reused for seen in bench.told.seen] == [False, True, False, True, False]


def test_the_repeat_of_a_running_candidate_waits_for_its_result(sqlite: Database, settings: Settings) -> None:
    bench = Bench(sqlite, settings, widths=(4, 4, 8, 12))
    assert (started(bench).trial, started(bench).trial) == (0, 2)
    bench.ledger.flush()
    assert states(bench.trials())[:3] == ["running", "pending", "running"]
    assert bench.told.running == [[], [0], [0, 1]], "strategies do not repeat what waits either"
    finish(bench, 0, 0.7)
    trials = bench.trials()
    assert states(trials)[:2] == ["completed"] * 2
    assert (trials[1].values, trials[1].reused_from, trials[1].counted) == ([0.7], [bench.id, 0], False)


def test_a_repeat_shares_the_failure_too(sqlite: Database, settings: Settings) -> None:
    evaluator = {"name": "drill", "settings": {"seconds_per_epoch": 0, "endings": {"0": "raise"}}}
    trials = Bench(sqlite, settings, widths=(4, 4, 8, 12), evaluator=evaluator).run()
    assert states(trials) == ["failed", "failed", "completed", "completed"]
    assert trials[1].failure_kind == "crash"
    assert "told to raise" in (trials[1].failure_message or "")


def test_without_reuse_everything_is_trained(sqlite: Database, settings: Settings) -> None:
    trials = Bench(sqlite, settings, widths=(4, 4, 4), reuse="none").run()
    assert [(t.counted, t.reused_from) for t in trials] == [(True, None)] * 3


def test_without_reuse_a_restart_still_trains_what_was_proposed(sqlite: Database, settings: Settings) -> None:
    bench = Bench(sqlite, settings, widths=(4, 4, 4), reuse="none")
    assert (started(bench).trial, started(bench).trial) == (0, 1)
    finish(bench, 0)
    bench.restart()
    trials = bench.run()
    assert [(t.state, t.counted, t.reused_from) for t in trials] == [("completed", True, None)] * 3


def test_infeasible_candidates_cost_nothing(sqlite: Database, settings: Settings) -> None:
    few = {"constraints": [{"metric": "params", "max": 400}]}
    trials = Bench(sqlite, settings, widths=(24, 4, 20, 8, 12), **few).run()
    assert states(trials) == ["infeasible", "completed", "infeasible", "completed", "completed"]
    assert [t.counted for t in trials] == [False, True, False, True, True]
    assert (trials[0].violations or [0])[0] > 0
    assert (trials[0].attempt, trials[0].train_seconds) == (0, 0)


def test_a_space_that_holds_no_more_ends_the_search_with_a_reason(sqlite: Database, settings: Settings) -> None:
    bench = Bench(sqlite, settings, widths=(4, 8))
    trials = bench.run()
    assert sum(t.counted for t in trials) == 2
    assert len(trials) == 2 + 20 * 3
    assert "the space seems to hold no more" in bench.candidates.reason


def test_failures_of_candidates_count_and_do_not_stop_the_search(sqlite: Database, settings: Settings) -> None:
    endings = {"0": "raise", "1": "nan", "2": "oom", "3": "no-metric"}
    evaluator = {"name": "drill", "settings": {"seconds_per_epoch": 0, "endings": endings}}
    trials = Bench(sqlite, settings, widths=WIDTHS, evaluator=evaluator, budget={"max_trials": 5}).run()
    assert states(trials) == ["failed"] * 4 + ["completed"]
    assert [t.failure_kind for t in trials] == ["crash", "nan", "oom", "crash", None]
    assert all(t.values is None for t in trials[:4])


@pytest.mark.parametrize("strategy", ["random", "evolution", "predictor"])
def test_a_space_that_raises_fails_a_trial(sqlite: Database, settings: Settings, strategy: str) -> None:
    """Whatever it raises, and although the strategy asks it too."""

    def picky(choose: Choose, task: Task, config: SpaceConfig) -> Architecture:
        found = one_width(choose, task, config)
        return {4: found, 8: found, 16: found, 20: found, 24: found}[found.nodes[0].args["out_channels"]]

    bench = Bench(sqlite, settings, strategy={"name": strategy}, budget={"max_trials": 6}, reuse="none")
    bench.plan = dataclasses.replace(bench.plan, space=Space("picky", "", "", SpaceConfig, picky))
    bench.restart()
    trials = bench.run()
    assert sorted(states(trials)) == ["completed"] * 5 + ["failed"]
    failed = next(trial for trial in trials if trial.state == "failed")
    assert (failed.failure_kind, failed.failure_message) == ("build", "KeyError: 12")
    assert failed.questions == [["width", list(WIDTHS), 12]]


def test_snapshots_grow_rarer(sqlite: Database, settings: Settings) -> None:
    """Each holds every trial: a tenth of the trials later, at least, is the next, so that all of them stay few."""
    taken: list[int] = []
    bench = Bench(sqlite, settings, widths=(4,), budget={"max_trials": 300}, reuse="none")
    bench.told.snapshot = lambda: {"seen": taken.append(len(bench.told.seen))}  # type: ignore[method-assign]
    bench.run()
    assert taken[:10] == list(range(10, 110, 10))
    assert all(later - earlier >= earlier // 10 for earlier, later in itertools.pairwise(taken))
    assert len(taken) < 22


def test_a_replay_takes_what_the_original_took_and_trains_the_rest(sqlite: Database, settings: Settings) -> None:
    """Else a result that was taken, and so never stopped, is a training that the scheduler may stop."""
    first = Bench(sqlite, settings, widths=WIDTHS[:1])
    first.run()
    original = Bench(sqlite, settings, widths=WIDTHS)
    assert [t.reused_from for t in original.run()] == [[first.id, 0], None, None]
    Bench(sqlite, settings, widths=WIDTHS[:2], reuse="none").run()
    again = Bench(sqlite, settings, widths=WIDTHS, reuse="search", replays=original.id)
    assert [t.reused_from for t in again.run()] == [[first.id, 0], None, None]
    assert [t.values for t in again.trials()] == [t.values for t in original.trials()]
    once_more = Bench(sqlite, settings, widths=WIDTHS, reuse="search", replays=again.id)
    assert [t.reused_from for t in once_more.run()] == [[first.id, 0], None, None]
    sqlite.write(lambda session: session.execute(sa.delete(Trial).where(Trial.search_id == first.id)))
    alone = Bench(sqlite, settings, widths=WIDTHS, reuse="search", replays=original.id)
    assert [t.reused_from for t in alone.run()] == [None] * 3, "what it took is gone"


def test_scores_of_an_earlier_search_are_not_taken_with_its_result(sqlite: Database, settings: Settings) -> None:
    first = Bench(sqlite, settings, widths=WIDTHS[:1])
    first.run()

    def scored(session: Session) -> None:
        trial = session.get_one(Trial, (first.id, 0))
        trial.metrics = {**trial.metrics, "zc_nwot": 1.0}

    sqlite.write(scored)
    trial = Bench(sqlite, settings, widths=WIDTHS[:1]).run()[0]
    assert trial.reused_from == [first.id, 0]
    assert "zc_nwot" not in trial.metrics


def test_results_of_earlier_searches_are_taken(sqlite: Database, settings: Settings) -> None:
    first = Bench(sqlite, settings, widths=WIDTHS)
    first.run()
    second = Bench(sqlite, settings, widths=WIDTHS)
    trials = second.run()
    assert [t.reused_from for t in trials] == [[first.id, 0], [first.id, 1], [first.id, 2]]
    assert all(t.counted for t in trials), "they count: the budget is of results"
    assert [seen.reused for seen in second.told.seen] == [False] * 3, "the strategy sees them for the first time"
    second.restart()
    assert [seen.reused for seen in second.told.seen] == [False] * 3
    for changes in ({"reuse": "search"}, {"seed": 4}, {"scheduler": {"name": "none", "max_epochs": 3}}):
        other = Bench(sqlite, settings, widths=WIDTHS, **changes)
        assert [t.reused_from for t in other.run()] == [None] * 3, changes


def test_a_result_without_the_wanted_figures_is_not_taken(sqlite: Database, settings: Settings) -> None:
    Bench(sqlite, settings, widths=WIDTHS).run()
    latency = [{"metric": "val_accuracy"}, {"metric": "latency_ms", "batch_size": 4}]
    bench = Bench(sqlite, settings, widths=WIDTHS, objectives=latency)
    assert started(bench).latency is not None, "the earlier search did not measure latency"


def test_latency_is_taken_from_the_same_device_alone(database: Database, settings: Settings) -> None:
    wanted: dict[str, Any] = {
        "objectives": [{"metric": "val_accuracy"}, {"metric": "latency_ms", "batch_size": 4}],
        "budget": {"max_trials": 4},
    }

    def on(device: str, latency: float) -> Bench:
        bench = Bench(database, settings, widths=WIDTHS, **wanted)
        while isinstance(found := bench.candidates.next(), Assignment):
            for i in (1, 2):
                report = epoch(i, device=device, latency_ms=latency, done=i == 2)
                bench.candidates.report(str(found.trial), report)
            bench.candidates.ended(str(found.trial), pruned=False, death=None)
        return bench

    assert [t.reused_from for t in on("a small GPU", 9.0).trials()] == [None] * 4
    large = on("a large GPU", 1.0)
    assert [(t.reused_from, t.metrics["latency_ms"]) for t in large.trials()] == [(None, 1.0)] * 4
    again = on("a large GPU", 1.5).trials()
    assert [t.metrics["latency_ms"] for t in again] == [1.5, 1.0, 1.0, 1.0]
    assert [t.reused_from for t in again] == [None, *([large.id, i] for i in (1, 2, 3))], "the first tells the device"


def test_a_candidate_that_is_found_too_slow_is_not_trained_on(database: Database, settings: Settings) -> None:
    """Latency is measured before the first epoch, and comes with its report."""
    bound = [{"metric": "latency_ms", "max": 5.0}]
    bench = Bench(database, settings, widths=(*WIDTHS[:3], WIDTHS[0]), constraints=bound, budget={"max_trials": 4})

    def train(latency: float) -> int:
        found = bench.candidates.next()
        assert isinstance(found, Assignment)
        assert found.latency is not None
        key, at = str(found.trial), 1
        while not bench.candidates.report(key, epoch(at, latency_ms=latency, done=at == 2)) and at < 2:
            at += 1
        bench.candidates.ended(key, pruned=False, death=None)
        return at

    assert [train(latency) for latency in (9.0, 5.0, 9.0)] == [1, 2, 1]
    bench.ledger.flush()
    bench.restart()
    assert not isinstance(bench.candidates.next(), Assignment), "the fourth is the first again: known to be too slow"
    trials = bench.trials()
    assert [(t.state, t.epoch, t.counted) for t in trials[:4]] == [
        ("infeasible", 1, True), ("completed", 2, True), ("infeasible", 1, True), ("infeasible", 1, False),
    ]  # fmt: skip
    assert [t.failure_message for t in trials[:4:3]] == ["latency_ms is 9; allowed: max 5"] * 2
    assert [t.violations == [0.0] for t in trials[:4]] == [False, True, False, False]
    assert trials[0].values is None
    assert bench.told.seen[0].state == "infeasible"
    with database.read() as session:
        found = progress(session, session.get_one(Search, bench.id))
    assert (found.counted, found.max_trials) == (3, 4), "what it cost counts"


def by_hand(bench: Bench, *, restarts: bool) -> list[Trial]:
    """Run a search one candidate after the other; with ``restarts`` each has a driver of its own.

    One of those dies in the middle of a candidate (trial 3), some before the end that they saw is written (1 and 5):
    then the candidate runs once more.
    """
    lost = {1, 5} if restarts else set()
    while isinstance(found := bench.candidates.next(), Assignment):
        if restarts and found.trial == 3:
            bench.candidates.report("3", epoch(1))
            bench.restart()
            assert started(bench).trial == 3
        finish(bench, found.trial, (found.trial + 1) / 8)
        if restarts:
            if found.trial not in lost:
                bench.ledger.flush()
            lost.discard(found.trial)
            bench.restart()
    return bench.trials()


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "rl", "learning_rate": 0.5},
        {"name": "evolution", "population": 2, "sample": 1, "inherit_weights": True},
    ],
)
def test_a_restart_in_the_middle_proposes_what_would_have_been_proposed(
    sqlite: Database, settings: Settings, strategy: dict[str, Any]
) -> None:
    changes: dict[str, Any] = {"strategy": strategy, "reuse": "none", "budget": {"max_trials": 8}}
    whole = by_hand(Bench(sqlite, settings, **changes), restarts=False)
    interrupted = by_hand(Bench(sqlite, settings, **changes), restarts=True)
    assert [t.questions for t in interrupted] == [t.questions for t in whole]
    assert [t.values for t in interrupted] == [t.values for t in whole]
    assert [t.observed_as for t in interrupted] == list(range(1, 9))
    assert len({t.questions[0][2] for t in whole}) > 1
    assert [t.metrics.get("parent_trial") for t in interrupted] == [t.metrics.get("parent_trial") for t in whole]
    assert any("parent_trial" in t.metrics for t in whole) == ("inherit_weights" in strategy)


def test_a_candidate_that_outlives_its_drivers_is_given_up_and_so_are_those_that_wait(
    sqlite: Database, settings: Settings
) -> None:
    bench = Bench(sqlite, settings, widths=(4, 4, 8, 12))
    for _ in range(settings.max_attempts):
        assert started(bench).trial == 0
        bench.candidates.next()
        bench.ledger.flush()
        worn = bench.restart()
    assert worn == [0, 2]
    for number in worn:
        bench.candidates.give_up(number, Failure(kind="infrastructure", message="its driver died", traceback=""))
    trials = bench.run()
    assert states(trials)[:4] == ["failed", "failed", "failed", "completed"]
    assert trials[1].reused_from == [bench.id, 0]


def test_a_dead_worker_is_replaced_until_the_attempts_are_used(sqlite: Database, settings: Settings) -> None:
    bench = Bench(sqlite, settings, widths=WIDTHS)
    death = Failure(kind="infrastructure", message="the node is gone", traceback="")
    for attempt in (1, 2):
        assert started(bench).trial == 0, attempt
        bench.candidates.ended("0", pruned=False, death=death)
    trial = bench.trials()[0]
    assert (trial.state, trial.attempt, trial.failure_kind) == ("failed", 2, "infrastructure")


def test_a_pause_puts_running_candidates_back_into_the_queue(sqlite: Database, settings: Settings) -> None:
    bench = Bench(sqlite, settings, widths=WIDTHS)
    started(bench)
    bench.control.stopping.set()
    assert bench.candidates.report("0", epoch(1)) is True
    assert bench.candidates.next() is Nothing.NOW
    bench.candidates.ended("0", pruned=True, death=None)
    assert bench.candidates.next() is Nothing.MORE
    bench.ledger.end_search("paused", "")
    assert states(bench.trials()) == ["pending"]


def test_a_spent_budget_of_seconds_cancels_what_runs(sqlite: Database, settings: Settings) -> None:
    bench = Bench(sqlite, settings, widths=WIDTHS)
    started(bench)
    bench.control.spent.set()
    assert bench.candidates.report("0", epoch(1)) is True
    bench.candidates.ended("0", pruned=True, death=None)
    assert bench.candidates.next() is Nothing.MORE
    trial = bench.trials()[0]
    assert (trial.state, trial.counted, trial.observed_as) == ("cancelled", False, None)
    assert bench.told.seen == []
    assert "seconds" in bench.candidates.reason


def test_no_more_than_the_wanted_number_runs_at_once(sqlite: Database, settings: Settings) -> None:
    bench = Bench(sqlite, settings, widths=WIDTHS)
    assert (started(bench).trial, started(bench).trial) == (0, 1)
    assert bench.candidates.next() is Nothing.NOW
    finish(bench, 1)
    assert started(bench).trial == 2
    assert bench.candidates.next() is Nothing.NOW


GIVEN = Architecture(Task((1, 8, 8), 10), (Node("classifier", (0,), {"classes": 10}),)).to_json()


def test_a_search_in_its_last_stage_builds_no_strategy(
    sqlite: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that takes over there would score hundreds of networks for nobody."""
    bench = Bench(sqlite, settings)
    bench.run()
    bench.ledger.set_stage("finalists")
    monkeypatch.setattr("nas_service.search.stages.Candidates", None)
    stages = Stages(settings, sqlite, bench.ledger, bench.control, None)
    stages.run()
    stages.close()
    with sqlite.read() as session:
        search = session.get_one(Search, bench.id)
    assert (search.state, search.reason) == ("succeeded", "")
    assert search.winner is not None


def test_given_networks_are_trained_first_and_teach_the_strategy_nothing(sqlite: Database, settings: Settings) -> None:
    for strategy in (None, {"name": "rl"}, {"name": "evolution"}, {"name": "tpe"}):
        changes: dict[str, Any] = {"first": ["LeNet-5", GIVEN], "budget": {"max_trials": 4}, "reuse": "search"}
        told = {"widths": WIDTHS} if strategy is None else {"strategy": strategy}
        bench = Bench(sqlite, settings, **told, **changes)
        trials = bench.run()
        assert states(trials) == ["completed"] * 4
        assert [len(t.questions) for t in trials] == [0, 0, 1, 1]
        assert [t.observed_as for t in trials] == [1, 2, 3, 4]
        with sqlite.read() as session:
            rows = [session.get_one(ArchitectureRow, t.fingerprint) for t in trials]
            assert len(rows[0].architecture["nodes"]) == 5
            assert rows[0].architecture["task"]["input_shape"] == [1, 8, 8]
            assert rows[1].costs["params"] == 20
        if strategy is None:
            assert [seen.number for seen in bench.told.seen] == [2, 3]


def test_given_networks_survive_a_restart_and_may_be_infeasible(sqlite: Database, settings: Settings) -> None:
    few = {"constraints": [{"metric": "params", "max": 400}]}
    bench = Bench(sqlite, settings, widths=WIDTHS, first=["lenet5", GIVEN], **few)
    assert started(bench).trial == 1
    finish(bench, 1)
    bench.restart()
    trials = bench.run()
    assert [(t.state, t.counted) for t in trials][:2] == [("infeasible", False), ("completed", True)]
    assert [seen.number for seen in bench.told.seen if seen.state == "completed"] == [3, 2][::-1]
    assert all(seen.questions for seen in bench.told.seen)
