"""Shell: erases what is known about one user or session, everywhere in the store and the log, with its audit entry.

What is added to the store later and holds a user's text belongs here too. The trail names nobody: it holds a hash.
"""

import hashlib
from dataclasses import asdict, dataclass

from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.cases.forgetting import count_cases, forget_cases
from core.coverage.backlog import count_named_after, forget_labels
from core.coverage.exclusions import count_exclusions, forget_exclusions
from core.embedding.vectors import VectorCache, forget_vectors
from core.log.subjects import DataSubject, Traces, count_reports, delete_everything, find_traces, list_own_texts
from core.predictions.forgetting import count_mentions, forget_texts
from core.questions.forgetting import count_views, forget_views
from quarterdeck.store import Store


@dataclass(frozen=True, slots=True)
class Erasure:
    """What there is to erase of one user or session.

    `rows` of the log, `scores` of them, `exposures` and `events` of clients, `spans` of traces that are still open,
    `examples` of refused input that name the id; places in `reviews`, reviewers' `labels`, `judgments` of answers; and
    of texts that nobody else asked, the cached `vectors`, the queries in saved `predictions`, the `topics` that are
    called so and the `exclusions` from topics. `cases` are evaluation cases that were made of one of the questions, or
    have one of those texts, now or in a former version. `views` are saved filters by the id, or by such a question.
    """

    rows: int
    scores: int
    exposures: int
    events: int
    spans: int
    examples: int
    vectors: int
    predictions: int
    topics: int
    reviews: int = 0
    labels: int = 0
    judgments: int = 0
    exclusions: int = 0
    cases: int = 0
    views: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return sum(asdict(self).values())


def hash_subject(subject: DataSubject) -> str:
    """Return what the audit trail calls a data subject: the SHA-256 of its id, in hexadecimal."""
    return hashlib.sha256(subject.id.encode()).hexdigest()


def preview_erasure(store: Store, subject: DataSubject) -> Erasure:
    """Return what an erasure would remove. Raises SourceUnavailable."""
    traces = find_traces(store, subject)
    return _count(store, subject, traces, list_own_texts(store, subject, traces.texts))


def erase(store: Store, subject: DataSubject, by: Act) -> Erasure:
    """Remove everything that the preview counts; return it.

    Rollups stay: they hold no text and no user. Rows that arrive during the erasure need another one. The audit entry
    holds the counts and the hash of the id. Raises SourceUnavailable, and Forbidden for anybody but an admin
    everywhere.
    """
    traces = find_traces(store, subject)
    own = list_own_texts(store, subject, traces.texts)
    found = _count(store, subject, traces, own)
    with changing(store, by) as change:
        counts = {name: count for name, count in asdict(found).items() if count}
        change.record(Action.LOG_ERASE, f"sha256:{hash_subject(subject)}", counts, None)
        forget_vectors(change.connection, own)
        forget_texts(change.connection, own)
        forget_labels(change.connection, own)
        forget_exclusions(change.connection, own)
        forget_cases(change.connection, traces.retrieval_ids, own)
        forget_views(change.connection, subject, traces, own)
        delete_everything(store, change.connection, subject, traces)
    return found


def _count(store: Store, subject: DataSubject, traces: Traces, own: list[str]) -> Erasure:
    vectors = VectorCache(store).count(own)
    named = count_named_after(store, own)
    counts = {
        "rows": traces.rows, "vectors": vectors, "predictions": count_mentions(store, own), "topics": named,
        "exclusions": count_exclusions(store, own), "cases": count_cases(store, traces.retrieval_ids, own),
        "views": count_views(store, subject, traces, own),
    }  # fmt: skip
    return Erasure(**counts, **count_reports(store, subject, traces))
