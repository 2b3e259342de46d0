"""Rule: decides whether a new index may go live, from what searches of it found: passed or not, with reasons."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.errors import InvalidInput
from core.wording.scores import decimals_of

_SAME = 0.99  # the score of a passage searched by its own text
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class ProbeLimits:
    """What an index has to reach.

    `golden_share`: the share of golden queries with an expected document among the first `top_k` hits. `recall`: of the
    live index's hits that the new index also contains, the share that it finds, or replaces by better ones.
    `score_drop`: how much the mean top-1 score of recent queries may fall.
    """

    top_k: int = 5
    golden_share: float = 0.9
    recall: float = 0.95
    score_drop: float = 0.02

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise InvalidInput("top_k", f"{self.top_k} is below 1")
        for name in ("golden_share", "recall", "score_drop"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInput(name, f"{getattr(self, name)} is outside 0..1")


@dataclass(frozen=True, slots=True)
class GoldenQuery:
    """A query, and its documents, at least one of which must be found. `origin` says where it comes from."""

    text: str
    documents: tuple[str, ...]
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """The fields of a search hit that the rule reads."""

    document: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class ProbeCheck:
    """One check. `measured` is None if there was nothing to check, which is not a failure."""

    name: str
    passed: bool
    measured: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """Whether the index may go live. `missed` are the golden queries that did not find their documents."""

    index_name: str
    checks: tuple[ProbeCheck, ...]
    missed: tuple[GoldenQuery, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def summary(self) -> str:
        """One line: what failed, or what was checked."""
        if self.passed:
            return f"passed: {', '.join(check.name for check in self.checks if check.measured is not None)}"
        return "failed: " + "; ".join(check.reason for check in self.checks if not check.passed)


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """The last probe of an index: its result, the live index it was compared with, and the time."""

    report: ProbeReport
    live: str | None
    probed: datetime


def parse_probe(stored: Mapping[str, Any]) -> ProbeRecord:
    """Return the record from its `dataclasses.asdict` form, with the time as ISO text."""
    report = stored["report"]
    return ProbeRecord(
        ProbeReport(
            report["index_name"],
            tuple(ProbeCheck(**check) for check in report["checks"]),
            tuple(
                GoldenQuery(query["text"], tuple(query["documents"]), query.get("origin", ""))
                for query in report["missed"]
            ),
        ),
        stored["live"],
        datetime.fromisoformat(stored["probed"]),
    )


def check_count(found: int, registered: int) -> ProbeCheck:
    """Check that the index has as many chunks as registered."""
    return ProbeCheck(
        "complete", found == registered and found > 0, float(found), f"{found:,} of {registered:,} chunks are there"
    )


def check_passages(texts: Sequence[str], hits: Sequence[Sequence[Hit]]) -> ProbeCheck:
    """Check that passages of the index, searched by their own text, are found with a score of nearly 1.

    Detects an index whose vectors belong to other texts or to another model.
    """
    lost = [
        text
        for text, found in zip(texts, hits, strict=True)
        if not any(hit.text == text and hit.score >= _SAME for hit in found)
    ]
    share = 1 - len(lost) / len(texts) if texts else None
    said = f"{len(texts) - len(lost)} of {len(texts)} passages are found by their own text"
    return ProbeCheck("passages", bool(texts) and not lost, share, said)


def check_golden(
    golden: Sequence[GoldenQuery], hits: Sequence[Sequence[Hit]], limits: ProbeLimits
) -> tuple[ProbeCheck, tuple[GoldenQuery, ...]]:
    """Check that enough golden queries find one of their documents, and return those that do not.

    A document matches by its name or by a longer path that ends with it.
    """
    missed = tuple(
        query
        for query, found in zip(golden, hits, strict=True)
        if not any(_is_same(hit.document, wanted) for hit in found[: limits.top_k] for wanted in query.documents)
    )
    if not golden:
        return ProbeCheck("golden set", True, None, "there is no golden set"), ()
    share = 1 - len(missed) / len(golden)
    said = f"{len(golden) - len(missed)} of {len(golden)} golden queries find their document in the top {limits.top_k}"
    enough = share >= limits.golden_share
    named = f"; one that does not: {missed[0].text!r}" if missed else ""
    said = f"{said} ({limits.golden_share:.0%} required{_say_origins(golden)}){named}"
    return ProbeCheck("golden set", enough, share, said), missed


def check_model(live: str, new: str) -> ProbeCheck:
    """Say that the model changes, so that neither hits nor scores are compared with the live index's."""
    said = f"the model changes from {live} to {new}: readers have to embed with it; hits and scores are not compared"
    return ProbeCheck("model", True, None, said)


def check_recall(
    live: Sequence[Sequence[Hit]], new: Sequence[Sequence[Hit]], held: Collection[str], limits: ProbeLimits
) -> ProbeCheck:
    """Check that the new index finds what the live one finds, for the same queries.

    Counts the live hits whose text is also in the new index (`held`). A hit counts as found if it is among the new
    hits, or if all of these score at least as high, because then better passages replaced it.
    """
    wanted = found = 0
    for before, after in zip(live, new, strict=True):
        texts = {hit.text for hit in after[: limits.top_k]}
        worst = min((hit.score for hit in after[: limits.top_k]), default=-1.0)
        considered = [hit for hit in before[: limits.top_k] if hit.text in held]
        wanted += len(considered)
        found += sum(hit.text in texts or worst >= hit.score - _ROUNDING for hit in considered)
    if not wanted:
        return ProbeCheck("recall", True, None, "the two indexes have nothing in common to compare")
    share = found / wanted
    said = f"{share:.1%} of the live index's hits are found ({limits.recall:.0%} required)"
    return ProbeCheck("recall", share >= limits.recall, share, said)


def check_scores(live: Sequence[Sequence[Hit]], new: Sequence[Sequence[Hit]], limits: ProbeLimits) -> ProbeCheck:
    """Check that the mean top-1 score of the same queries does not fall too far; an empty hit list counts as 0."""
    if not live:
        return ProbeCheck("scores", True, None, "there are no recent questions to compare")
    before, after = (sum(found[0].score if found else 0.0 for found in hits) / len(hits) for hits in (live, new))
    decimals = decimals_of(after - before)
    said = f"the mean score of recent questions goes from {before:.{decimals}f} to {after:.{decimals}f}"
    return ProbeCheck("scores", after >= before - limits.score_drop, after - before, said)


def _say_origins(golden: Sequence[GoldenQuery]) -> str:
    origins = Counter(query.origin for query in golden if query.origin)
    return "".join(f"; {count} of {origin}" for origin, count in origins.items())


def _is_same(document: str, wanted: str) -> bool:
    return document == wanted or document.endswith(f"/{wanted}")
