"""Shell: searches, answers and judges the demo's questions, and logs them as a service does, through the client.

Nothing here is drawn: a question's hits are those of its index, and a rating follows from the answer.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from core.config import Config
from core.demo.traffic import DemoQuestion
from core.embedding.embed import Embedder
from core.indexes.backends import LanceIndexes, Passage
from core.intake.deliveries import Delivery, store_each
from core.intake.judgements import parse_scores
from core.log.scores import SOURCE, apply_scores
from core.prompts.answerers import SentenceVectors, extractive_pipeline, list_sentences, passages_wanted
from core.prompts.judges import find_supported
from core.prompts.prices import Price
from core.prompts.prompts import Prompt
from core.tracking.cases import Case
from quarterdeck import Quarterdeck
from quarterdeck.clock import to_ms
from quarterdeck.redaction import redact
from quarterdeck.store import Store

TOP_K = 5  # passages of a search
HELPFUL = 0.5  # similarity of an answer's best sentence with the question, from which on its user is content


class AskedOf(NamedTuple):
    """What decides a reply: the index that is searched, the text, and the prompt ("" where nothing is answered)."""

    index_version: str
    text: str
    prompt: str

    @classmethod
    def of(cls, question: DemoQuestion) -> "AskedOf":
        """Return what decides the reply to a question."""
        return cls(question.index_version, question.text, question.prompt_version or "")


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a question: the documents found, each with its best passage's similarity, and the answer's cost.

    `faithfulness` is None for a refusal, because unlabeled questions do not tell whether it was right. `feedback` is
    what a user who rates the answer gives: -1 for a refusal and where no sentence is near the question, else 1.
    """

    hits: tuple[tuple[str, float], ...]
    cost_usd: float | None = None
    faithfulness: float | None = None
    feedback: int | None = None


def reply_to_all(
    config: Config,
    embedder: Embedder,
    questions: Iterable[DemoQuestion],
    *,
    prompts: Sequence[Prompt],
    prices: Mapping[str, Price],
) -> dict[AskedOf, Reply]:
    """Return the reply to each different question: a real search and, with a prompt, a real offline answer."""
    indexes, vectors = LanceIndexes(config.index_uri), SentenceVectors(embedder)
    replies: dict[AskedOf, Reply] = {}
    for index, group in groupby(sorted({AskedOf.of(each) for each in questions}), key=attrgetter("index_version")):
        asked = list(group)
        texts = sorted({each.text for each in asked})
        found = dict(zip(texts, indexes.search(index, embedder.embed(texts), top_k=TOP_K), strict=True))
        replies |= {each: Reply(list_documents(found[each.text])) for each in asked if not each.prompt}
        replies |= _answer([each for each in asked if each.prompt], found, vectors, prompts=prompts, prices=prices)
    return replies


def list_documents(passages: Iterable[Passage]) -> tuple[tuple[str, float], ...]:
    """Return the documents of passages that are sorted by similarity, each once, with its best passage's."""
    best: dict[str, float] = {}
    for passage in passages:
        best.setdefault(passage.document, passage.score)
    return tuple(best.items())


def log_traffic(
    config: Config, store: Store, questions: Sequence[DemoQuestion], replies: Mapping[AskedOf, Reply], *, now: datetime
) -> int:
    """Log every question through the client of its service, then the ratings that came by now; return their number."""
    ratings: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        for scope in sorted({each.scope for each in questions}):
            with Quarterdeck(
                config.database_url,
                config.log_url,
                environment=scope.environment,
                service=scope.service,
                strict=True,
                snapshot_path=Path(folder) / "snapshot.json",
            ) as deck:
                asked = (each for each in questions if each.scope == scope)
                ratings += _log(deck, asked, replies, model=config.embedding_model, now=now)
    _rate(store, ratings, now=now)
    return len(ratings)


def _answer(
    asked: Sequence[AskedOf],
    found: Mapping[str, Sequence[Passage]],
    vectors: SentenceVectors,
    *,
    prompts: Sequence[Prompt],
    prices: Mapping[str, Price],
) -> Iterator[tuple[AskedOf, Reply]]:
    """Yield the reply to each question with an answer under its prompt."""
    most = max(map(passages_wanted, prompts))
    read = [found[text][:most] for text in sorted({each.text for each in asked})]
    vectors.learn([*(each.text for each in asked), *list_sentences([hit for hits in read for hit in hits])])
    answerers = {
        f"v{prompt.version}": extractive_pipeline(
            prompt, search=lambda text, k: found[text][:k], vectors=vectors, prices=prices
        )
        for prompt in prompts
    }
    for each in asked:
        answer = answerers[each.prompt](Case(each.text, each.text, (), "", answerable=True))
        supported = find_supported(answer, vectors)
        nearest = max(vectors.similarities(each.text, answer.sentences), default=0.0)
        yield (
            each,
            Reply(
                list_documents(found[each.text]),
                answer.cost_usd,
                sum(supported) / len(supported) if supported else None,
                1 if nearest >= HELPFUL else -1,
            ),
        )


def _log(
    deck: Quarterdeck,
    questions: Iterable[DemoQuestion],
    replies: Mapping[AskedOf, Reply],
    *,
    model: str,
    now: datetime,
) -> Iterator[dict[str, Any]]:
    """Log questions as their service would have; yield the ratings of their answers."""
    for asked in questions:
        reply = replies[AskedOf.of(asked)]
        name = deck.log_retrieval(
            asked.text,
            documents=[(document, score) for document, score in reply.hits if score >= asked.floor],
            session_id=asked.session_id,
            user_id=asked.user_id,
            arm=asked.arm,
            prompt_version=asked.prompt_version,
            index_version=asked.index_version,
            model=model,
            attributes=asked.attributes,
            cost_usd=reply.cost_usd,
            faithfulness=reply.faithfulness,
            ts=asked.ts,
        )
        if asked.rated_after and asked.ts + asked.rated_after <= now:
            yield {
                "retrieval_id": name,
                "name": "feedback",
                "value": reply.feedback,
                "source": "user",
                "ts": (asked.ts + asked.rated_after).isoformat(),
                "environment": asked.scope.environment,
                "service": asked.scope.service,
            }


def _rate(store: Store, ratings: Sequence[dict[str, Any]], *, now: datetime) -> None:
    """Store ratings as `POST /v1/scores` does, and add them to the rollups of their rows."""
    parsed = parse_scores(ratings, read_time=lambda given: datetime.fromisoformat(str(given)), redact=redact)
    assert not parsed.refused, parsed.refused
    (answer,) = store_each(store, [Delivery(SOURCE, (), parsed.scores)], now_ms=to_ms(now))
    if isinstance(answer, Exception):
        raise answer
    apply_scores(store, now_ms=to_ms(now))
