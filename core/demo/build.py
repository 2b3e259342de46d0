"""Shell: builds the demo from nothing: a corpus in git and DVC, its indexes, services, a retrieval log, runs, flags.

Only the traffic is simulated (`traffic`): a seeded generator draws which question is asked when. Each question is then
really embedded, searched, answered and judged (`replies`).
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import yaml

from core.audit.acts import Act
from core.cases.golden import read_cases
from core.cases.operations import import_cases
from core.config import PROJECT, Config
from core.demo.replies import AskedOf, Reply, log_traffic, reply_to_all
from core.demo.repository import DemoRepository
from core.demo.traffic import CHAT, DAYS, LIVE, LIVE_INDEX, STAGING, TENANT, TRIED, DemoQuestion, draw_traffic
from core.embedding.chunks import CHUNKING
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.errors import Conflict, SourceUnavailable
from core.flags.operations import change_rollout, create_flag
from core.flags.store import get_flag, list_flags
from core.indexes.backends import LanceIndexes
from core.indexes.operations import register_index, swap_index
from core.indexes.registry import Index
from core.log.retrievals import get_span
from core.log.service_operations import save_service
from core.log.services import ServiceSettings
from core.prompts.evaluate import evaluate_prompts
from core.prompts.prices import Price, parse_prices
from core.prompts.prompts import Prompt, parse_prompt
from core.tracking.cases import parse_cases
from core.tracking.gateway import Tracking
from quarterdeck.definitions import boolean_flag, canary_flag, set_rollout, switch_flag
from quarterdeck.flags import FlagSet
from quarterdeck.store import Store, database_path

CONTENT = PROJECT / "data" / "demo"
ALIAS = "default"
_STEPS = 5

Say = Callable[[str], None]


def build_demo(config: Config, *, now: datetime, reset: bool = False, say: Say = print) -> bool:
    """Build the missing parts of the demo in `config.home`; False if it was complete.

    `reset` removes a former demo first. Raises Conflict when the store has data that is not the demo's, and
    SourceUnavailable when git or DVC fails.
    """
    marker = config.home / "demo.json"
    store_name = Store(config.database_url).name
    former = json.loads(marker.read_text()) if marker.exists() else {}
    if former.get("store") != store_name:
        _check_store_is_free(config)
    elif former["complete"] and not reset:
        return False
    elif not former["complete"]:
        say("The last build of the demo was interrupted: starting again.")
    if former:
        _remove_demo(config, with_store=former.get("store") == store_name)
    config.home.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps({"complete": False, "store": store_name}))
    with_steps = _Steps(say)
    store = Store(config.database_url, create=True, log_url=config.log_url)
    try:
        _build(config, store, now, with_steps)
    finally:
        store.close()
    marker.write_text(json.dumps({"complete": True, "store": store_name, "built": now.isoformat()}))
    return True


@dataclass(slots=True)
class _Steps:
    say: Say
    done: int = 0

    def __call__(self, text: str) -> None:
        self.done += 1
        self.say(f"[{self.done}/{_STEPS}] {text}")


def _build(config: Config, store: Store, now: datetime, step: _Steps) -> None:
    embedder = Embedder(config.embedding_model, cache=VectorCache(store))
    step("Writing the corpus v1 about DPDK into git and DVC, and its index")
    shutil.copyfile(CONTENT / "cases" / "qa.jsonl", config.home / "golden.jsonl")
    with store.begin():
        pass  # creates the tables, so that the ingest stage finds its vector cache
    kept = _act("the evaluation cases of the product", now - timedelta(days=60))
    import_cases(store, "qa", read_cases(CONTENT / "cases" / "qa.jsonl"), kept, reviewer=kept.actor)
    corpus = DemoRepository(Path(config.corpus_repo), config, step.say)
    corpus.create()
    _publish(config, store, corpus, "v1", now - timedelta(days=60))
    swap_index(store, ALIAS, LIVE_INDEX, _act("first index of the product", now - timedelta(days=59)), expected=None)
    step("Declaring the chat's dimension; setting flags and the canary")
    declared = _act("compare the tenants", now - timedelta(days=59), config.environment)
    save_service(store, ServiceSettings(CHAT, dimensions=(TENANT,)), declared)
    flags = _create_flags(store, config.environment, now)
    step("Adding corpus v2 about FD.io VPP; its index is built, but live in staging only")
    with ThreadPoolExecutor(1) as background:  # git and DVC are processes of their own: this one answers meanwhile
        publishing = background.submit(_publish, config, store, corpus, "v2", now - timedelta(days=2))
        step(f"Asking {DAYS} days of questions in two services; each is searched, the chat's are answered offline")
        questions = draw_traffic(_load_queries(), flags, environment=config.environment, now=now)
        replies = _reply(config, embedder, [each for each in questions if each.index_version == LIVE_INDEX])
        publishing.result()
    replies |= _reply(config, embedder, [each for each in questions if each.index_version != LIVE_INDEX])
    ratings = log_traffic(config, store, questions, replies, now=now)
    distinct = len({each.text for each in questions})
    step.say(
        f"      {len(questions):,} retrievals, {distinct:,} distinct questions, {ratings:,} ratings that came later"
    )
    step("Evaluating three prompt variants over 20 cases and logging them to MLflow")
    _evaluate_prompts(config, embedder, step.say)


def _reply(config: Config, embedder: Embedder, questions: Sequence[DemoQuestion]) -> dict[AskedOf, Reply]:
    """Return the reply to each different question, under the two prompts that are live."""
    prompts = [prompt for prompt in _load_prompts() if f"v{prompt.version}" in (LIVE, TRIED)]
    return reply_to_all(config, embedder, questions, prompts=prompts, prices=_load_prices())


def _publish(config: Config, store: Store, corpus: DemoRepository, version: str, when: datetime) -> None:
    """Commit the pages of `version` on top of the present ones, and register its index."""
    _write_pages(corpus.folder / "corpus", version)
    message = {"v1": "DPDK: the first thirty pages", "v2": "Add FD.io VPP"}[version]
    corpus.commit_version(version, message, when)
    name = f"docs-{version}"
    chunks = LanceIndexes(config.index_uri).copy_from(corpus.folder / "index" / "chunks.lance", name)
    index = Index(name, config.index_uri, version, config.embedding_model, chunks, when, "demo", CHUNKING)
    register_index(store, index, _act(f"built from corpus {version} by the ingest stage", when))


def _write_pages(target: Path, version: str) -> None:
    target.mkdir(exist_ok=True)
    if version == "v2":
        changes = yaml.safe_load((CONTENT / "corpus" / "CHANGES.yaml").read_text())
        for old, new in (changes.get("renamed") or {}).items():
            (target / old).rename(target / new)
        for name in changes.get("removed") or []:
            (target / name).unlink()
    for page in sorted((CONTENT / "corpus" / version).glob("*.md")):
        shutil.copyfile(page, target / page.name)


def _create_flags(store: Store, environment: str, now: datetime) -> FlagSet:
    """Create the demo's flags as a team would have over two months; return their current state."""
    wanted = {
        "use_reranker": boolean_flag(on=True, description="Rerank the hits with a cross-encoder before answering"),
        "use_hyde": boolean_flag(on=False, description="Search with a hypothetical answer instead of the question"),
        "contextual_retrieval": boolean_flag(on=False, description="Embed each chunk with a summary of its page"),
        "new_prompt_v3": boolean_flag(
            on=True,
            rollout_pct=5,
            description="Answer with prompt v3 instead of v2",
            metadata={"prompt_version": "v3"},
        ),
        "answer-service": canary_flag(
            5,
            description="The green build of the answer service",
            metadata={"canary_steps": "5% for 24h, 25% for 24h, 50% for 48h, 100%"},
        ),
    }
    first, tried = "demo: first set-up", "demo: tried here before production"
    create_flag(store, "use_reranker", wanted["use_reranker"], _act(first, now - timedelta(days=58), environment))
    for days_ago, key in ((44, "use_hyde"), (30, "contextual_retrieval"), (12, "new_prompt_v3")):
        on = switch_flag(set_rollout(wanted[key], 100), on=True)
        if environment != STAGING:
            create_flag(store, key, on, _act(tried, now - timedelta(days=days_ago + 1), STAGING))
        create_flag(store, key, wanted[key], _act(first, now - timedelta(days=days_ago), environment))
    flag = get_flag(store, environment, "new_prompt_v3")
    change_rollout(store, flag, 20, _act("a week at 5% without complaints", now - timedelta(days=5), environment))
    canary = _act("demo: try the green build on a few", now - timedelta(days=4), environment)
    create_flag(store, "answer-service", wanted["answer-service"], canary)
    return FlagSet.from_definitions({"flags": {flag.key: flag.definition for flag in list_flags(store, environment)}})


def _load_queries() -> dict[str, tuple[str, ...]]:
    return {
        path.stem: tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
        for path in sorted((CONTENT / "queries").glob("*.txt"))
    }


def _evaluate_prompts(config: Config, embedder: Embedder, say: Say) -> None:
    """Evaluate every demo prompt over the demo's cases against the v1 index, and put v2 into production."""
    indexes = LanceIndexes(config.index_uri)
    results = evaluate_prompts(
        _load_prompts(),
        parse_cases((CONTENT / "cases" / "qa.jsonl").read_text(), source="qa.jsonl"),
        search=lambda question, top_k: indexes.search(LIVE_INDEX, embedder.embed([question]), top_k=top_k)[0],
        embedder=embedder,
        tracking=(tracking := Tracking(config.tracking_uri)),
        prices=_load_prices(),
        dataset_source="data/demo/cases/qa.jsonl",
        index_version=LIVE_INDEX,
        corpus_version="v1",
    )
    for result in results:
        say(f"      {result.name} v{result.version}: faithfulness {result.metrics['faithfulness_mean']:.2f}")
    tracking.set_prompt_alias("qa", "production", 2)


def _load_prompts() -> list[Prompt]:
    paths = sorted((CONTENT / "prompts" / "qa").glob("*.md"))
    return [parse_prompt(path.read_text(), source=path.name) for path in paths]


def _load_prices() -> Mapping[str, Price]:
    return parse_prices((PROJECT / "data" / "prices.yaml").read_text())


def _check_store_is_free(config: Config) -> None:
    store = Store(config.database_url)
    try:
        taken = bool(get_span(store) or list_flags(store, config.environment))
    except SourceUnavailable:
        return  # there is no store yet
    finally:
        store.close()
    if taken:
        raise Conflict(f"{store.name} has data that is not the demo's; set QUARTERDECK_HOME to an empty folder")


def _remove_demo(config: Config, *, with_store: bool) -> None:
    """Remove what a former demo created, and nothing else; the store only if the demo created it."""
    for name in ("corpus", "dvc-remote", "dvc-site-cache", "indexes", "mlflow"):
        shutil.rmtree(config.home / name, ignore_errors=True)
    path = database_path(Store(config.database_url).url)
    for suffix in ("", "-wal", "-shm", "-turn"):
        if path is not None and with_store:
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    (config.home / "demo.json").unlink(missing_ok=True)
    (config.home / "golden.jsonl").unlink(missing_ok=True)


def _act(reason: str, at: datetime, environment: str = "production") -> Act:
    return Act("demo", reason, environment, at)
