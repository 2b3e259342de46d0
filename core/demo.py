"""Shell: builds the demo from nothing: a corpus in git and DVC, its indexes, a retrieval log, runs, flags.

Only the traffic is simulated: a seeded generator draws which question is asked when. Each question is then really
embedded, searched, answered and judged. Nobody rated an answer, so no feedback is logged.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import yaml

from core.audit.acts import Act
from core.config import PROJECT, Config
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
from core.prompts.answerers import SentenceVectors, extractive_pipeline, list_sentences, passages_wanted
from core.prompts.evaluate import evaluate_prompts
from core.prompts.judges import find_supported
from core.prompts.prices import Price, parse_prices
from core.prompts.prompts import Prompt, parse_prompt
from core.tracking.cases import Case, parse_cases
from core.tracking.gateway import Tracking
from quarterdeck.definitions import boolean_flag, canary_flag, set_rollout, switch_flag
from quarterdeck.flags import FlagSet
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store, database_path

CONTENT = PROJECT / "data" / "demo"
ALIAS = "default"
DAYS = 37
NEW_TOPIC_DAYS = 7
STAGING = "staging"
LIVE, TRIED = "v2", "v3"  # the prompt in production, and the one that is rolled out by a flag
_SEED = 20_26
_PER_DAY = 330
_STEPS = 5
_DVC_YAML = {
    "stages": {"ingest": {"cmd": "quarterdeck index build corpus index", "deps": ["corpus"], "outs": ["index"]}}
}

Say = Callable[[str], None]


def build_demo(config: Config, *, now: datetime, reset: bool = False, say: Say = print) -> bool:
    """Build what is missing of the demo in `config.home`; False when it was there already.

    `reset` removes a former demo first. Raises Conflict when the store holds data that no demo put there, and
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
        say("The last build of the demo was cut off: starting again.")
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
        pass  # makes the tables, so that the ingest stage finds its vector cache
    corpus = _Repository(Path(config.corpus_repo), config, step.say)
    corpus.create()
    _publish(config, store, corpus, "v1", now - timedelta(days=60))
    swap_index(store, ALIAS, "docs-v1", _act("first index of the product", now - timedelta(days=59)), expected=None)
    step("Setting flags and the canary")
    flags = _create_flags(store, config.environment, now)
    step("Adding corpus v2 about FD.io VPP; its index is built and waits")
    _publish(config, store, corpus, "v2", now - timedelta(days=2))
    step(
        f"Asking {DAYS} days of questions; each is searched in the v1 index and answered offline with prompts v2 and v3"
    )
    queries = _load_queries()
    replies = _answer_all(config, embedder, [text for group in queries.values() for text in group])
    count = append_retrievals(store, _draw_traffic(queries, replies, flags, now))
    step.say(f"      {count:,} retrievals, {sum(map(len, queries.values())):,} distinct questions")
    step("Evaluating three prompt variants over 20 cases and logging them to MLflow")
    _evaluate_prompts(config, embedder, step.say)


class _Repository:
    """The demo's git + DVC repository, written through the real programs."""

    def __init__(self, folder: Path, config: Config, say: Say) -> None:
        self.folder = folder
        self._say = say
        self._environment = os.environ | {
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(config.home / "dvc-site-cache"),
            "QUARTERDECK_HOME": str(config.home),
            "QUARTERDECK_DATABASE_URL": config.database_url,
            "QUARTERDECK_EMBEDDING_MODEL": config.embedding_model,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    def create(self) -> None:
        """Start an empty repository with a local DVC remote beside it and the pipeline's definition."""
        self.folder.mkdir(parents=True)
        self._run("git", "init", "--quiet", "--initial-branch=main")
        self._run("git", "config", "user.name", "Demo Writer")
        self._run("git", "config", "user.email", "demo@example.org")
        self._dvc("init", "--quiet")
        self._dvc("config", "core.analytics", "false")
        self._dvc("config", "core.autostage", "true")
        self._dvc("remote", "add", "--default", "local", "../dvc-remote")
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump(_DVC_YAML, sort_keys=False))

    def commit_version(self, tag: str, message: str, when: datetime) -> None:
        """Track the corpus as it is, run the pipeline, commit, tag and push."""
        self._dvc("add", "--quiet", "corpus")
        self._dvc("repro", "--quiet")
        self._run("git", "add", "--all")
        stamp = {"GIT_AUTHOR_DATE": when.isoformat(), "GIT_COMMITTER_DATE": when.isoformat()}
        self._run("git", "commit", "--quiet", "--message", message, extra=stamp)
        self._run("git", "tag", "--annotate", tag, "--message", message, extra=stamp)
        self._dvc("push", "--quiet")

    def _dvc(self, *arguments: str) -> None:
        self._run(sys.executable, "-m", "dvc", *arguments)

    def _run(self, *command: str, extra: Mapping[str, str] | None = None) -> None:
        environment = {**self._environment, **(extra or {})}
        try:
            done = subprocess.run(
                command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise SourceUnavailable(f"`{command[0]}` cannot be run: {error.strerror}; is it installed?") from error
        if done.returncode:
            shown = " ".join(command).replace(sys.executable, "python")
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise SourceUnavailable(f"`{shown}` failed with exit code {done.returncode}: {last[0]}")


def _publish(config: Config, store: Store, corpus: _Repository, version: str, when: datetime) -> None:
    """Commit the pages of `version` on top of what is there, and take its index in."""
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
    """Create the demo's flags as a team would have over two months; return them as they are today."""
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


@dataclass(frozen=True, slots=True)
class Reply:
    """What the product answered to a question: the top-1 similarity, the answer's cost and how faithful it is.

    `faithfulness` is None for a refusal: whether it was right is not known of a question that nobody labeled.
    """

    score: float
    cost_usd: float
    faithfulness: float | None


def _answer_all(config: Config, embedder: Embedder, questions: Sequence[str]) -> dict[tuple[str, str], Reply]:
    """Return the reply to each question under each prompt that was live, by question and version label."""
    prompts = [prompt for prompt in _load_prompts() if f"v{prompt.version}" in (LIVE, TRIED)]
    most, prices = max(map(passages_wanted, prompts)), _load_prices()
    found = LanceIndexes(config.index_uri).search("docs-v1", embedder.embed(questions), top_k=most)
    hits = dict(zip(questions, found, strict=True))
    vectors = SentenceVectors(embedder)
    vectors.learn([*questions, *list_sentences([hit for each in found for hit in each])])
    replies = {}
    for prompt in prompts:
        answer_to = extractive_pipeline(prompt, search=lambda text, k: hits[text][:k], vectors=vectors, prices=prices)
        for text in questions:
            answer = answer_to(Case(text, text, (), "", answerable=True))
            supported = find_supported(answer, vectors)
            faithfulness = sum(supported) / len(supported) if supported else None
            replies[text, f"v{prompt.version}"] = Reply(hits[text][0].score, answer.cost_usd, faithfulness)
    return replies


def _draw_traffic(
    queries: Mapping[str, Sequence[str]], replies: Mapping[tuple[str, str], Reply], flags: FlagSet, now: datetime
) -> list[Retrieval]:
    """Return 37 days of sessions that end now: weekly and daily rhythm, three questions a session on average.

    Questions about VPP start seven days ago and grow to six in ten.
    """
    rng = np.random.default_rng(_SEED)
    popularity = {name: _popularity(rng, len(texts)) for name, texts in queries.items()}
    drawn: list[Retrieval] = []
    for day in range(DAYS):
        start = now - timedelta(days=DAYS - day)
        volume = _PER_DAY * (0.45 if (start + timedelta(hours=12)).weekday() >= 5 else 1.0)
        since = day - (DAYS - NEW_TOPIC_DAYS)
        new_share = 0.0 if since < 0 else 0.12 + 0.08 * since
        for session in range(int(rng.poisson(volume / 3))):
            user = f"user-{rng.integers(4_000)}"
            moment = start + timedelta(seconds=float(rng.uniform(0, 86_000)))
            arm = flags.resolve("answer-service", {"targetingKey": user}).variant if day >= DAYS - 4 else "blue"
            version = TRIED if day >= DAYS - 12 and flags.is_enabled("new_prompt_v3", user) else LIVE
            for turn in range(1 + int(rng.poisson(2))):
                topic = str(rng.choice(["dpdk", "vpp", "offtopic"], p=[0.97 - new_share, new_share, 0.03]))
                text = queries[topic][int(rng.choice(len(queries[topic]), p=popularity[topic]))]
                reply = replies[text, version]
                drawn.append(
                    Retrieval(
                        ts=min(now, moment + timedelta(seconds=40 * turn)),
                        query=text,
                        score=reply.score,
                        session_id=f"{user}-{day}-{session}",
                        arm=arm,
                        prompt_version=version,
                        index_version="docs-v1",
                        cost_usd=reply.cost_usd,
                        faithfulness=reply.faithfulness,
                    )
                )
    return sorted(drawn, key=lambda each: each.ts)


def _popularity(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return Zipf-like shares in random order: some questions are asked every day, most now and then."""
    weights = 1.0 / np.arange(3, count + 3) ** 0.7
    rng.shuffle(weights)
    return np.asarray(weights / weights.sum())


def _evaluate_prompts(config: Config, embedder: Embedder, say: Say) -> None:
    """Run every demo prompt over the demo's cases against the v1 index, and let v2 be the one in production."""
    indexes = LanceIndexes(config.index_uri)
    results = evaluate_prompts(
        _load_prompts(),
        parse_cases((CONTENT / "cases" / "qa.jsonl").read_text(), source="qa.jsonl"),
        search=lambda question, top_k: indexes.search("docs-v1", embedder.embed([question]), top_k=top_k)[0],
        embedder=embedder,
        tracking=(tracking := Tracking(config.tracking_uri)),
        prices=_load_prices(),
        dataset_source="data/demo/cases/qa.jsonl",
        index_version="docs-v1",
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
        raise Conflict(f"{store.name} holds data that no demo put there; set QUARTERDECK_HOME to an empty folder")


def _remove_demo(config: Config, *, with_store: bool) -> None:
    """Remove what a former demo made, and nothing else: a store only when the demo made that very one."""
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
