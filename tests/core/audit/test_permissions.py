"""Permissions: the rule by literal values, and every operation of `core/` called as every role."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pygit2
import pytest
from sqlalchemy import select

from benchmarks.index_swap import HashEmbedder, make_source
from core import reverts
from core.access.credentials import issue_token, revoke_token
from core.access.roles import end_sign_ins, grant_role, list_grants, revoke_role
from core.access.scopes import TokenScope
from core.alerts.book import save_queue, save_states
from core.alerts.channels import Channel, ChannelKind
from core.alerts.operations import (
    delete_alert_rule,
    delete_channel,
    resend_message,
    resolve_alert,
    save_alert_rule,
    save_channel,
    save_webhook_rule,
    snooze_alert,
    try_channel,
)
from core.alerts.queue import add_message
from core.alerts.rules import AlertRule
from core.alerts.states import AlertState, AlertStatus
from core.approvals.operations import (
    amend_request,
    approve_request,
    reject_request,
    set_policy,
    withdraw_request,
)
from core.approvals.requests import ChangeRequest, get_request, list_requests
from core.approved import edit_request
from core.arms.arms import Metric
from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.gate import GUARDED, Origin, Policy, RequestState, WantedChange, add_request
from core.audit.operations import add_environment
from core.audit.permissions import (
    ADMIN_EVERYWHERE,
    Grant,
    Role,
    Roles,
    check_allowed,
    combine_grants,
    explain_refusal,
    hold_everywhere,
    may_read_questions,
)
from core.audit.trail import AuditFilter, list_audit
from core.cases.operations import NewCase, add_cases, change_cases, import_cases, mark_golden, restore_version
from core.corpus.corpus import Corpus
from core.corpus.rebuild import cancel_rebuild, jobs_of, start_rebuild
from core.coverage.backlog import BacklogTopic, TopicState, get_backlog_topic
from core.coverage.github import GitHub, Issue
from core.coverage.issues import export_issues
from core.coverage.operations import exclude_question, include_question, mark_topic, rename_topic
from core.coverage.shelves import Shelf, ShelvedTopic
from core.coverage.summaries import summarize_topics
from core.coverage.topics import Topic, Trend
from core.deployments import deployments
from core.drift.operations import accept_level, save_model_map
from core.drift.scales import ModelMap
from core.erasure import erase
from core.errors import ApprovalNeeded, Forbidden, InvalidInput
from core.flags.layer_store import get_holdout, get_layer
from core.flags.layers import Holdout, Layer
from core.flags.operations import (
    change_hash_version,
    change_rollout,
    create_flag,
    import_flags,
    remove_flag,
    save_edit,
    switch_flag,
    update_flag,
)
from core.flags.schedule import Schedule, ScheduleStep
from core.flags.store import Flag, get_flag
from core.flags.timetable import list_schedules
from core.indexes import builds
from core.indexes.builds import build_version
from core.indexes.operations import forget_index, register_index, retire_index, rollback_index, swap_index
from core.indexes.probes import ProbeReport
from core.indexes.registry import Index
from core.jobs.jobs import Jobs, JobState
from core.jobs.launches import Launch, cancel_job, start_job
from core.ledger.entries import EffectPrediction
from core.ledger.operations import predict_effect
from core.log.filters import LoggedQuestion, QuestionFilter
from core.log.mapping import map_scores, relearn_scores
from core.log.operations import forget_parts, purge_retrievals
from core.log.questions import list_page
from core.log.service_operations import merge_services, rename_service, save_service
from core.log.services import ServiceSettings
from core.log.subjects import DataSubject
from core.metrics.definition import MetricDefinition, MetricSource, Statistic
from core.metrics.operations import add_metric, remove_metric
from core.predictions.operations import save_prediction
from core.predictions.prediction import Prediction
from core.prompts import promotion
from core.prompts.naming import save_names
from core.questions.operations import BAD, delete_view, judge_questions, save_view
from core.questions.views import SavedView
from core.replay.operations import save_replay
from core.reviews.operations import QueueDraft, close_queue, create_queue, label_question
from core.reviews.queues import ReviewItem, ReviewQueue, list_queues
from core.reviews.tasks import ReviewRule, ReviewTask
from core.rollouts import canaries, experiments
from core.rollouts.experiment_design import Design, plan_experiment
from core.rollouts.experiment_records import Experiment, get_experiment
from core.rollouts.index_canaries import let_candidate_live, start_index_canary
from core.rollouts.layers import create_layer, end_holdout, remove_layer, start_holdout, take_out
from core.rollouts.schedules import cancel_schedule, create_schedule, pause_schedule, resume_schedule
from core.store.operations import record_restore
from core.todo.operations import snooze_todo, wake_todo
from core.tracking.cases import Case
from core.tracking.conventions import RunNames
from core.tracking.runs import PromptVersion, Run
from quarterdeck import scope as service_scope
from quarterdeck.clock import now_ms
from quarterdeck.definitions import boolean_flag, canary_flag, split_flag
from quarterdeck.index_canaries import IndexArms
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import metadata, topics
from quarterdeck.store import Store
from tests.color_site import KEPT, WAITING, deploy_both, make_site
from tests.core.coverage.test_summaries import Writer
from tests.core.replay.test_kept import make_replay

BUILT = datetime(2026, 3, 1, tzinfo=UTC)
SETUP = Act("setup", "before the test")
VIEWER, EDITOR, ADMIN = Role.VIEWER, Role.EDITOR, Role.ADMIN


@dataclass(frozen=True)
class World:
    """A store in which every operation has something to work on."""

    store: Store
    folder: Path

    @property
    def flag(self) -> Flag:
        return get_flag(self.store, "production", "use_hyde")

    @property
    def canary(self) -> Flag:
        return get_flag(self.store, "production", "answers")

    @property
    def compared(self) -> Flag:
        return get_flag(self.store, "production", "compared")

    def design(self, key: str = "compared") -> Design:
        flag = get_flag(self.store, "production", key)
        return plan_experiment(key, flag.view, name=f"{key} test", metric=Metric.SCORE, effect=0.02, control="a")

    @property
    def experiment(self) -> Experiment:
        return get_experiment(self.store, "production", "tried test")

    @property
    def holdout(self) -> Holdout:
        found = get_holdout(self.store, "production")
        assert found is not None
        return found

    @property
    def topic(self) -> BacklogTopic:
        return get_backlog_topic(self.store, "t1")

    @property
    def gaps(self) -> list[ShelvedTopic[BacklogTopic]]:
        return [ShelvedTopic("t1", "vpp", Shelf.OPEN, None, self.topic)]

    @property
    def questions(self) -> tuple[LoggedQuestion, ...]:
        return list_page(self.store, QuestionFilter(), limit=1).questions

    @property
    def item(self) -> ReviewItem:
        return ReviewItem(self.questions[0].retrieval_id, 1)

    @property
    def queue(self) -> ReviewQueue:
        return list_queues(self.store, ANSWERS)[0]

    @property
    def embedder(self) -> HashEmbedder:
        return HashEmbedder(16, self.store)

    def site(self, name: str) -> deployments.Site:
        return make_site(self.store, self.folder, name)

    @property
    def prompts(self) -> Any:
        return Prompts()

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.folder / "jobs")

    @property
    def corpus(self) -> Corpus:
        """A repository with one stage and no data."""
        root = self.folder / "corpus"
        if not root.exists():
            pygit2.init_repository(str(root))
            (root / ".dvc").mkdir()
            (root / "dvc.yaml").write_text("stages:\n  nothing:\n    cmd: 'true'\n")
        return Corpus(root)

    def cancel_jobs(self) -> None:
        self.jobs.cancel("wait")
        if (self.folder / "corpus").exists():
            jobs_of(self.corpus).cancel("rebuild")

    def request(self, number: int) -> ChangeRequest:
        """The first change request is zoe's, the second ada's."""
        return get_request(self.store, number)

    def index(self, name: str) -> Index:
        return Index(name, str(self.folder / "indexes"), "v1", "hash-16", 4, BUILT, "ada")


class Prompts:
    """A minimal MLflow store: `qa` with version 2 in production and a run of version 3; `sum` was promoted."""

    def get_run(self, run_id: str) -> Run:
        tags = {"mlflow.linkedPrompts": '[{"name": "qa", "version": "3"}]'}
        return Run(run_id, run_id, "trials", "FINISHED", BUILT, {}, {}, tags, "/nowhere")

    def get_prompt(self, name: str, version: int) -> PromptVersion:
        return PromptVersion(name, version, "text", (), "", BUILT, (), {})

    def production_version(self, name: str, **_: bool) -> PromptVersion:
        return self.get_prompt(name, 2)

    def production_release(self, name: str) -> int:
        return 1

    def register_release(self, prompt: PromptVersion, run_id: str) -> int:
        return 2

    def set_run_description(self, run_id: str, text: str) -> None: ...
    def set_production_release(self, name: str, version: int | None) -> None: ...
    def set_prompt_alias(self, name: str, alias: str, version: int) -> None: ...


CASE = NewCase("What is a plugin?", (), "A refusal is right.", answerable=False)
FILED = (Case("c01", "Who frees an mbuf?", ("mbuf.md",), "The driver.", answerable=True),)
RULE = AlertRule("on-call")
CHANNEL = Channel("pager", ChannelKind.WEBHOOK, "https://example.org/hook", "a secret of many letters")
HOOK = {"url": CHANNEL.address, "secret": CHANNEL.secret}
STARS = MetricDefinition("stars", MetricSource.SCORE, Statistic.MEAN, "stars")
PREDICTION = Prediction("v2", "docs-v1", 0.5, (), (), (), (), 0, 0, 0)
PROBED = ProbeReport("docs-v2", (), ())
UNNAMED, NAMED, ANSWERS = (service_scope.Scope("production", name) for name in ("default", "named", "answers"))
OLD = datetime(2026, 2, 1, tzinfo=UTC)
REVIEW = QueueDraft(ANSWERS, "kept", ReviewTask.FAITHFULNESS, ReviewRule.SELECTION, ("ada",))


def signed(by: Act) -> Act:
    """The act of a person who signed in."""
    return replace(by, origin=Origin.PERSON)


# What each operation is called with, and the lowest role that may. A new operation without a row fails in
# test_architecture.
TODAY, HERE = date(2026, 3, 1), service_scope.DEFAULT_SCOPE


class Forge(GitHub):
    """A repository that nothing is sent to."""

    def list_own_issues(self) -> tuple[Issue, ...]:
        return ()

    def create_issue(self, title: str, body: str) -> Issue:
        return Issue(1, "https://github.example.org/1", f"{title} {body}")


FORGE = Forge("octo-org/docs", "token")
TOPIC = Topic("t1", 0, "vpp", 1, 1, 1.0, 0.3, 1.0, 1.0, ("how do I load it",), Trend.STEADY, (1.0,), (0,))

OPERATIONS: dict[str, tuple[Role, Callable[[World, Act], object]]] = {
    "flags.operations.create_flag": (EDITOR, lambda w, by: create_flag(w.store, "new", boolean_flag(on=True), by)),
    "flags.operations.update_flag": (
        EDITOR, lambda w, by: update_flag(w.store, w.flag, boolean_flag(on=False), by)
    ),
    "flags.operations.switch_flag": (EDITOR, lambda w, by: switch_flag(w.store, w.flag, by, on=False)),
    "flags.operations.change_hash_version": (
        EDITOR, lambda w, by: change_hash_version(w.store, w.flag, "fractional-v2", by),
    ),
    "flags.operations.change_rollout": (EDITOR, lambda w, by: change_rollout(w.store, w.flag, 40, by)),
    "flags.operations.import_flags": (
        EDITOR, lambda w, by: import_flags(w.store, {"flags": {"new": boolean_flag(on=True)}}, by)
    ),
    "indexes.operations.register_index": (EDITOR, lambda w, by: register_index(w.store, w.index("docs-v3"), by)),
    "indexes.operations.swap_index": (
        EDITOR, lambda w, by: swap_index(w.store, "default", "docs-v2", by, expected="docs-v1")
    ),
    "indexes.operations.rollback_index": (EDITOR, lambda w, by: rollback_index(w.store, "default", by)),
    "indexes.operations.retire_index": (
        ADMIN, lambda w, by: retire_index(w.store, "docs-v2", by, newest_swap=_newest_swap(w))
    ),
    "indexes.operations.forget_index": (ADMIN, lambda w, by: forget_index(w.store, "docs-old", by)),
    "replay.operations.save_replay": (EDITOR, lambda w, by: save_replay(w.store, make_replay(), by)),
    "predictions.operations.save_prediction": (EDITOR, lambda w, by: save_prediction(w.store, PREDICTION, by)),
    "coverage.operations.mark_topic": (
        EDITOR, lambda w, by: mark_topic(w.store, w.topic, TopicState.PLANNED, by, owner="ada")
    ),
    "coverage.operations.rename_topic": (EDITOR, lambda w, by: rename_topic(w.store, w.topic, "Plugins", by)),
    "coverage.summaries.summarize_topics": (
        EDITOR, lambda w, by: summarize_topics(w.store, [TOPIC], Writer(), by)
    ),
    "coverage.issues.export_issues": (
        EDITOR, lambda w, by: export_issues(w.store, FORGE, w.gaps, by, scope=HERE, days=30)
    ),
    "todo.operations.snooze_todo": (
        EDITOR, lambda w, by: snooze_todo(w.store, HERE, "corpus/v2", until=TODAY, today=TODAY, by=by)
    ),
    "todo.operations.wake_todo": (
        EDITOR, lambda w, by: wake_todo(w.store, HERE, "corpus/v1", today=TODAY, by=by)
    ),
    "approvals.operations.approve_request": (EDITOR, lambda w, by: approve_request(w.store, w.request(1), signed(by))),
    "approvals.operations.reject_request": (EDITOR, lambda w, by: reject_request(w.store, w.request(1), signed(by))),
    "approvals.operations.withdraw_request": (
        EDITOR, lambda w, by: withdraw_request(w.store, w.request(2), signed(by))
    ),
    "approvals.operations.amend_request": (
        EDITOR, lambda w, by: amend_request(w.store, w.request(1), w.request(2).changes, signed(by))
    ),
    "approved.edit_request": (
        EDITOR, lambda w, by: edit_request(w.store, w.request(1), "use_hyde", boolean_flag(on=True), signed(by))
    ),
    "approvals.operations.set_policy": (
        ADMIN, lambda w, by: set_policy(w.store, Policy(required=True), by, has_sign_in=True)
    ),
    "ledger.operations.predict_effect": (
        EDITOR,
        lambda w, by: predict_effect(
            w.store, "flag:use_hyde", EffectPrediction(0.0, 0.0, 0.0), by, metric="score", service="default"
        ),
    ),
    "questions.operations.judge_questions": (EDITOR, lambda w, by: judge_questions(w.store, w.questions, BAD, by)),
    "reviews.operations.create_queue": (
        EDITOR, lambda w, by: create_queue(w.store, replace(REVIEW, name="new"), [w.item], by)
    ),
    "reviews.operations.label_question": (
        EDITOR, lambda w, by: label_question(w.store, w.queue, w.questions[0].retrieval_id, 1.0, by)
    ),
    "reviews.operations.close_queue": (EDITOR, lambda w, by: close_queue(w.store, w.queue, by)),
    "coverage.operations.exclude_question": (
        EDITOR, lambda w, by: exclude_question(w.store, w.topic.topic_id, w.questions[0], by)
    ),
    "coverage.operations.include_question": (
        EDITOR, lambda w, by: include_question(w.store, w.topic.topic_id, w.questions[0], by)
    ),
    "questions.operations.save_view": (EDITOR, lambda w, by: save_view(w.store, SavedView("new", ()), by)),
    "questions.operations.delete_view": (EDITOR, lambda w, by: delete_view(w.store, "kept", by)),
    "cases.operations.add_cases": (EDITOR, lambda w, by: add_cases(w.store, "qa", [CASE], by)),
    "cases.operations.change_cases": (
        EDITOR, lambda w, by: change_cases(w.store, "qa", [], by, removed=["c01"], expected=2)
    ),
    "cases.operations.restore_version": (EDITOR, lambda w, by: restore_version(w.store, "qa", 1, by, expected=2)),
    "cases.operations.import_cases": (EDITOR, lambda w, by: import_cases(w.store, "new", FILED, by)),
    "cases.operations.mark_golden": (EDITOR, lambda w, by: mark_golden(w.store, "qa", by)),
    "drift.operations.accept_level": (EDITOR, lambda w, by: accept_level(w.store, date(2026, 3, 1), by)),
    "drift.operations.save_model_map": (
        EDITOR, lambda w, by: save_model_map(w.store, ModelMap("one", "two", ((0.1, 0.3), (0.9, 0.8)), 0.01, 50), by)
    ),
    "log.operations.purge_retrievals": (ADMIN, lambda w, by: purge_retrievals(w.store, OLD, by)),
    "log.operations.forget_parts": (ADMIN, lambda w, by: forget_parts(w.store, {"answers": OLD}, by)),
    "erasure.erase": (ADMIN, lambda w, by: erase(w.store, DataSubject(user_id="ada"), by)),
    "log.service_operations.save_service": (ADMIN, lambda w, by: save_service(w.store, ServiceSettings("answers"), by)),
    "log.service_operations.rename_service": (
        ADMIN, lambda w, by: rename_service(w.store, UNNAMED, NAMED, by)
    ),
    "log.service_operations.merge_services": (ADMIN, lambda w, by: merge_services(w.store, UNNAMED, ANSWERS, by)),
    "log.mapping.relearn_scores": (ADMIN, lambda w, by: relearn_scores(w.store, ANSWERS, by)),
    "metrics.operations.add_metric": (EDITOR, lambda w, by: add_metric(w.store, STARS, by)),
    "metrics.operations.remove_metric": (EDITOR, lambda w, by: remove_metric(w.store, "old stars", by)),
    "alerts.operations.save_alert_rule": (ADMIN, lambda w, by: save_alert_rule(w.store, RULE, by)),
    "alerts.operations.save_webhook_rule": (ADMIN, lambda w, by: save_webhook_rule(w.store, RULE, by=by, **HOOK)),
    "alerts.operations.delete_alert_rule": (ADMIN, lambda w, by: delete_alert_rule(w.store, "rota", by)),
    "alerts.operations.save_channel": (ADMIN, lambda w, by: save_channel(w.store, CHANNEL, by)),
    "alerts.operations.delete_channel": (ADMIN, lambda w, by: delete_channel(w.store, "spare", by)),
    "alerts.operations.try_channel": (
        ADMIN, lambda w, by: try_channel(w.store, "pager", by, now=BUILT, send=lambda *_: None)
    ),
    "alerts.operations.resend_message": (ADMIN, lambda w, by: resend_message(w.store, "pager", 1, by, now=BUILT)),
    "alerts.operations.snooze_alert": (
        EDITOR, lambda w, by: snooze_alert(w.store, "rota", "answers", by, until=BUILT + timedelta(days=1), now=BUILT)
    ),
    "alerts.operations.resolve_alert": (
        EDITOR, lambda w, by: resolve_alert(w.store, "rota", "answers", by, now=BUILT)
    ),
    "reverts.revert": (EDITOR, lambda w, by: reverts.revert(w.store, _entry_of(w, "flag.update"), by)),
    "indexes.builds.build_version": (
        EDITOR,
        lambda w, by: build_version(
            w.store, w.embedder, make_source(1, 4), by, location=str(w.folder / "built"), name="docs-v4"
        ),
    ),
    "indexes.builds.ship_index": (
        EDITOR,
        lambda w, by: builds.ship_index(w.store, "default", PROBED, by, expected="docs-v1"),
    ),
    "indexes.builds.save_probe": (EDITOR, lambda w, by: builds.save_probe(w.store, PROBED, by, live="docs-v1")),
    "indexes.builds.ship_probed_index": (
        EDITOR, lambda w, by: builds.ship_probed_index(w.store, "default", "docs-v2", by, expected="docs-v1")
    ),
    "jobs.launches.start_job": (EDITOR, lambda w, by: start_job(w.store, w.jobs, Launch("wait", "all", ("true",)), by)),
    "jobs.launches.cancel_job": (EDITOR, lambda w, by: cancel_job(w.store, _waiting(w.jobs, "wait"), "wait", by)),
    "corpus.rebuild.start_rebuild": (EDITOR, lambda w, by: start_rebuild(w.store, w.corpus, by)),
    "corpus.rebuild.cancel_rebuild": (EDITOR, lambda w, by: _cancel_rebuild(w, by)),
    "indexes.builds.collect_garbage": (ADMIN, lambda w, by: builds.collect_garbage(w.store, by, keep=0)),
    "audit.operations.add_environment": (ADMIN, lambda w, by: add_environment(w.store, "qa", by)),
    "flags.operations.save_edit": (
        EDITOR, lambda w, by: save_edit(w.store, w.flag, boolean_flag(on=False), by, typed_name="", now=BUILT)
    ),
    "flags.operations.remove_flag": (EDITOR, lambda w, by: remove_flag(w.store, w.flag, by, typed_name="use_hyde")),
    "rollouts.schedules.create_schedule": (
        EDITOR,
        lambda w, by: create_schedule(w.store, w.flag, [ScheduleStep(on=False)], by, starts=BUILT, now=BUILT),
    ),
    "rollouts.schedules.pause_schedule": (EDITOR, lambda w, by: pause_schedule(w.store, _schedule(w), by, now=BUILT)),
    "rollouts.schedules.resume_schedule": (
        EDITOR, lambda w, by: resume_schedule(w.store, _schedule(w, "held"), by, now=BUILT)
    ),
    "rollouts.schedules.cancel_schedule": (EDITOR, lambda w, by: cancel_schedule(w.store, _schedule(w), by)),
    "access.credentials.issue_token": (ADMIN, lambda w, by: issue_token(w.store, "search", [TokenScope.EVALUATE], by)),
    "access.credentials.revoke_token": (ADMIN, lambda w, by: revoke_token(w.store, "old", by)),
    "store.operations.record_restore": (ADMIN, lambda w, by: record_restore(w.store, "2026-03-01", by)),
    "deployments.deployments.start_release": (
        ADMIN,
        lambda w, by: deployments.start_release(w.store, w.site(WAITING), "r3", by),
    ),
    "deployments.deployments.deploy_release": (
        ADMIN,
        lambda w, by: deployments.deploy_release(w.store, w.site(KEPT), "r3", by),
    ),
    "deployments.deployments.switch_color": (
        EDITOR,
        lambda w, by: deployments.switch_color(w.store, w.site(WAITING), by),
    ),
    "deployments.deployments.roll_back": (EDITOR, lambda w, by: deployments.roll_back(w.store, w.site(KEPT), by)),
    "deployments.deployments.tear_down": (EDITOR, lambda w, by: deployments.tear_down(w.store, w.site(KEPT), by)),
    "deployments.deployments.resume": (EDITOR, lambda w, by: deployments.resume(w.store, w.site(KEPT), by)),
    "deployments.deployments.tend": (EDITOR, lambda w, by: deployments.tend(w.store, w.site(KEPT), by)),
    "rollouts.experiments.start_experiment": (
        EDITOR, lambda w, by: experiments.start_experiment(w.store, w.compared, w.design(), by)
    ),
    "rollouts.experiments.stop_experiment": (
        EDITOR,
        lambda w, by: experiments.stop_experiment(w.store, w.experiment, by),
    ),
    "rollouts.experiments.decide_for": (
        EDITOR, lambda w, by: experiments.decide_for(w.store, w.experiment, "b", by, typed_name=None, now=BUILT)
    ),
    "rollouts.layers.create_layer": (EDITOR, lambda w, by: create_layer(w.store, Layer("new"), by)),
    "rollouts.layers.remove_layer": (
        EDITOR, lambda w, by: remove_layer(w.store, get_layer(w.store, "production", "spare"), by)
    ),
    "rollouts.layers.take_out": (
        EDITOR, lambda w, by: take_out(
            w.store, get_flag(w.store, "production", "sliced"), by, typed_name="sliced", now=BUILT
        )
    ),
    "rollouts.layers.start_holdout": (
        EDITOR, lambda w, by: start_holdout(w.store, Holdout("new", 5), replace(by, environment="trial"))
    ),
    "rollouts.layers.end_holdout": (EDITOR, lambda w, by: end_holdout(w.store, w.holdout, by)),
    "rollouts.canaries.promote_canary": (EDITOR, lambda w, by: canaries.promote_canary(w.store, w.canary, by)),
    "rollouts.index_canaries.start_index_canary": (
        EDITOR, lambda w, by: start_index_canary(w.store, "default", "docs-v2", by, unprobed=True)
    ),
    "rollouts.index_canaries.let_candidate_live": (
        EDITOR,
        lambda w, by: let_candidate_live(w.store, w.canary, IndexArms("default", "docs-v1", "docs-v2", 2), by),
    ),
    "rollouts.canaries.roll_back_canary": (EDITOR, lambda w, by: canaries.roll_back_canary(w.store, w.canary, by)),
    "prompts.naming.save_names": (
        EDITOR, lambda w, by: save_names(w.store, "trials", RunNames(faithfulness="grounded"), by)
    ),
    "prompts.promotion.promote": (
        EDITOR, lambda w, by: promotion.promote(w.store, w.prompts, "r3", by, serving=None, expected=2)
    ),
    "prompts.promotion.roll_back": (EDITOR, lambda w, by: promotion.roll_back(w.store, w.prompts, "sum", by)),
    "access.roles.grant_role": (ADMIN, lambda w, by: grant_role(w.store, Grant("bob", EDITOR, "production"), by)),
    "access.roles.revoke_role": (ADMIN, lambda w, by: revoke_role(w.store, "eve", "production", by)),
    "access.roles.end_sign_ins": (ADMIN, lambda w, by: end_sign_ins(w.store, "eve", by)),
}  # fmt: skip
_SHARED_NAMES = (
    "index",
    "purge",
    "forget_parts",
    "erase",
    "builds.",
    "add_environment",
    "end_sign_ins",
    "job",
    "rebuild",
    "restore",
    "promotion.",
    "save_service",
    "cases.",
)
_OF_ONE = {"rollouts.index_canaries.start_index_canary"}  # it moves the users of one environment
SHARED = {name for name in OPERATIONS if any(part in name for part in _SHARED_NAMES)} - _OF_ONE


def _waiting(jobs: Jobs, kind: str) -> Jobs:
    """A job that waits, started without a role check."""
    found = jobs.find(kind)
    if found is None or found.state is not JobState.RUNNING:
        jobs.start(kind, ("sleep", "600"), subject="all", actor="setup")
    return jobs


def _cancel_rebuild(world: World, by: Act) -> None:
    _waiting(jobs_of(world.corpus), "rebuild")
    cancel_rebuild(world.store, world.corpus, by)


def _entry_of(world: World, action: str) -> int:
    return list_audit(world.store, AuditFilter(action=action), limit=1)[0].entry_id


def _schedule(world: World, flag: str = "planned") -> Schedule:
    return list_schedules(world.store, flag=flag)[0]


def _newest_swap(world: World) -> int:
    return _entry_of(world, "index.swap")


def fill(store: Store, folder: Path) -> None:
    """Put one of everything into a store."""
    world = World(store, folder)
    start_holdout(store, Holdout("kept", 5), SETUP)
    for name in ("texts", "spare"):
        create_layer(store, Layer(name), SETUP)
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=20), SETUP)
    change_rollout(store, world.flag, 30, SETUP)
    create_flag(store, "answers", canary_flag(5, metadata={"canary_steps": "5% for 1h, 100%"}), SETUP)
    for key in ("compared", "tried", "sliced"):
        create_flag(store, key, split_flag({"a": 1, "b": 1}), SETUP)
    experiments.start_experiment(store, get_flag(store, "production", "tried"), world.design("tried"), SETUP)
    sliced, place = get_flag(store, "production", "sliced"), experiments.LayerPlace("texts", 20)
    experiments.start_experiment(store, sliced, world.design("sliced"), SETUP, place=place)
    experiments.stop_experiment(store, get_experiment(store, "production", "sliced test"), SETUP)
    for key in ("planned", "held"):
        create_flag(store, key, boolean_flag(on=True), SETUP)
        flag = get_flag(store, "production", key)
        create_schedule(store, flag, [ScheduleStep(on=False)], SETUP, starts=BUILT, now=BUILT)
    pause_schedule(store, _schedule(world, "held"), SETUP, now=BUILT)
    for name in ("docs-v0", "docs-v1", "docs-v2", "docs-old"):
        register_index(store, world.index(name), replace(SETUP, at=BUILT))
    for name, former in (("docs-v0", None), ("docs-v1", "docs-v0")):
        swap_index(store, "default", name, replace(SETUP, at=BUILT), expected=former)
    retire_index(store, "docs-old", SETUP, newest_swap=_newest_swap(world))
    save_alert_rule(store, replace(RULE, name="rota"), SETUP)
    for name in ("pager", "spare"):
        save_channel(store, replace(CHANNEL, name=name), SETUP)
    with store.begin() as connection:
        states = {"answers": AlertState(AlertStatus.FIRING)}
        save_states(connection, "production", "rota", states, expected_version=0)
        waiting = add_message((), {"key": "k"}, "firing", now_ms=now_ms())
        save_queue(connection, "production", "pager", waiting, expected_version=0)
    add_metric(store, replace(STARS, name="old stars"), SETUP)
    builds.save_probe(store, PROBED, SETUP, live="docs-v1")
    save_view(store, SavedView("kept", ()), SETUP)
    add_cases(store, "qa", [CASE], SETUP)
    add_cases(store, "qa", [CASE], SETUP)
    snooze_todo(store, HERE, "corpus/v1", until=TODAY, today=TODAY, by=SETUP)
    grant_role(store, Grant("eve", VIEWER, "production"), SETUP)
    for who, share in (("zoe", 50), ("ada", 60)):
        former, wish = (boolean_flag(on=True, rollout_pct=pct) for pct in (30, share))
        wanted = WantedChange(Action.FLAG_UPDATE, "use_hyde", former, wish)
        with store.begin() as connection:
            add_request(connection, [wanted], environment="production", requester=who, reason="because", at_ms=now_ms())
    issue_token(store, "old", [TokenScope.EVALUATE], SETUP)
    deploy_both(store, folder, SETUP)
    with changing(store, SETUP) as change:
        former, promoted = ({"version": n, "label": f"v{n}", "release": n, "flag": None} for n in (1, 2))
        change.record("prompt.promote", "sum", former, promoted | {"run_id": "r2"})
    rows = [Retrieval(BUILT, f"q{n}", 1.0 + n, score_kind="bm25", scope=ANSWERS) for n in range(200)]
    append_retrievals(store, [Retrieval(datetime(2026, 1, 1, tzinfo=UTC), "q", 0.5), *rows])
    map_scores(store, now=BUILT)
    with store.begin() as connection:
        connection.execute(
            topics.insert().values(
                topic_id="t1", label="vpp", model="hash-16", centroid=b"\0" * 64, first_seen_ms=1, last_seen_ms=2,
                state="open", owner="", note="", version=1,
            )
        )  # fmt: skip
    create_queue(store, REVIEW, [world.item], SETUP)
    exclude_question(store, "t1", world.questions[0], SETUP)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "deck.db"
    store = Store(f"sqlite:///{path}", create=True)
    fill(store, path.parent)
    store.close()
    return path


@pytest.fixture
def world(filled: Path, tmp_path: Path) -> Iterator[World]:
    shutil.copy(filled, tmp_path / "deck.db")
    store = Store(f"sqlite:///{tmp_path / 'deck.db'}")
    made = World(store, tmp_path)
    yield made
    made.cancel_jobs()
    store.close()


def everything_in(store: Store) -> dict[str, list[Any]]:
    with store.read() as connection:
        return {table.name: list(connection.execute(select(table))) for table in metadata.sorted_tables}


ALLOWED = [(name, role) for name, (least, _) in OPERATIONS.items() for role in Role if role.covers(least)]


@pytest.mark.parametrize(("name", "role"), ALLOWED)
def test_an_operation_is_done_by_who_may(name: str, role: Role, world: World) -> None:
    OPERATIONS[name][1](world, Act("ada", "a test", roles=hold_everywhere(role)))
    newest = list_audit(world.store, limit=1)[0]
    assert (newest.actor, newest.reason) == ("ada", "a test")


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_refused_to_who_may_not_and_leaves_everything_as_it_was(name: str, world: World) -> None:
    least, call = OPERATIONS[name]
    before = everything_in(world.store)
    lower = [hold_everywhere(role) for role in Role if not role.covers(least)]
    for roles in (Roles(), *lower, Roles((("staging", ADMIN),))):
        with pytest.raises(Forbidden, match=f"requires the role {least}|requires the role editor"):
            call(world, Act("ada", "a test", roles=roles))
        assert everything_in(world.store) == before
        assert not (world.folder / "built").exists()


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_an_assistant_proposes_changes_nothing_whatever_it_is(name: str, world: World) -> None:
    """Without a policy, as an admin everywhere: it becomes a change request, or is refused."""
    before, asked = everything_in(world.store), list_requests(world.store, states=tuple(RequestState))
    act = Act("ada", "a test", origin=Origin.PERSON, assistant="token:bot", stops=True)
    with pytest.raises((ApprovalNeeded, Forbidden, InvalidInput)) as refused:
        OPERATIONS[name][1](world, act)
    after, told = everything_in(world.store), ("audit", "change_requests")
    assert {table: rows for table, rows in after.items() if table not in told} == {
        table: rows for table, rows in before.items() if table not in told
    }
    made = [each for each in list_requests(world.store, states=tuple(RequestState)) if each not in asked]
    newest = [str(entry.action) for entry in list_audit(world.store, limit=len(after["audit"]) - len(before["audit"]))]
    if refused.type is ApprovalNeeded:
        assert [(each.requester, each.assistant, each.state) for each in made] == [("ada", "token:bot", "waiting")]
        assert newest == ["approval.propose"]
        assert all(each.action in GUARDED for each in made[0].changes)
    else:
        assert (made, after) == ([], before)
    assert not (world.folder / "built").exists()


@pytest.mark.parametrize("name", sorted(SHARED))
def test_what_all_environments_share_takes_a_role_held_everywhere(name: str, world: World) -> None:
    act = Act("ada", "a test", "staging", roles=Roles((("staging", ADMIN), ("*", VIEWER))))
    with pytest.raises(Forbidden, match="everywhere"):
        OPERATIONS[name][1](world, act)


def test_reverting_takes_the_role_of_the_entrys_environment(world: World) -> None:
    act = Act("ada", "a test", "staging", roles=Roles((("staging", ADMIN),)))
    with pytest.raises(Forbidden, match="in production; you have none"):
        reverts.revert(world.store, _entry_of(world, "flag.update"), act)


def test_an_action_without_a_row_is_left_to_admins(store: Store) -> None:
    assert explain_refusal(hold_everywhere(EDITOR), "no.such", "production").startswith(
        "no.such requires the role admin"
    )
    with pytest.raises(Forbidden, match="no.such"), changing(store, Act("a", "b", roles=hold_everywhere(EDITOR))) as it:
        it.record("no.such", "thing", None, None)
    assert list_audit(store) == ()


def test_grants_add_up_over_names_groups_and_environments() -> None:
    grants = [
        Grant("Ada@Example.org", EDITOR, "staging"), Grant("group:rag", VIEWER), Grant("everyone", VIEWER, "demo"),
        Grant("group:ops", ADMIN, "production"), Grant("bob", ADMIN),
    ]  # fmt: skip
    ada = combine_grants(grants, "ada@example.org", ["rag"])
    assert [ada.role_in(place) for place in ("staging", "production", "demo")] == [EDITOR, VIEWER, VIEWER]
    assert combine_grants(grants, "eve").role_in("production") is None
    assert combine_grants(grants, "eve", ["OPS"]).role_in("production") is ADMIN
    assert combine_grants(grants, "ops").role_in("production") is None


def test_who_only_looks_is_told_which_role_it_takes() -> None:
    assert explain_refusal(ADMIN_EVERYWHERE, "log.purge", "production") == ""
    with pytest.raises(
        Forbidden, match=r"^flag.update requires the role editor in production; you have viewer. Ask an"
    ):
        check_allowed(hold_everywhere(VIEWER), "flag.update", "production")


@pytest.mark.parametrize("who", ["", " ada", "group:", "a" * 201, "a\nb", "a\x00", "\u202eada"])
def test_a_name_that_nobody_can_have_is_refused(who: str) -> None:
    with pytest.raises(InvalidInput, match="^who: must be 1 to 200 printable"):
        Grant(who, VIEWER)


def test_a_granted_role_is_audited_replaced_and_taken_away(store: Store) -> None:
    me = Act("root", "because")
    grant_role(store, Grant("ada", VIEWER, "production"), me)
    grant_role(store, Grant("Ada", EDITOR, "production"), me)
    assert list_grants(store) == (Grant("Ada", EDITOR, "production"),)
    assert combine_grants(list_grants(store), "ADA").role_in("production") is EDITOR
    revoke_role(store, "ada", "production", me)
    assert combine_grants(list_grants(store), "ada") == Roles()
    assert [(e.action, e.environment, e.before, e.after) for e in reversed(list_audit(store))] == [
        ("role.grant", "production", None, {"role": "viewer"}),
        ("role.grant", "production", {"role": "viewer"}, {"role": "editor"}),
        ("role.revoke", "production", {"role": "editor"}, None),
    ]
    with pytest.raises(LookupError, match="'ada' has none"):
        revoke_role(store, "ada", "production", me)


def test_an_admin_of_one_environment_gives_no_role_everywhere(store: Store) -> None:
    act = Act("ada", "mine", roles=Roles((("staging", ADMIN), ("*", VIEWER))))
    grant_role(store, Grant("bob", ADMIN, "staging"), act)
    with pytest.raises(Forbidden):
        grant_role(store, Grant("ada", ADMIN), act)
    assert list_grants(store) == (Grant("bob", ADMIN, "staging"),)


def test_who_may_read_questions_is_said_by_environment_and_grants_add_up() -> None:
    grants = [
        Grant("everyone", VIEWER, questions=False),
        Grant("ada", ADMIN, "staging", questions=False),
        Grant("group:support", VIEWER, "production"),
        Grant("bob", EDITOR),
    ]
    ada, bob = combine_grants(grants, "ada"), combine_grants(grants, "bob")
    supporter = combine_grants(grants, "x", ["support"])
    assert not any(may_read_questions(ada, place) for place in ("staging", "production", "*"))
    assert [may_read_questions(supporter, place) for place in ("staging", "production", "*")] == [False, True, False]
    assert all(may_read_questions(bob, place) for place in ("staging", "production", "*"))
    assert may_read_questions(ADMIN_EVERYWHERE, "*")
    assert not may_read_questions(Roles(), "production")


def test_a_grant_without_questions_is_stored_and_audited(store: Store) -> None:
    grant_role(store, Grant("eve", VIEWER, questions=False), SETUP)
    grant_role(store, Grant("bob", VIEWER), SETUP)
    assert [(grant.who, grant.questions) for grant in list_grants(store)] == [("bob", True), ("eve", False)]
    assert [entry.after for entry in list_audit(store, AuditFilter(action="role.grant"))] == [
        {"role": "viewer"}, {"role": "viewer", "questions": False},
    ]  # fmt: skip
