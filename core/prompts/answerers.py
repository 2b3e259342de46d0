"""Shell: the answerers. Turns a prompt and a question into an answer, by copying sentences or through a model's API.

Retrieval comes in as a function, so any index can stand behind it; `judges.py` judges the answer.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.embedding.embed import Embedder
from core.prompts import answers
from core.prompts.answers import Answer
from core.prompts.models import LanguageModel
from core.prompts.prices import Price, compute_cost_usd, estimate_tokens
from core.prompts.prompts import Prompt, render_prompt
from core.tracking.cases import Case

# How many passages beyond the context stand in for a model's memory, when the prompt does not forbid its use.
MEMORY_PASSAGES = 20


class ContextPassage(Protocol):
    """A search hit: any object with these three. `score` is its cosine similarity with the question."""

    @property
    def document(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def score(self) -> float: ...


Search = Callable[[str, int], Sequence[ContextPassage]]
Pipeline = Callable[[Case], Answer]
Vector = NDArray[np.float32]


class SentenceVectors:
    """The vectors of sentences, embedded once each: prompts over the same index meet the same sentences again."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, Vector] = {}
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        """The name of the embedding model."""
        return self._embedder.model

    def learn(self, texts: Sequence[str]) -> None:
        """Embed those of the texts that are not known yet, all at once: by far cheaper than one by one."""
        with self._lock:
            missing = [text for text in dict.fromkeys(texts) if text not in self._known]
            if missing:
                self._known.update(zip(missing, self._embedder.embed(missing), strict=True))

    def get(self, text: str) -> Vector:
        """Return the vector of a text."""
        self.learn((text,))
        return self._known[text]

    def similarities(self, text: str, others: Sequence[str]) -> list[float]:
        """Return the cosine of `text` with each of `others`."""
        self.learn((text, *others))
        if not others:
            return []
        matrix = np.stack([self._known[other] for other in others])
        return [float(cosine) for cosine in matrix @ self._known[text]]


def extractive_pipeline(
    prompt: Prompt, *, search: Search, vectors: SentenceVectors, prices: Mapping[str, Price]
) -> Pipeline:
    """Return the offline pipeline of a prompt: retrieve, then answer with the sentences nearest to the question.

    A prompt that tells the answerer to keep to the context (`Prompt.is_grounded`) gets exactly that: sentences of its
    `top_k` passages, and a refusal when the best is below `refuse_below`. A prompt that does not say so never
    refuses, and may also draw on what the answerer "remembers": sentences of the next 20 passages of the index, which
    were not put before it. That is a mechanical stand-in for a model that fills in from memory. It is honest in the one
    respect that matters here: such sentences are not in the retrieved context, and faithfulness falls by itself.
    """

    def answer(case: Case) -> Answer:
        passages = search(case.question, passages_wanted(prompt))
        shown, remembered = passages[: prompt.top_k], passages[prompt.top_k :]
        context = list_sentences(shown)
        candidates = tuple(dict.fromkeys(context + list_sentences(remembered)))
        chosen = answers.choose_sentences(
            vectors.similarities(case.question, candidates),
            max_sentences=prompt.max_sentences,
            refuse_below=prompt.refuse_below if prompt.is_grounded else None,
        )
        sentences = tuple(candidates[i] for i in chosen)
        tokens_in = estimate_tokens(_render(prompt, case, shown))
        tokens_out = estimate_tokens(" ".join(sentences) or answers.REFUSAL)
        return Answer(
            sentences=sentences,
            refused=not sentences,
            documents=tuple(dict.fromkeys(p.document for p in shown)),
            context=context,
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            cost_usd=compute_cost_usd(
                prices, answers.EXTRACTIVE_MODEL, input_tokens=tokens_in, output_tokens=tokens_out
            ),
            passages=tuple(p.text for p in shown),
        )

    return answer


def model_pipeline(prompt: Prompt, *, search: Search, model: LanguageModel) -> Pipeline:
    """Return the pipeline that puts the prompt, with its `top_k` passages, to a language model.

    What `max_sentences` and `refuse_below` stand for is up to the prompt's own words here. An answer counts as a
    refusal when its first sentence says so (`core.prompts.answers.is_refusal`). Raises what `LanguageModel.complete`
    raises.
    """

    def answer(case: Case) -> Answer:
        shown = search(case.question, prompt.top_k)
        done = model.complete(_render(prompt, case, shown))
        said = done.text.strip()
        refused = answers.is_refusal(said)
        return Answer(
            sentences=() if refused else answers.split_sentences(said) or (" ".join(said.split()),),
            refused=refused,
            documents=tuple(dict.fromkeys(p.document for p in shown)),
            context=list_sentences(shown),
            input_tokens=done.input_tokens,
            output_tokens=done.output_tokens,
            cost_usd=model.cost_usd(input_tokens=done.input_tokens, output_tokens=done.output_tokens),
            latency_ms=done.latency_ms,
            said=said,
            passages=tuple(p.text for p in shown),
        )

    return answer


def passages_wanted(prompt: Prompt) -> int:
    """Return how many passages the offline pipeline asks the search for."""
    return prompt.top_k + (0 if prompt.is_grounded else MEMORY_PASSAGES)


def list_sentences(passages: Sequence[ContextPassage]) -> tuple[str, ...]:
    """Return the sentences of the passages, each once, in order."""
    found = (sentence for passage in passages for sentence in answers.split_sentences(passage.text))
    return tuple(dict.fromkeys(found))


def _render(prompt: Prompt, case: Case, shown: Sequence[ContextPassage]) -> str:
    return render_prompt(prompt, context="\n\n".join(p.text for p in shown), question=case.question)
