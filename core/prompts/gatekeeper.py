"""Shell: runs the gates. Finds the changed prompts and their baseline, and evaluates both offline.

The index is built in a temporary folder from the corpus in the checkout. `gates.py` decides the verdict.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from core.config import PROJECT, Config
from core.errors import InvalidInput, QuarterdeckError, SourceUnavailable
from core.prompts.bench import ask_git, build_bench, open_embedder, read_corpora, read_stored_cases, read_text
from core.prompts.evaluate import evaluate_offline
from core.prompts.gates import Evaluated, GateReport, Thresholds, check_cost, check_prompt, parse_thresholds
from core.prompts.prices import parse_prices
from core.prompts.prompts import Prompt, parse_prompt
from core.prompts.registered import settle_prompt
from core.tracking.cases import Case, parse_cases
from core.tracking.gateway import Tracking

PROMPTS = "data/demo/prompts"
_BASES = ("origin/main", "main")
logger = logging.getLogger("quarterdeck")


@dataclass(frozen=True, slots=True)
class Files:
    """The files that the gates read, relative to the checkout. A `case_set` of the store replaces the file of cases."""

    cases: Path = Path("data/demo/cases/qa.jsonl")
    case_set: str = ""
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
    """Return a report for each prompt file; by default, for those changed since `base`, or the newest ones.

    A prompt is compared with `baseline`; by default with the production version, else with the same file at the merge
    base with `base`, else with the file named in the thresholds. Raises what reading and evaluating raises.
    """
    files = files or Files()
    thresholds, cases = _read_thresholds(files), _read_cases(config, files)
    pairs = []
    for path in prompts or find_prompts(base):
        prompt = read_prompt(path)
        baseline_and_why = _find_baseline(
            config, path, prompt, given=baseline, base=base, thresholds=thresholds, folder=files.thresholds.parent
        )
        pairs.append((prompt, *baseline_and_why))
    wanted = [prompt for candidate, former, _ in pairs for prompt in (candidate, former) if prompt]
    done = _evaluate(config, files, [w.prompt for w in wanted], cases)
    found = dict(zip(map(id, wanted), done, strict=True))
    reports = []
    for candidate, former, why in pairs:
        then = replace(found[id(former)], origin=former.origin) if former else None
        report = check_prompt(found[id(candidate)], cases, thresholds, baseline=then)
        reports.append(replace(report, notes=(*report.notes, *why)))
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
    """Return a report on the cost of an average query for each prompt file, chosen as in `run_prompt_gate`."""
    files = files or Files()
    thresholds, cases = _read_thresholds(files), _read_cases(config, files)
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
    """Return the prompt files that differ from the merge base with `base`; if none does, the newest of each prompt.

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
        raise InvalidInput("prompts", f"there are no prompt files (*.md) under {PROMPTS}")
    return tuple(path for _, path in newest.values())


def list_prompt_files() -> tuple[tuple[Path, Prompt], ...]:
    """Return the prompt files of the checkout with their prompts; files that are none are left out."""
    found = []
    for full in sorted((PROJECT / PROMPTS).rglob("*.md")):
        with suppress(InvalidInput):
            path = full.relative_to(PROJECT)
            found.append((path, read_prompt(path).prompt))
    return tuple(found)


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
) -> tuple[PromptSource | None, tuple[str, ...]]:
    """Return what to compare with, and a note where that is not what would have come first."""
    if given:
        return replace(read_prompt(given), origin=given.name), ()
    notes: tuple[str, ...] = ()
    try:
        found = _from_production(config, candidate.prompt)
    except QuarterdeckError as error:  # no store here, as in CI: the checkout's own history is asked instead
        notes = (f"Not compared with the prompt in production, which could not be read: {error}",)
        logger.warning("gate: %s is not compared with the prompt in production: %s", path, error)
        found = None
    found = found or _from_merge_base(path, base)
    if found is None and thresholds.baseline:
        found = replace(read_prompt(folder / thresholds.baseline), origin="named by the thresholds")
    return found, notes


def _from_production(config: Config, candidate: Prompt) -> PromptSource | None:
    """Return the version behind MLflow's alias `production`, with the settings of its run.

    None if no version with a run is in production. Raises what reading MLflow raises.
    """
    tracking = Tracking(config.tracking_uri)
    version = tracking.production_version(candidate.name)
    if version is None or not version.run_ids:
        return None
    return PromptSource(settle_prompt(tracking, version, replace(candidate, refuse_below=None)), "in production")


def _from_merge_base(path: Path, base: str | None) -> PromptSource | None:
    """Return the same file at the merge base of the branch, in the file's own repository."""
    folder = (PROJECT / path).parent
    commit = _merge_base(base, folder)
    if commit is None:
        return None
    text = ask_git("show", f"{commit}:./{path.name}", folder=folder)
    return PromptSource(parse_prompt(text, source=f"{path} at {commit[:9]}"), f"at {commit[:9]}") if text else None


def _changed_files(base: str | None) -> list[Path]:
    commit = _merge_base(base)
    if commit is None:
        return []
    listed = ask_git("diff", "--name-only", "--relative", commit, "--", PROMPTS) or ""
    new = ask_git("ls-files", "--others", "--exclude-standard", "--", PROMPTS) or ""
    return [Path(line) for line in dict.fromkeys((listed + new).splitlines())]


def _merge_base(base: str | None, folder: Path = PROJECT) -> str | None:
    for name in (base,) if base else _BASES:
        if found := ask_git("merge-base", "HEAD", name, folder=folder):
            return found.strip()
    if base:
        raise SourceUnavailable(f"git knows no merge base with {base!r}; fetch it: git fetch --unshallow origin")
    return None


def _read_thresholds(files: Files) -> Thresholds:
    return parse_thresholds(read_text(files.thresholds, below=PROJECT), source=str(files.thresholds))


def _read_cases(config: Config, files: Files) -> tuple[Case, ...]:
    if files.case_set:
        return read_stored_cases(config, files.case_set).plain
    return parse_cases(read_text(files.cases, below=PROJECT), source=str(files.cases))
