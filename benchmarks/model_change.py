"""Does everything go on when the embedding model changes, and when it changes back? With two real models.

Run: `python -m benchmarks.model_change [--home FOLDER]`. The documents and questions are those of the demo; a second
model is distilled from the bundled one (`benchmarks.static_model`). Forty-five days are logged with the hits of an
index of the bundled model. Then an index of the other model is built beside it, the map is learned, and it goes live;
a week later an index goes live that lacks a third of its pages, which is a drop; at last, the first index is live
again. What drift, coverage, backlog, predictions, ledger and rehearsal say is printed after each step. `--home` keeps
the vectors and the second model for the next run.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.replay_prediction import prepare_demo
from benchmarks.static_model import build_static_model
from core.audit.acts import Act
from core.causes.changes import gather_changes
from core.corpus.corpus import Corpus
from core.coverage.backlog import BacklogTopic, TopicState, list_backlog
from core.coverage.operations import mark_topic
from core.coverage.report import Coverage, report_coverage
from core.drift.operations import save_model_map
from core.drift.report import DriftOverview, report_drift
from core.drift.scales import ModelMap
from core.embedding.embed import DEFAULT_MODEL, Embedder
from core.embedding.vectors import VectorCache
from core.indexes.backends import open_indexes
from core.indexes.builds import build_version
from core.indexes.ingest import DocumentSource, read_folder
from core.indexes.operations import swap_index
from core.indexes.registry import Index
from core.ledger.entries import LedgerEntry, describe_entry
from core.ledger.operations import predict_effect
from core.ledger.report import report_ledger
from core.log.closing import close_days
from core.log.retrievals import last_days
from core.predictions.operations import save_prediction
from core.predictions.prediction import PredictionCheck
from core.predictions.predictions import get_prediction, measure_prediction, predict_coverage
from core.rehearsals.comparing import Rehearsal, describe_rehearsal
from core.rehearsals.report import rehearse_index
from core.replay.comparison import ReplayResult
from core.replay.mapping import learn_map_between
from core.replay.replaying import ReplayPlan, replay_index
from core.tracking.gateway import Tracking
from quarterdeck.clock import start_of
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store

SEED, A_DAY, DAYS_BEFORE, DAYS_SINCE = 31, 60, 45, 8
LIVE, OTHER, THIN = "docs-minilm", "docs-static", "docs-thin"


@dataclass(frozen=True, slots=True)
class Stage:
    """What the reports say on a day, with the model that the deck groups questions with."""

    today: date
    model: str
    drift: DriftOverview
    coverage: Coverage
    backlog: tuple[BacklogTopic, ...]
    ledger: tuple[LedgerEntry, ...]
    rehearsal: Rehearsal | None

    def describe(self) -> Iterator[str]:
        """Yield the lines of a stage."""
        report, coverage = self.drift.report, self.coverage
        planned = sum(each.state is TopicState.PLANNED for each in self.backlog)
        yield f"drift      {report.status}: {report.reason}"
        yield from (f"           {note}" for note in report.notes)
        yield f"coverage   {coverage.low_share:.1%} low, under {coverage.threshold:.3f}"
        yield f"backlog    {len(self.backlog)} topics, {planned} planned"
        yield from (f"ledger     {each.summary}: {describe_entry(each)}" for each in self.ledger)
        if self.rehearsal:
            yield f"way back   {describe_rehearsal(self.rehearsal)}"


@dataclass(frozen=True, slots=True)
class ModelChangeRun:
    """All stages: before the change, a week after it, a week after the drop, and a week after the way back."""

    map: ModelMap
    replay: ReplayResult
    check: PredictionCheck
    before: Stage
    changed: Stage
    dropped: Stage
    back: Stage


class World:
    """A store with the demo's documents and questions, and time that passes."""

    def __init__(self, store: Store, home: Path, folder: Path, today: date) -> None:
        self.store, self.static = store, str(home / "static")
        self._folder, self._today = folder, today
        self._old, self._both, self._questions = prepare_demo(home)

    def embedder_of(self, model: str) -> Embedder:
        """Return an embedder that keeps its vectors in the store."""
        return Embedder(model, cache=VectorCache(self.store))

    def day(self, at: int) -> date:
        """Return a day by its distance from that of the change."""
        return self._today - timedelta(days=3 * DAYS_SINCE) + timedelta(days=at)

    def act(self, reason: str, at: int) -> Act:
        """Return what somebody does first thing on a day."""
        return Act("ada", reason, at=start_of(self.day(at)) + timedelta(minutes=5))

    def build(self, name: str, model: str, *, on: int, share: float = 1.0) -> Index:
        """Build an index of the first documents, or of a share of them."""
        source = read_folder(self._old)
        pages = sorted({chunk.document for chunk in source.chunks})
        kept = set(np.random.default_rng(SEED).permutation(pages)[: round(share * len(pages))].tolist())
        chunks = tuple(chunk for chunk in source.chunks if chunk.document in kept)
        return self.build_from(DocumentSource(name, len(kept), chunks), model, on=on)

    def build_both(self, model: str, *, on: int) -> Index:
        """Build an index of the documents that the demo adds as well."""
        return self.build_from(self.read_both(), model, on=on)

    def read_both(self) -> DocumentSource:
        """Return all documents as version v2."""
        found = read_folder(self._both)
        return DocumentSource("v2", found.documents, found.chunks)

    def build_from(self, source: DocumentSource, model: str, *, on: int) -> Index:
        """Build and register an index."""
        location, act = str(self._folder / "indexes"), self.act("built", on)
        name = "docs-v2" if source.version == "v2" else source.version
        return build_version(self.store, self.embedder_of(model), source, act, location=location, name=name).index

    def swap(self, index: Index, former: Index | None, *, on: int, is_rollback: bool = False) -> None:
        """Let an index go live on a day."""
        act = self.act(f"{index.name} goes live", on)
        swap_index(
            self.store, "default", index.name, act, expected=former.name if former else None, rollback=is_rollback
        )

    def log(self, index: Index, first: int, days: int) -> None:
        """Log days of drawn questions with what an index finds; popular ones are asked more often."""
        popularity = np.random.default_rng(SEED).permutation(1 / np.arange(3, len(self._questions) + 3) ** 0.8)
        drawn = np.random.default_rng((SEED, first + 1_000)).choice(
            len(self._questions), days * A_DAY, p=popularity / popularity.sum()
        )
        texts = [self._questions[at] for at in drawn]
        found = open_indexes(index.location).search(index.name, self.embedder_of(index.model).embed(texts), top_k=3)
        start = start_of(self.day(first)) + timedelta(hours=1)
        append_retrievals(
            self.store,
            [
                Retrieval(
                    start + timedelta(days=at // A_DAY, minutes=20 * (at % A_DAY)), text,
                    documents=[(hit.document, hit.score) for hit in hits], session_id=f"s{first}-{at // 3}",
                    index_version=index.name, model=index.model,
                )
                for at, (text, hits) in enumerate(zip(texts, found, strict=True))
            ],
        )  # fmt: skip
        close_days(self.store, now=start + timedelta(days=days), scope=DEFAULT_SCOPE)

    def report(self, on: int, model: str) -> Stage:
        """Return what all reports say on a day."""
        store, today = self.store, self.day(on)
        drift = report_drift(store, scope=DEFAULT_SCOPE, today=today)
        coverage = report_coverage(store, self.embedder_of(model), scope=DEFAULT_SCOPE, today=today, drift=drift)
        changes, _ = gather_changes(
            store, lambda: Corpus(str(self._folder)), lambda: Tracking(f"sqlite:///{self._folder}/none.db"),
            scope=DEFAULT_SCOPE, since=start_of(self.day(-10)),
        )  # fmt: skip
        ledger = report_ledger(store, changes, scope=DEFAULT_SCOPE, today=today, threshold=coverage.threshold)
        now = start_of(today) + timedelta(hours=1)
        return Stage(
            today, model, drift, coverage, list_backlog(store, model, DEFAULT_SCOPE), ledger.entries,
            rehearse_index(store, "default", DEFAULT_SCOPE, now=now),
        )  # fmt: skip


def run(world: World) -> ModelChangeRun:
    """Change the model, lose pages, and go back; return what every report said meanwhile."""
    store, static = world.store, world.static
    live = world.build(LIVE, DEFAULT_MODEL, on=-DAYS_BEFORE)
    world.swap(live, None, on=-DAYS_BEFORE)
    world.log(live, -DAYS_BEFORE, DAYS_BEFORE)
    before = world.report(0, DEFAULT_MODEL)
    topic = max(before.backlog, key=lambda each: each.topic_id)
    mark_topic(store, topic, TopicState.PLANNED, world.act("we write pages", -1), owner="kim")
    embedder = world.embedder_of(DEFAULT_MODEL)
    predicted = predict_coverage(store, embedder, world.read_both(), live, before.coverage)
    save_prediction(store, predicted, world.act("what would v2 do?", -1))

    other = world.build(OTHER, static, on=-1)
    plan = ReplayPlan(DEFAULT_SCOPE, last_days(14, until=world.day(-1)), before.coverage.threshold)
    learned = learn_map_between(store, world.embedder_of, live, other, plan)
    save_model_map(store, learned, world.act("moves to the static model", -1))
    replayed = replay_index(store, world.embedder_of, live, other, plan)
    predict_effect(
        store, "index:default", replayed.predicted, world.act("replayed", -1), metric="score", service="default"
    )
    world.swap(other, live, on=0)
    world.log(other, 0, DAYS_SINCE)
    changed = world.report(DAYS_SINCE, static)
    world.build_both(static, on=DAYS_SINCE - 1)
    check = measure_prediction(store, world.embedder_of(static), get_prediction(store, "v2"))

    thin = world.build(THIN, static, on=DAYS_SINCE, share=0.6)
    world.swap(thin, other, on=DAYS_SINCE)
    world.log(thin, DAYS_SINCE, DAYS_SINCE)
    dropped = world.report(2 * DAYS_SINCE, static)
    world.swap(live, thin, on=2 * DAYS_SINCE)
    world.log(live, 2 * DAYS_SINCE, DAYS_SINCE)
    return ModelChangeRun(
        learned, replayed, check, before, changed, dropped, world.report(3 * DAYS_SINCE, DEFAULT_MODEL)
    )


def prepare(home: Path) -> Path:
    """Make the second model and embed everything with both, unless it is there; return the store of the vectors."""
    home.mkdir(parents=True, exist_ok=True)
    _, both, questions = prepare_demo(home)
    texts = [*(chunk.text for chunk in read_folder(both).chunks), *questions]
    static = build_static_model(home / "static", texts=texts)
    path = home / "vectors.db"
    with closing(Store(f"sqlite:///{path}", create=True)) as store:
        with store.begin():
            pass
        for model in (DEFAULT_MODEL, str(static)):
            Embedder(model, cache=VectorCache(store)).embed(texts)
    return path


@contextmanager
def open_world(home: Path, *, today: date) -> Iterator[World]:
    """Yield a new world, with a copy of the vectors."""
    vectors = prepare(home)
    with tempfile.TemporaryDirectory(prefix="model-change-") as folder:
        shutil.copyfile(vectors, f"{folder}/deck.db")
        with closing(Store(f"sqlite:///{folder}/deck.db")) as store:
            yield World(store, home, Path(folder), today)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="model-change-home-") as folder,
        open_world(options.home or Path(folder), today=datetime.now(UTC).date()) as world,
    ):
        found = run(world)
    print(f"map        by {found.map.pairs} questions asked under both; misses the mean by {found.map.error:.3f}")
    print(f"replay     raw {found.replay.score.value:+.3f}, on the live model's scale {found.replay.predicted}")
    for name, stage in (
        ("before", found.before), ("changed", found.changed), ("dropped", found.dropped), ("back", found.back)
    ):  # fmt: skip
        print(f"\n{name}, {stage.today}")
        print("\n".join(stage.describe()))
    if found.check.total:
        told = found.check.total
        print(
            f"\nv2         predicted {told.predicted_score:.3f}, measured {told.measured_score:.3f} in the other model"
        )


if __name__ == "__main__":
    main()
