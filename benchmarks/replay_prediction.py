"""Does a replay predict the mean that the log then shows, for a change of index, of chunking and of embedding model?

Run: `python -m benchmarks.replay_prediction --corpus demo|documentation [--share 0.1] [--home FOLDER]`. A week of
questions is drawn and logged with the hits of the live index; the replay predicts from it. Then the change is really
made: an index is built and goes live, and another week of drawn questions is logged with its hits. Bar: predicted and
measured change of the mean within 0.02. Only the traffic is simulated: questions are those of the demo, or titles of
sections of DPDK's and FD.io VPP's documentation. `--share` takes so many of the pages, `--home` keeps the vectors and
the distilled model for the next run.
"""

import argparse
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from benchmarks.data import locate
from benchmarks.static_model import build_static_model
from core.audit.acts import Act
from core.config import PROJECT
from core.corpus.corpus import Corpus
from core.embedding.embed import DEFAULT_MODEL, Embedder
from core.embedding.vectors import VectorCache
from core.indexes.backends import open_indexes
from core.indexes.builds import build_version
from core.indexes.ingest import read_folder
from core.indexes.registry import Index
from core.log.closing import close_days
from core.log.retrievals import Window, list_daily_scores
from core.replay.candidates import ReplayCandidate, name_model
from core.replay.comparison import ReplayResult
from core.replay.replaying import ReplayPlan, replay_sides
from core.replay.staging import StagingTools, stage_sides
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store

ACT = Act("benchmark", "measure what was predicted")
SEED, BAR = 31, 0.02
A_DAY, CHARACTERS = 200, 400
THRESHOLD = 0.4


@dataclass(frozen=True, slots=True)
class World:
    """A store and the vectors of former runs, the documents before and with the addition, and what people ask."""

    store: Store
    vectors: Store
    old: Path
    new: Path
    questions: tuple[str, ...]
    home: Path
    static: Path
    now: datetime

    def embedder_of(self, model: str) -> Embedder:
        """Return an embedder whose vectors are kept."""
        return Embedder(model, cache=VectorCache(self.vectors))

    def week(self, ago: int) -> Window:
        """Return seven whole days that ended so many weeks ago, 0 for the last ones."""
        last = self.now.date() - timedelta(days=1 + 7 * ago)
        return Window(last - timedelta(days=6), last)


def prepare_demo(home: Path) -> tuple[Path, Path, tuple[str, ...]]:
    """Return the demo's corpus v1, v1 with v2, and its questions."""
    demo = PROJECT / "data" / "demo"
    both = _merge(home / "demo-both", [demo / "corpus" / "v1", demo / "corpus" / "v2"], share=1.0)
    texts = [
        line.strip() for path in sorted((demo / "queries").glob("*.txt")) for line in path.read_text().splitlines()
    ]
    return demo / "corpus" / "v1", both, tuple(dict.fromkeys(text for text in texts if text))


def prepare_documentation(home: Path, share: float) -> tuple[Path, Path, tuple[str, ...]]:
    """Return DPDK's pages, these with VPP's, and the titles of sections that name one thing, as questions."""
    folders = [locate("data", "corpus", name) for name in ("dpdk", "vpp")]
    old = _merge(home / f"dpdk-{share:g}", folders[:1], share=share)
    both = _merge(home / f"dpdk-vpp-{share:g}", folders, share=share)
    titles: dict[str, set[str]] = {}
    for chunk in read_folder(both).chunks:
        titles.setdefault(chunk.section.rsplit(" > ", 1)[-1], set()).add(chunk.document)
    return old, both, tuple(sorted(t for t, pages in titles.items() if len(pages) == 1 and 2 <= len(t.split()) <= 12))


def log_week(world: World, scope: Scope, index: Index, *, ago: int, seed: int) -> None:
    """Log a week of drawn questions with what the index finds; other seeds have other people who ask."""
    rng = np.random.default_rng((SEED, seed))
    popularity = np.random.default_rng(SEED).permutation(1 / np.arange(3, len(world.questions) + 3) ** 0.8)
    first = world.week(ago).first
    texts = [world.questions[at] for at in rng.choice(len(world.questions), 7 * A_DAY, p=popularity / popularity.sum())]
    found = open_indexes(index.location).search(index.name, world.embedder_of(index.model).embed(texts), top_k=5)
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    append_retrievals(
        world.store,
        [
            Retrieval(
                start + timedelta(minutes=at * 7 * 1_440 / len(texts)), text,
                documents=[(hit.document, hit.score) for hit in hits], session_id=f"s{seed}-{at // 3}",
                index_version=index.name, scope=scope,
            )
            for at, (text, hits) in enumerate(zip(texts, found, strict=True))
        ],
    )  # fmt: skip


def mean_of(world: World, scope: Scope, window: Window) -> float:
    """Return the mean of a week as the drift page has it: that of each day, by its questions."""
    close_days(world.store, now=world.now, scope=scope)
    days = list_daily_scores(world.store, window=window, scope=scope)
    return sum(day.count * day.mean for day in days) / sum(day.count for day in days)


def build(world: World, folder: Path, *, name: str, model: str = DEFAULT_MODEL, characters: int = 900) -> Index:
    """Build and register an index."""
    source = read_folder(folder, max_characters=characters)
    location = str(world.home / "indexes")
    return build_version(world.store, world.embedder_of(model), source, ACT, location=location, name=name).index


def measure(world: World, live: Index, candidate: ReplayCandidate, new: Index, name: str) -> tuple[ReplayResult, float]:
    """Return the replay before a change, and the change of the mean that the log has after it."""
    scope = Scope("production", name)
    log_week(world, scope, live, ago=1, seed=1)
    before = world.week(1)
    tools = StagingTools(world.embedder_of, lambda: Corpus(str(world.home)), world.home / "replays")
    with stage_sides(world.store, live, candidate, tools) as sides:
        found = replay_sides(world.store, world.embedder_of, sides, ReplayPlan(scope, before, THRESHOLD, seed=SEED))
    log_week(world, scope, new, ago=0, seed=2)
    return found, mean_of(world, scope, world.week(0)) - mean_of(world, scope, before)


def run(world: World) -> bool:
    """Print each change with its prediction and measurement; return whether all are within the bar."""
    live = build(world, world.old, name="docs-v1")
    print(f"{live.chunks:,} passages, {len(world.questions):,} questions, {A_DAY} asked a day", flush=True)
    fits = True
    for name, candidate, made in (
        ("index", ReplayCandidate("docs-v2"), {"folder": world.new}),
        ("chunking", ReplayCandidate(documents=str(world.old), characters=CHARACTERS), {"characters": CHARACTERS}),
        ("model", ReplayCandidate(model=str(world.static)), {"model": str(world.static)}),
    ):
        given = {"folder": world.old, "name": "docs-v2" if name == "index" else f"docs-{name}"} | made
        new = build(world, **given)  # type: ignore[arg-type]
        found, measured = measure(world, live, candidate, new, name)
        inside = found.predicted.low <= measured <= found.predicted.high
        fits &= abs(found.score.value - measured) <= BAR
        print(
            f"{name:<9} {name_model(new.model):<18} predicted {found.score.value:+.4f} ({found.predicted.low:+.4f} to "
            f"{found.predicted.high:+.4f}), measured {measured:+.4f}, error {found.score.value - measured:+.4f}, "
            f"{'inside' if inside else 'outside'}; overlap@5 {found.overlap:.2f}, {found.replayed} questions",
            flush=True,
        )
    return fits


def _merge(folder: Path, sources: Sequence[Path], *, share: float) -> Path:
    """Return a folder with the same share of the pages of each source, the same ones every time."""
    if folder.exists():
        return folder
    for source in sources:
        pages = sorted(path for path in source.rglob("*") if path.suffix in (".md", ".rst", ".txt") and path.is_file())
        for page in random.Random(SEED).sample(pages, max(1, round(share * len(pages)))):
            to = folder / source.name / page.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(page, to)
    return folder


@contextmanager
def _open_home(given: Path | None) -> Iterator[Path]:
    if given:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="replay-prediction-") as folder:
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", choices=("demo", "documentation"), default="demo")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--home", type=Path)
    options = parser.parse_args()
    with _open_home(options.home) as home:
        parts = prepare_demo(home) if options.corpus == "demo" else prepare_documentation(home, options.share)
        words = [*(chunk.text for chunk in read_folder(parts[1]).chunks), *parts[2]]
        static = build_static_model(home / f"static-{options.corpus}-{options.share:g}", texts=words)
        with (
            tempfile.TemporaryDirectory(prefix="replay-deck-") as folder,
            closing(Store(f"sqlite:///{folder}/deck.db", create=True)) as store,
            closing(Store(f"sqlite:///{home}/vectors.db", create=True)) as vectors,
        ):
            with vectors.begin():
                pass
            ok = run(World(store, vectors, *parts, Path(folder), static, datetime.now(UTC)))
    print(f"bar: within {BAR:g}: {'met' if ok else 'MISSED'}")


if __name__ == "__main__":
    main()
