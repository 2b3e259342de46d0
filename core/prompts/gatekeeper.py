"""Shell: runs the gates. Finds the changed prompts and their baseline, and evaluates both offline.

The index is built in a temporary folder from the corpus in the checkout. `gates.py` decides the verdict.
"""

import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from core.config import PROJECT, Config
from core.embedding.chunks import Chunk, digest_chunks
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.errors import InvalidInput, QuarterdeckError, SourceUnavailable
from core.indexes.backends import LanceIndexes
from core.indexes.ingest import read_folder
from core.prompts.answerers import ContextPassage, SentenceVectors
from core.prompts.evaluate import Bench, evaluate_offline
from core.prompts.gates import Evaluated, GateReport, Thresholds, check_cost, check_prompt, parse_thresholds
from core.prompts.prices import Price, parse_prices
from core.prompts.prompts import Prompt, parse_prompt
from core.tracking.cases import Case, parse_cases
from core.tracking.gateway import Tracking
from quarterdeck.store import Store

PROMPTS = "data/demo/prompts"
INDEX = "gate"
_BASES = ("origin/main", "main")


@dataclass(frozen=True, slots=True)
class Files:
    """What the gates read, relative to the checkout."""

    cases: Path = Path("data/demo/cases/qa.jsonl")
    corpora: tuple[Path, ...] = (Path("data/demo/corpus/v1"),)
    prices: Path = Path("data/prices.yaml")
    thresholds: Path = Path("data/gates.yaml")


def run_prompt_gate(
    config: Config,
    prompts: Sequence[Path],
    *,
    files: Files | None = None,
    baseline: Path | None = None,
    base: str | None = None,
) -> tuple[GateReport, ...]:
    """Return a report for each prompt file; without any, for those that changed since `base`, or else the newest.

    A prompt is compared with `baseline`; without one, with the version in production, else with the same file at the
    merge base with `base`, else with the file that the thresholds name. Raises what reading and evaluating raises.
    """
    files = files or Files()
    thresholds, cases = _read_thresholds(files), _read_cases(files)
    pairs = []
    for path in prompts or find_prompts(base):
        prompt = read_prompt(path)
        former = _find_baseline(
            config, path, prompt, given=baseline, base=base, thresholds=thresholds, folder=files.thresholds.parent
        )
        pairs.append((prompt, former))
    wanted = [prompt for pair in pairs for prompt in pair if prompt]
    done = _evaluate(config, files, [w.prompt for w in wanted], cases)
    found = dict(zip(map(id, wanted), done, strict=True))
    reports = []
    for candidate, former in pairs:
        then = replace(found[id(former)], origin=former.origin) if former else None
        reports.append(check_prompt(found[id(candidate)], cases, thresholds, baseline=then))
    return tuple(reports)


def run_cost_gate(
    config: Config,
    prompts: Sequence[Path],
    *,
    files: Files | None = None,
    base: str | None = None,
    model: str | None = None,
    ceiling_usd: float | None = None,
) -> tuple[GateReport, ...]:
    """Return a report for each prompt file, as `run_prompt_gate` finds them: what its average query costs."""
    files = files or Files()
    thresholds, cases = _read_thresholds(files), _read_cases(files)
    if ceiling_usd is not None:
        thresholds = replace(thresholds, cost_usd_mean=ceiling_usd)
    thresholds = replace(thresholds, model=model or thresholds.model)
    wanted = [read_prompt(path).prompt for path in prompts or find_prompts(base)]
    prices = parse_prices(read_text(files.prices, below=PROJECT), source=files.prices.name)
    return tuple(
        check_cost(evaluated, cases, thresholds, prices) for evaluated in _evaluate(config, files, wanted, cases)
    )


@dataclass(frozen=True, slots=True)
class PromptSource:
    """A prompt and where it was found."""

    prompt: Prompt
    origin: str = ""


def read_prompt(path: Path) -> PromptSource:
    """Return the prompt of a file. Raises InvalidInput."""
    return PromptSource(parse_prompt(read_text(path, below=PROJECT), source=str(path)))


def find_prompts(base: str | None = None) -> tuple[Path, ...]:
    """Return the prompt files that differ from the merge base with `base`, or the newest of each prompt if none does.

    Committed, uncommitted and new files count. Raises SourceUnavailable when `base` is given and unknown.
    """
    changed = [path for path in _changed_files(base) if path.suffix == ".md" and (PROJECT / path).is_file()]
    if changed:
        return tuple(sorted(changed))
    newest: dict[str, tuple[int, Path]] = {}
    for full in sorted((PROJECT / PROMPTS).rglob("*.md")):
        prompt = read_prompt(path := full.relative_to(PROJECT)).prompt
        rank = int(prompt.version) if prompt.version.isdigit() else 0
        if prompt.name not in newest or rank >= newest[prompt.name][0]:
            newest[prompt.name] = (rank, path)
    if not newest:
        raise InvalidInput("prompts", f"there is no prompt file (*.md) under {PROMPTS}")
    return tuple(path for _, path in newest.values())


@contextmanager
def open_embedder(config: Config) -> Iterator[Embedder]:
    """Give an embedder with the vectors of the deck's store; without a store, those that former gates kept."""
    store = Store(config.database_url)
    try:
        with store.read():
            pass
    except SourceUnavailable:
        config.home.mkdir(parents=True, exist_ok=True)
        store = Store(f"sqlite:///{config.home / 'gate-vectors.db'}", create=True)
        with store.begin():
            pass
    try:
        yield Embedder(config.embedding_model, cache=VectorCache(store))
    finally:
        store.close()


@contextmanager
def build_bench(chunks: Sequence[Chunk], embedder: Embedder, prices: Mapping[str, Price]) -> Iterator[Bench]:
    """Give an offline bench over a temporary index of the chunks."""
    with tempfile.TemporaryDirectory(prefix="quarterdeck-index-") as folder:
        indexes = LanceIndexes(folder)
        indexes.build(INDEX, chunks, embedder.embed([chunk.text for chunk in chunks]))
        vectors = SentenceVectors(embedder)

        def search(question: str, top_k: int) -> Sequence[ContextPassage]:
            return indexes.search(INDEX, vectors.get(question)[None], top_k=top_k)[0]

        yield Bench(search, vectors, prices, index_digest=digest_chunks(chunks, model=embedder.model))


def head_revision() -> str:
    """Return the commit that the checkout is at, with `+` when files differ from it; empty outside of git."""
    commit = (_git("rev-parse", "--short=12", "HEAD") or "").strip()
    return f"{commit}+" if commit and _git("status", "--porcelain", "--untracked-files=no") else commit


def read_text(path: Path, *, below: Path = Path()) -> str:
    """Return a text file; a relative path is one below that folder. Raises InvalidInput."""
    try:
        return (below / path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            str(path), f"cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}"
        ) from error


def read_corpora(folders: Sequence[Path]) -> tuple[Chunk, ...]:
    """Return the chunks of all documents; a document of a later folder replaces one of the same name before it."""
    documents: dict[str, list[Chunk]] = {}
    for folder in folders:
        source = read_folder(folder)
        if source.problems:
            raise InvalidInput(source.problems[0].document, source.problems[0].reason)
        replaced: dict[str, list[Chunk]] = {}
        for chunk in source.chunks:
            replaced.setdefault(chunk.document, []).append(chunk)
        documents |= replaced
    return tuple(chunk for chunks in documents.values() for chunk in chunks)


def _evaluate(
    config: Config,
    files: Files,
    prompts: Sequence[Prompt],
    cases: Sequence[Case],
) -> tuple[Evaluated, ...]:
    chunks = read_corpora([PROJECT / corpus for corpus in files.corpora])
    prices = parse_prices(read_text(files.prices, below=PROJECT), source=str(files.prices))
    with open_embedder(config) as embedder, build_bench(chunks, embedder, prices) as bench:
        results = evaluate_offline(prompts, cases, bench)
        return tuple(Evaluated(p.label, result.cases) for p, result in zip(prompts, results, strict=True))


def _find_baseline(
    config: Config,
    path: Path,
    candidate: PromptSource,
    *,
    given: Path | None,
    base: str | None,
    thresholds: Thresholds,
    folder: Path,
) -> PromptSource | None:
    if given:
        return replace(read_prompt(given), origin=given.name)
    found = _from_production(config, candidate.prompt) or _from_merge_base(path, base)
    if found is None and thresholds.baseline:
        found = replace(read_prompt(folder / thresholds.baseline), origin="named by the thresholds")
    return found


def _from_production(config: Config, candidate: Prompt) -> PromptSource | None:
    """Return the version that MLflow's alias `production` points at, with the settings that its run was made with."""
    try:
        tracking = Tracking(config.tracking_uri)
        version = tracking.production_version(candidate.name)
        params = tracking.get_run(version.run_ids[-1]).params if version and version.run_ids else None
    except QuarterdeckError:
        return None  # no store here, as in CI: the checkout's own history is asked instead
    if version is None or params is None:
        return None
    refuse = params.get("refuse_below", "never")
    former = Prompt(
        name=version.name,
        version=params.get("version", str(version.version)),
        description="",
        text=version.text,
        top_k=int(params.get("top_k", candidate.top_k)),
        max_sentences=int(params.get("max_sentences", candidate.max_sentences)),
        refuse_below=None if refuse == "never" else float(refuse),
    )
    return PromptSource(former, "in production")


def _from_merge_base(path: Path, base: str | None) -> PromptSource | None:
    """Return the same file as it was before the branch, in whatever repository the file is."""
    folder = (PROJECT / path).parent
    commit = _merge_base(base, folder)
    if commit is None:
        return None
    text = _git("show", f"{commit}:./{path.name}", folder=folder)
    return PromptSource(parse_prompt(text, source=f"{path} at {commit[:9]}"), f"at {commit[:9]}") if text else None


def _changed_files(base: str | None) -> list[Path]:
    commit = _merge_base(base)
    if commit is None:
        return []
    listed = _git("diff", "--name-only", "--relative", commit, "--", PROMPTS) or ""
    new = _git("ls-files", "--others", "--exclude-standard", "--", PROMPTS) or ""
    return [Path(line) for line in dict.fromkeys((listed + new).splitlines())]


def _merge_base(base: str | None, folder: Path = PROJECT) -> str | None:
    for name in (base,) if base else _BASES:
        if found := _git("merge-base", "HEAD", name, folder=folder):
            return found.strip()
    if base:
        raise SourceUnavailable(f"git knows no merge base with {base!r}; fetch it: git fetch --unshallow origin")
    return None


def _git(*arguments: str, folder: Path = PROJECT) -> str | None:
    """Return what git prints in a folder, or None when it fails: no repository, no such commit, no such file."""
    try:
        done = subprocess.run(
            ("git", *arguments), cwd=folder, capture_output=True, text=True, check=False, encoding="utf-8"
        )
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def _read_thresholds(files: Files) -> Thresholds:
    return parse_thresholds(read_text(files.thresholds, below=PROJECT), source=str(files.thresholds))


def _read_cases(files: Files) -> tuple[Case, ...]:
    return parse_cases(read_text(files.cases, below=PROJECT), source=str(files.cases))
