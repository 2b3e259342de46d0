"""What the audit trail keeps of each subject is written as JSON, and read back by the class that wrote it."""

import json
from datetime import date
from typing import Any

import pytest

from core.arms.arms import Metric
from core.audit.actions import Action
from core.coverage.backlog import TopicDecision, TopicState
from core.deployments.audited import IdleState, LiveState, read_release
from core.drift.audited import AcceptedLevel
from core.indexes.audited import BuildState, SwapState
from core.prompts.audited import ProductionState, ServingFlag
from core.rollouts.audited import ExperimentAudit
from core.rollouts.experiment_design import plan_experiment
from quarterdeck.definitions import boolean_flag, split_flag
from tests.core.causes.test_timeline import told

FLAG = split_flag({"control": 1, "long": 1})
DESIGN = plan_experiment("tone", FLAG, name="longer", metric=Metric.SCORE, effect=0.02)


@pytest.mark.parametrize(
    "state",
    [
        SwapState("docs-v2"),
        SwapState("docs-v2", "20 of 20 passed", is_rollback=True),
        BuildState("lance", "v2", "minilm", 1258, 1, "ada", "by heading"),
        ProductionState(),
        ProductionState(9, "v3", 4, ServingFlag("new_prompt", boolean_flag(on=True)), "run"),
        ProductionState(9, "v3", 4, ServingFlag("new_prompt")),
        LiveState("blue", "r7"),
        IdleState("green", "r8"),
        TopicDecision(TopicState.PLANNED, "ada", "next week", "opening hours"),
        TopicDecision(TopicState.OPEN),
        AcceptedLevel(date(2026, 3, 1)),
        ExperimentAudit(FLAG, "longer", design=DESIGN),
        ExperimentAudit(FLAG, "longer", "decided", "long"),
        ExperimentAudit(None, "longer", "stopped"),
    ],
)
def test_what_was_written_is_read_back(state: Any) -> None:
    assert type(state).read(json.loads(json.dumps(state.to_audit()))) == state


@pytest.mark.parametrize("kind", [SwapState, LiveState, IdleState, TopicDecision, AcceptedLevel, ServingFlag])
def test_nothing_is_read_as_nothing(kind: Any) -> None:
    assert kind.read(None) is None
    assert kind.read({}) is None


def test_a_color_of_an_earlier_release_is_spelled_otherwise() -> None:
    assert LiveState.read({"colour": "blue", "release": "r7"}) == LiveState("blue", "r7")
    change = told(Action.DEPLOYMENT_SWITCH, "search", {"colour": "blue", "release": "r7"}, {"colour": "green"})
    assert change.summary == "search switched from blue (r7) to green"


def test_entries_of_earlier_releases_lack_fields() -> None:
    assert SwapState.read({"index": "docs-v1"}) == SwapState("docs-v1")
    assert BuildState.read({"corpus_version": "v1", "state": "ready"}) == BuildState(corpus_version="v1")
    assert ProductionState.read({"version": 3}).name == "v3"
    assert TopicDecision.read({"state": "planned"}) == TopicDecision(TopicState.PLANNED)


def test_an_experiment_of_a_release_that_knows_more_is_named_all_the_same() -> None:
    newer = {"flag": FLAG, "experiment": {"name": "longer", "metric": "a new one"}}
    assert ExperimentAudit.read(newer) == ExperimentAudit(FLAG, "longer")
    assert told(Action.EXPERIMENT_START, "tone", {"flag": FLAG}, newer).summary == "experiment longer started on tone"


def test_the_release_of_a_deployments_entry_is_that_of_whichever_side_has_one() -> None:
    gone, live = {"in": "green", "release": "r7"}, {"color": "green", "release": "r8"}
    assert [read_release(*sides) for sides in ((gone, None), (gone, live), (None, None))] == ["r7", "r8", ""]
