"""The commands `metrics …`, and an experiment that uses what they define."""

import json
from datetime import UTC, datetime, timedelta

from core.audit.acts import Act
from core.flags.operations import create_flag
from core.metrics.definition import MetricSource, Statistic
from core.metrics.records import list_own_metrics
from core.rollouts.experiment_records import get_experiment
from quarterdeck.definitions import split_flag
from quarterdeck.store import Store
from tests.app.commands.running import Run, only_line

BY = ("--reason", "support counts solved cases")


def test_a_metric_is_defined_listed_used_and_removed(quarterdeck: Run, store: Store, url: str) -> None:
    at = ("--database", url)
    added = ("metrics", "add", "resolved", "--source", "event", "--of", "done", "--statistic", "share", *BY, *at)
    assert "resolved is the share of users with the event done" in quarterdeck(*added).out
    assert "already exists" in only_line(quarterdeck(*added), 1)
    (metric,) = list_own_metrics(store, "production")
    assert (metric.source, metric.statistic, metric.is_higher_better) == (MetricSource.EVENT, Statistic.SHARE, True)
    listed = json.loads(quarterdeck("metrics", "list", "--json", *at).out)
    assert [each["name"] for each in listed][-2:] == ["unscored share", "resolved"]

    create_flag(store, "style", split_flag({"short": 1, "long": 1}),
                Act("ada", "try", at=datetime.now(UTC) - timedelta(days=2)))  # fmt: skip
    started = quarterdeck(
        "experiments", "start", "longer", "--flag", "style", "--metric", "Resolved", "--effect", "0.05",
        "--guardrail", "latency p95=0.2", "--also", "tokens", "--control", "short", "--reason", "try it", *at,
    )  # fmt: skip
    assert started.code == 0, started
    gone = quarterdeck("metrics", "remove", "resolved", "--reason", "no longer", *at)
    assert "resolved is removed" in gone.out
    assert "there are: none" in only_line(quarterdeck("metrics", "remove", "resolved", "--reason", "again", *at), 2)
    design = get_experiment(store, "production", "longer").design
    assert [str(each) for each in design.own_metrics] == ["resolved", "latency p95", "tokens"]
    assert "Too early" in (out := quarterdeck("experiments", "status", "longer", *at).out) or "No exposures" in out


def test_wrong_metrics_are_named_by_their_field(quarterdeck: Run, store: Store, url: str) -> None:
    said = quarterdeck(
        "metrics", "add", "ctr", "--source", "event", "--of", "click", "--statistic", "ratio", *BY, "--database", url
    )
    assert "per: give what a ratio is divided by" in only_line(said, 2)
    said = quarterdeck(
        "experiments", "start", "x", "--flag", "nothing", "--metric", "ctr", "--effect", "1", *BY, "--database", url
    )
    assert "nothing" in only_line(said, 2)
