"""Rule that decides whether a new index may go live: what was found in it, in; passed or not with reasons, out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.errors import InvalidInput

_SAME = 0.99  # a passage that is searched by its own text
_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class ProbeLimits:
    """What an index has to reach.

    `golden_share`: of the golden queries, how many find an expected document among the first `top_k`. `recall`: of the
    live index's hits that the new index holds too, how many it finds, or finds better ones in their place.
    `score_drop`: by how much the mean top-1 score of recent queries may fall.
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
    """A query, and the documents of which at least one has to be found."""

    text: str
    documents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """What the rule needs of a search hit."""

    document: str
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class ProbeCheck:
    """One thing that was looked at. `measured` is None when there was nothing to look at, which is no failure."""

    name: str
    passed: bool
    measured: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """Whether the index may go live. `missed` holds the golden queries that did not find their documents."""

    index_name: str
    checks: tuple[ProbeCheck, ...]
    missed: tuple[GoldenQuery, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def summary(self) -> str:
        """One line: what failed, or what was looked at."""
        if self.passed:
            return f"passed: {', '.join(check.name for check in self.checks if check.measured is not None)}"
        return "failed: " + "; ".join(check.reason for check in self.checks if not check.passed)


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """The last probe of an index: what came out, beside which live index, and when."""

    report: ProbeReport
    live: str | None
    probed: datetime


def parse_probe(stored: Mapping[str, Any]) -> ProbeRecord:
    """Return the record that `dataclasses.asdict` made a dictionary of, its time as ISO text."""
    report = stored["report"]
    return ProbeRecord(
        ProbeReport(
            report["index_name"],
            tuple(ProbeCheck(**check) for check in report["checks"]),
            tuple(GoldenQuery(query["text"], tuple(query["documents"])) for query in report["missed"]),
        ),
        stored["live"],
        datetime.fromisoformat(stored["probed"]),
    )


def check_count(found: int, registered: int) -> ProbeCheck:
    """Tell whether the index holds as many chunks as it was registered with."""
    return ProbeCheck(
        "complete", found == registered and found > 0, float(found), f"{found:,} of {registered:,} chunks are there"
    )


def check_passages(texts: Sequence[str], hits: Sequence[Sequence[Hit]]) -> ProbeCheck:
    """Tell whether passages of the index, searched by their own text, are found with a score of nearly 1.

    It shows an index whose vectors belong to other texts, or to another model.
    """
    lost = [
        text
        for text, found in zip(texts, hits, strict=True)
        if not any(hit.text == text and hit.score >= _SAME for hit in found)
    ]
    share = 1 - len(lost) / len(texts) if texts else None
    said = f"{len(texts) - len(lost)} of {len(texts)} passages find themselves"
    return ProbeCheck("passages", bool(texts) and not lost, share, said)


def check_golden(
    golden: Sequence[GoldenQuery], hits: Sequence[Sequence[Hit]], limits: ProbeLimits
) -> tuple[ProbeCheck, tuple[GoldenQuery, ...]]:
    """Tell whether enough golden queries find one of their documents, and return those that do not.

    A document is found under its name or under a longer path that ends with it.
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
    named = f", for example not {missed[0].text!r}" if missed else ""
    return ProbeCheck("golden set", enough, share, f"{said} ({limits.golden_share:.0%} are needed){named}"), missed


def check_recall(
    live: Sequence[Sequence[Hit]], new: Sequence[Sequence[Hit]], held: Collection[str], limits: ProbeLimits
) -> ProbeCheck:
    """Tell whether the new index finds what the live one finds, for the same queries.

    Counts the live hits whose text the new index holds too (`held`). One is found when it is among the new hits, or
    when all of these score at least as high: then better passages took its place.
    """
    wanted = found = 0
    for before, after in zip(live, new, strict=True):
        texts = {hit.text for hit in after[: limits.top_k]}
        worst = min((hit.score for hit in after[: limits.top_k]), default=-1.0)
        considered = [hit for hit in before[: limits.top_k] if hit.text in held]
        wanted += len(considered)
        found += sum(hit.text in texts or worst >= hit.score - _ROUNDING for hit in considered)
    if not wanted:
        return ProbeCheck("recall", True, None, "there is nothing in both indexes to compare")
    share = found / wanted
    said = f"{share:.1%} of the live index's hits are found ({limits.recall:.0%} are needed)"
    return ProbeCheck("recall", share >= limits.recall, share, said)


def check_scores(live: Sequence[Sequence[Hit]], new: Sequence[Sequence[Hit]], limits: ProbeLimits) -> ProbeCheck:
    """Tell whether the mean top-1 score of the same queries holds; an empty hit list counts as 0."""
    if not live:
        return ProbeCheck("scores", True, None, "there are no recent queries to compare")
    before, after = (sum(found[0].score if found else 0.0 for found in hits) / len(hits) for hits in (live, new))
    said = f"the mean score of recent queries goes from {before:.3f} to {after:.3f}"
    return ProbeCheck("scores", after >= before - limits.score_drop, after - before, said)


def _is_same(document: str, wanted: str) -> bool:
    return document == wanted or document.endswith(f"/{wanted}")
