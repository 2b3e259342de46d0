"""A home with hostile text wherever somebody may write: flags, log, MLflow, git, DVC, indexes, deployments, jobs."""

import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.alerts.operations import save_webhook_rule
from core.alerts.rules import AlertRule
from core.arms.arms import Metric
from core.audit.acts import Act
from core.corpus.corpus import Corpus
from core.corpus.rebuild import KIND, jobs_of
from core.flags.operations import create_flag
from core.flags.schedule import ScheduleStep
from core.flags.store import get_flag
from core.indexes.operations import register_index, swap_index
from core.indexes.registry import Index
from core.jobs.jobs import Jobs, JobState
from core.predictions.operations import save_prediction
from core.predictions.prediction import LiftingDocument, Prediction, QueryPrediction, TopicPrediction
from core.rollouts.experiment_design import plan_experiment
from core.rollouts.experiments import start_experiment
from core.rollouts.schedules import create_schedule
from core.tracking.cases import CaseResult, render_case_results
from core.tracking.gateway import Tracking
from quarterdeck.definitions import boolean_flag, canary_flag, set_rules, split_flag
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.rules import RuleOperator, TargetingRule
from quarterdeck.store import Store
from tests.color_site import deploy_both
from tests.dvc_repos import DvcRepo

SCRIPTS = (
    "<script>window.stolen=1</script><img src=x onerror=window.stolen=1><svg onload=window.stolen=1>"
    "[x](javascript:window.stolen=1) **b** $x$ `c` :red[r] ![i](https://evil.example/i.png)"
)
LETTERS = ":red[r] :material/delete: a -> b $x$ https://evil.example www.evil.example a@evil.example :smile:"
BIDI = "\u202egnp.exe\u202c \u2067\u0646\u0635\u2069 \u200b\ufeff"
HOSTILE = f"{LETTERS} {SCRIPTS} {BIDI}"
ENDLESS = "x" * 7_000
ACT = Act(f"{SCRIPTS} {BIDI}", f"{HOSTILE} {'w' * 1_000}")
EXPERIMENT = LETTERS.replace("/", "|")[:90]
KEY = SCRIPTS.replace(" ", "")


def build_hostile_home(home: Path) -> None:
    """Fill an empty folder: its store, its MLflow store and its corpus."""
    home.mkdir()
    with closing(Store(f"sqlite:///{home / 'quarterdeck.db'}", create=True)) as store:
        write_flags(store)
        write_log(store)
        write_indexes(store)
        deploy_both(store, home, ACT)
    write_runs(home)
    write_corpus(home)
    write_jobs(Jobs(home / "jobs"), "build", "probe", "verify", "predict")
    write_jobs(jobs_of(Corpus(home / "corpus")), KIND)


def write_flags(store: Store) -> None:
    """Flags of every kind, a schedule, an experiment, a canary, a token and an alert."""
    details = {"owner": LETTERS, "tags": f"{LETTERS},{SCRIPTS[:60]}"}
    create_flag(store, KEY, boolean_flag(on=True, rollout_pct=20, description=HOSTILE, metadata=details), ACT)
    rules = [
        TargetingRule("user.email", RuleOperator.ENDS_WITH, HOSTILE, "on"),
        TargetingRule(SCRIPTS, RuleOperator.ONE_OF, [LETTERS], "off"),
    ]
    create_flag(store, f"rules {LETTERS}", set_rules(boolean_flag(on=True), rules), ACT)
    create_flag(store, "k" * 200, boolean_flag(on=True, description="d" * 5_000), ACT)
    create_flag(store, LETTERS, split_flag({LETTERS: 1, "control": 1}), ACT)
    create_flag(store, f"canary {LETTERS}", canary_flag(5, metadata={"canary_steps": "5% for 1h, 100%"}), ACT)
    now, flag = datetime.now(UTC), get_flag(store, "production", LETTERS)
    design = plan_experiment(
        LETTERS, flag.view, name=LETTERS[:90].strip(), metric=Metric.SCORE, effect=0.02, control="control"
    )
    start_experiment(store, flag, design, ACT)
    planned = get_flag(store, "production", KEY)
    create_schedule(store, planned, (ScheduleStep(on=False),), ACT, starts=now + timedelta(days=1), now=now)
    issue_token(store, "search", [TokenScope.EVALUATE], ACT, expires_days=30)
    webhook = f"https://127.0.0.1:9/x?{''.join(each for each in HOSTILE if '!' <= each <= '~')}"
    save_webhook_rule(store, AlertRule(LETTERS[:90].strip()), url=webhook, secret="s" * 40, by=ACT)


def write_log(store: Store) -> None:
    """Retrievals of sixty hours; those that found little are few enough to be gaps."""
    now = datetime.now(UTC)
    texts = (
        (f"{LETTERS} {SCRIPTS}", 0.05),
        (f"{BIDI}\n\t\x07\x1b[31m", 0.1),
        (ENDLESS, 0.9),
        *[("how is DPDK built", 0.8)] * 20,
    )
    append_retrievals(store, [
        Retrieval(now - timedelta(hours=at), f"{text} {at}", score, arm=SCRIPTS[:200], prompt_version=LETTERS[:200],
                  index_version=LETTERS, session_id=f"{SCRIPTS[:180]}{at}")
        for at in range(60) for text, score in texts
    ])  # fmt: skip


def write_indexes(store: Store) -> None:
    """Two indexes that are registered and not there, one of them live, and a prediction."""
    one = Index(f"one {LETTERS}", "nowhere", LETTERS, "model", 3, datetime.now(UTC), ACT.actor)
    for index in (one, replace(one, name=f"two {LETTERS}", corpus_version="v1")):
        register_index(store, index, ACT)
    swap_index(store, "default", one.name, ACT, expected=None)
    save_prediction(store, Prediction(
        "v1", LETTERS, 0.5, (QueryPrediction(HOSTILE, 3, "t", 0.6, 0.2), QueryPrediction(LETTERS, 3, "t", 0.2, 0.6)),
        (TopicPrediction("t", HOSTILE, 6, 0.2, 0.6, 0.5, (LETTERS,)),), (LiftingDocument(LETTERS, 1, 3, 1.0),),
        (SCRIPTS,), 1, 1, 0, (LETTERS,),
    ), ACT)  # fmt: skip


def write_runs(home: Path) -> None:
    """Two runs with hostile names, parameters, tags, prompts, cases and descriptions."""
    (home / "mlflow").mkdir()
    store = Tracking(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    for number in (1, 2):
        version = f"{LETTERS} {number}"
        prompt = store.register_prompt(
            "qa", f"{HOSTILE} {number}", message=SCRIPTS, tags={"version": version}, experiment=EXPERIMENT
        )
        case = CaseResult(
            LETTERS, f"{HOSTILE}?", True, HOSTILE, False, number / 2, 0.5, True, None, (LETTERS,), (HOSTILE, LETTERS),
            (True, False), 1, 1, 0.001, 1.0,
        )  # fmt: skip
        run_id = store.log_evaluation(
            EXPERIMENT, f"{LETTERS} {SCRIPTS} {number}",
            params={"prompt": "qa", "version": version, "model": SCRIPTS, "note": f"{HOSTILE} {number}"},
            metrics={"faithfulness_mean": number / 2, "cost_usd_mean": 0.001}, tags={"team": HOSTILE}, prompt=prompt,
            artifacts={"cases.json": render_case_results([case])},
        )  # fmt: skip
        store.set_run_description(run_id, HOSTILE)
    store.set_prompt_alias("qa", "production", 1)


def write_corpus(home: Path) -> None:
    """A repository whose messages, tags, names, contents and stages are hostile."""
    repo = DvcRepo.create(home / "dvc")
    name = "<img src=x onerror=stolen=1> :red[r] www.evil.example.md"
    repo.write({f"corpus/{name}": f"# {HOSTILE}\n", "corpus/b.txt": f"{HOSTILE}\n", "notes.txt": "a"})
    repo.commit(HOSTILE, track=("corpus",), tag="v1")
    repo.write({
        f"corpus/{name}": f"# {HOSTILE}\n\n{HOSTILE} more {BIDI}\n", "corpus/b.txt": f"{LETTERS}\n{ENDLESS}\n",
        "dvc.yaml": "stages:\n  build:\n    cmd: 'echo www.evil.example :red[r]'\n    deps: [corpus]\n",
    })  # fmt: skip
    repo.commit(SCRIPTS, track=("corpus",), tag="a->b$x$<img>www.evil.example")
    (home / "corpus").symlink_to(repo.root)


def write_jobs(jobs: Jobs, *kinds: str) -> None:
    """Jobs that failed and printed hostile text."""
    fail = (sys.executable, "-c", "import sys; sys.exit(sys.argv[1])", f"{ENDLESS}\n{HOSTILE}")
    for kind in kinds:
        jobs.start(kind, fail, subject=LETTERS, actor=ACT.actor)
        while (job := jobs.find(kind)) and job.state is JobState.RUNNING:
            time.sleep(0.1)
