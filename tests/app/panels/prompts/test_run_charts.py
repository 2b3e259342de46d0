"""The charts of compared runs: every metric that differs, from worst to best, each run in its own color."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from app.colors import VERSION_COLORS
from app.panels.prompts.run_charts import (
    MOST_AXES,
    draw_parallel,
    draw_pareto,
    is_less_better,
    list_axes,
    place_runs,
)
from app.panels.prompts.runs import metric_column
from core.prompts.contests import Contender
from core.tracking.conventions import EvaluatedRun, read_evaluation
from core.tracking.runs import Run


def contender(version: str, faithfulness: float, cost_usd: float, **metrics: float) -> Contender:
    values = {"faithfulness_mean": faithfulness, "cost_usd_mean": cost_usd, **metrics}
    run = Run(
        f"run-{version}", version, "qa", "FINISHED", datetime(2026, 11, 1, tzinfo=UTC), values, {"version": version},
        {}, "",
    )  # fmt: skip
    evaluation: EvaluatedRun = read_evaluation(run)
    return Contender(evaluation, f"qa-{version}", (), None, faithfulness=faithfulness, cost_usd=cost_usd)


CHEAP, GOOD = contender("v3", 0.8, 0.0001, relevancy_mean=0.7), contender("v7", 0.9, 0.0004, relevancy_mean=0.7)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("cost_per_query_usd", "$0.002120"), ("cost_usd_mean", "$0.0021"), ("total_cost_usd", "$0.0021"),
        ("faithfulness_mean", "0.0021"),
    ],
)  # fmt: skip
def test_the_cost_of_a_query_is_shown_with_the_digits_in_which_runs_differ(metric: str, said: str) -> None:
    assert metric_column(metric, [0.00212])["type_config"]["format"] % 0.00212 == said


def test_metrics_that_do_not_differ_have_no_axis_and_at_most_eight_do() -> None:
    runs = [{"faithfulness_mean": 0.9, "relevancy_mean": 0.5, "own": 1.0, "alone": 2.0}, {"faithfulness_mean": 0.8,
            "relevancy_mean": 0.5, "own": 2.0}]  # fmt: skip
    assert list_axes(runs) == (["faithfulness_mean", "own"], ["relevancy_mean"])
    many = [{f"m{at}": float(at * side) for at in range(1, 30)} for side in (1, 2)]
    assert len(list_axes(many)[0]) == MOST_AXES
    assert list_axes([]) == ([], [])


@pytest.mark.parametrize(("metric", "less"), [("cost_usd_mean", True), ("latency_ms_p95", True), ("recall", False)])
def test_costs_and_times_are_better_when_lower(metric: str, less: bool) -> None:
    assert is_less_better(metric) is less


def test_the_best_of_each_metric_is_on_top_and_the_title_says_who_is() -> None:
    pair = [CHEAP, GOOD]
    figure = draw_parallel(pair, place_runs(pair), ["faithfulness_mean", "cost_usd_mean"])
    assert [list(trace.y) for trace in figure.data] == [[0.0, 1.0], [1.0, 0.0]]
    assert figure.layout.title.text == "qa-v3 is best, or as good as the best, in 1 of the 2 metrics that differ"
    assert "(less is better)" in figure.layout.xaxis.ticktext[1]


def test_a_run_has_its_color_whoever_is_compared_with_it() -> None:
    for group in ([GOOD], [CHEAP, GOOD], [GOOD, CHEAP]):
        figure = draw_pareto(group, place_runs(group))
        (own,) = [trace for trace in figure.data if trace.name == "qa-v7"]
        assert own.marker.color == VERSION_COLORS[6]


def test_the_trade_off_is_told_by_the_runs_that_nobody_beats() -> None:
    pair = [CHEAP, GOOD]
    figure = draw_pareto(pair, place_runs(pair))
    assert figure.layout.title.text == "No run beats qa-v3, qa-v7 in both faithfulness and cost"
    beaten = contender("v1", 0.7, 0.0009)
    figure = draw_pareto([CHEAP, beaten], place_runs([CHEAP, beaten]))
    assert figure.layout.title.text == "qa-v3 is the most faithful and the cheapest of all 2 runs"


def test_no_mean_is_drawn_above_1_and_names_of_neighbors_stand_apart() -> None:
    five = [contender(f"v{at}", 1.0, 0.0001 * at) for at in range(1, 6)]
    figure = draw_pareto(five, place_runs(five))
    assert max(figure.layout.yaxis.tickvals) == 1.0
    assert figure.layout.yaxis.range[1] > 1.0  # the room for the names
    sides = [trace.textposition for trace in figure.data if trace.text]
    assert all(one != other for one, other in pairwise(sides))
