"""The homes that the gallery shows: the demo, an empty one, one whose MLflow broke, a broken store, and a crowded one.

python -m tests.gallery_homes FOLDER     with the stopped clock of tests/frozen, as `tests.browser.gallery` runs it
"""

import os
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.corpus_browse import build_repository
from benchmarks.mlflow_runs import fill_store
from core.audit.acts import Act
from core.config import Config, load_config
from core.demo.build import build_demo
from core.errors import QuarterdeckError
from core.flags.operations import import_flags
from quarterdeck.definitions import boolean_flag, canary_flag, split_flag
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.conftest import copy_home

FLAGS, TOPICS, VERSIONS, RUNS = 200, 60, 60, 50
SERVICES = ("docs-chat", "search", "customer-support-assistant-for-partners-emea", "field-engineering-copilot", "wiki")
TEAMS = ("search", "answers", "ingest", "platform", "growth")
THINGS = (
    "reranker", "query_rewriting", "hypothetical_answers", "citations_below_every_answer", "long_context_window",
    "contextual_retrieval_with_page_summaries", "spelling", "cache_of_embeddings_of_frequent_questions",
)  # fmt: skip
SUBJECTS = (
    "sourdough bread", "violin strings", "volcano eruptions", "tax returns", "chess openings", "bicycle brakes",
    "coral reefs", "wedding speeches", "rose pruning", "black holes", "passport renewal", "espresso machines",
    "medieval castles", "dog training", "solar panels", "knitting socks", "marathon training", "cheese making",
    "car insurance", "bird migration", "guitar chords", "mortgage rates", "tropical fish", "haiku poetry",
    "snow chains", "beekeeping", "contact lenses", "ancient Rome", "ski wax", "watch repair", "vaccination",
    "jazz drumming", "tomato plants", "divorce law", "sailing knots", "origami cranes", "sleep apnea",
    "wine tasting", "roof tiles", "dinosaur fossils", "ballet shoes", "kidney stones", "stamp collecting",
    "horse riding", "nail polish", "airport luggage", "crossword puzzles", "ice hockey", "piano tuning",
    "peanut allergy", "subway maps", "tattoo removal", "lighthouses", "maple syrup", "scuba diving", "opera singers",
    "pension funds", "desert cactus", "magic tricks", "school uniforms",
)  # fmt: skip
ASKED = (
    "what is the best way to start with {}", "how do I learn about {}", "what does {} cost", "problems with {}",
    "{} for beginners", "history of {}", "common mistakes with {}", "where do I find help with {}",
)  # fmt: skip


def build_homes(folder: Path, *, now: datetime) -> None:
    """Build every home in an empty folder."""
    demo = folder / "demo"
    build_demo(_configure(demo), now=now, say=lambda line: print(line, flush=True))
    run_jobs(_configure(demo))
    (folder / "empty").mkdir()
    for name in ("no-mlflow", "no-store"):
        copy_home(demo, folder / name)
    (folder / "no-mlflow" / "mlflow" / "mlflow.db").write_bytes(b"this was a database" * 1_000)
    for path in (folder / "no-store").glob("quarterdeck.db*"):
        path.unlink()
    (folder / "no-store" / "quarterdeck.db").write_bytes(b"this was a database" * 1_000)
    copy_home(demo, folder / "crowded")
    crowd(_configure(folder / "crowded"), now=now)
    run_jobs(_configure(folder / "crowded"))


def run_jobs(config: Config) -> None:
    """Run what the server runs in the background, so that nothing changes while pictures are taken."""
    from app.http.server import list_jobs

    store = Store(config.database_url, log_url=config.log_url)
    for _ in range(2):  # what one leaves, another may take up
        for job in list_jobs(config, store):
            with suppress(QuarterdeckError):
                job.run()
    store.close()


def crowd(config: Config, *, now: datetime) -> None:
    """Add many flags, services, topics, runs and versions of the corpus, with long names."""
    store = Store(config.database_url, log_url=config.log_url)
    import_flags(store, {"flags": dict(_draw_flags())}, Act("ada", "all flags of five teams", at=now))
    append_retrievals(store, _draw_questions(now))
    store.close()
    fill_store(config.home / "mlflow" / "mlflow.db", runs=RUNS)
    shutil.rmtree(config.home / "corpus")
    for number in range(1, VERSIONS + 1):
        when = f"{now - timedelta(days=VERSIONS - number):%Y-%m-%dT12:00:00+00:00}"
        os.environ.update(GIT_AUTHOR_DATE=when, GIT_COMMITTER_DATE=when)
        name = f"release-{number:03}-with-pages-of-the-field-team" if number % 3 == 0 else f"v{number}"
        build_repository(config.home / "corpus", files=100 + 2 * number, versions=1, objects=True, tag=name)


def _draw_flags() -> Iterator[tuple[str, dict[str, object]]]:
    for number in range(FLAGS):
        team, thing = TEAMS[number % len(TEAMS)], THINGS[number % len(THINGS)]
        about = f"{thing.replace('_', ' ').capitalize()} for the {team} team, tried by one customer after another"
        kept = {"owner": f"{team} team", "tags": team}
        key = f"{team}_{thing}_{number:03}"
        if number % 10 == 1:
            yield key, split_flag({"control": 1, "shorter_answers": 1}, description=about, metadata=kept)
        elif number % 10 == 2:
            yield key, canary_flag(5, description=about, metadata=kept)
        else:
            share = (0, 10, 25, 100)[number % 4]
            yield key, boolean_flag(on=number % 3 > 0, rollout_pct=share, description=about, metadata=kept)


def _draw_questions(now: datetime) -> list[Retrieval]:
    """Low questions about many subjects, in the last six days, and some days of each further service."""
    drawn, first = random.Random(5), SERVICES[0]
    rows = [
        Retrieval(
            now - timedelta(minutes=drawn.randrange(60, 6 * 24 * 60)), asked.format(subject),
            round(drawn.uniform(0.15, 0.38), 3), session_id=f"crowd-{at}-{turn}", scope=Scope("production", first),
        )
        for at, subject in enumerate(SUBJECTS[:TOPICS])
        for turn, asked in enumerate(ASKED * (1 + at % 3))
    ]  # fmt: skip
    for service in SERVICES[2:]:
        rows += [
            Retrieval(
                now - timedelta(hours=hour), f"how is a ring of {hour % 40} entries made",
                round(drawn.gauss(0.62, 0.08), 3), session_id=f"{service}-{hour}", scope=Scope("production", service),
            )
            for hour in range(1, 30 * 24)
        ]  # fmt: skip
    return rows


def _configure(home: Path) -> Config:
    return load_config({"QUARTERDECK_HOME": str(home), "QUARTERDECK_OPERATOR": "tester"})


if __name__ == "__main__":
    build_homes(Path(sys.argv[1]), now=datetime.now(UTC))
