"""Gateway to language models over the OpenAI or the Anthropic protocol: a text in, a text with its token counts out.

Speaks through the official libraries, which are optional extras. Retries within bounds; what goes wrong with one
question is a ModelFailure in one line that holds no key.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from core.errors import InvalidInput, SourceUnavailable
from core.prompts.prices import Price, compute_cost_usd, estimate_tokens
from core.prompts.spending import Budget

ATTEMPTS = 4
LONGEST_WAIT_SECONDS = 60.0
TIMEOUT_SECONDS = 60.0
MAX_TOKENS = 1_024
_RETRIED = frozenset((408, 409, 425, 429))
_KEY_LIKE = re.compile(r"\b(?:sk|key|pk)-[\w*-]{6,}|\bBearer\s+\S+", re.IGNORECASE)
_Event = TypeVar("_Event")


class Protocols(StrEnum):
    """The protocol of a model, named like its library and extra."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True)
class Completion:
    """A model's reply, and the tokens that its provider counted."""

    text: str
    input_tokens: int
    output_tokens: int
    latency_ms: float


class ModelFailure(SourceUnavailable):
    """One question got no usable answer; others still may."""


class AccessRefused(SourceUnavailable):
    """The provider refuses this key, so no question will get an answer."""


class Provider(Protocol):
    """One attempt at one question. Raises `Unanswered` on failure."""

    name: str

    def ask(self, text: str, *, max_tokens: int) -> Completion: ...


class Unanswered(Exception):
    """A failed attempt: the reason, whether a retry makes sense, and after how many seconds.

    `cost_known` is False if the provider may bill an unfinished answer.
    """

    def __init__(
        self, problem: str, *, again: bool, wait_seconds: float | None = None, cost_known: bool = True
    ) -> None:
        super().__init__(problem)
        self.again = again
        self.wait_seconds = wait_seconds
        self.cost_known = cost_known


class LanguageModel:
    """Asks one model with retries and within a budget: up to four attempts, waiting as long as the provider asks.

    Raises ModelFailure when no attempt gave an answer, AccessRefused for a refused key, and CeilingReached (of
    `core.prompts.spending`) before an attempt that the budget does not allow.
    """

    def __init__(
        self, provider: Provider, price: Price, *, budget: Budget, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.name = provider.name
        self.price = price
        self._provider = provider
        self._budget = budget
        self._sleep = sleep

    def complete(self, text: str, *, max_tokens: int = MAX_TOKENS) -> Completion:
        """Return the model's answer to `text`."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._attempt(text, max_tokens)
            except Unanswered as failure:
                wait = failure.wait_seconds if failure.wait_seconds is not None else 0.5 * 2 ** (attempt - 1)
                if not failure.again or attempt == ATTEMPTS:
                    tried = f" ({attempt} attempts)" if attempt > 1 else ""
                    raise ModelFailure(f"{self.name} {failure}{tried}") from None
                if wait > LONGEST_WAIT_SECONDS:
                    raise ModelFailure(f"{self.name} {failure} and asks to wait {wait:.0f} s") from None
                self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def cost_usd(self, *, input_tokens: int, output_tokens: int) -> float:
        """Return the cost of these tokens, in USD."""
        return compute_cost_usd(
            {self.name: self.price}, self.name, input_tokens=input_tokens, output_tokens=output_tokens
        )

    def _attempt(self, text: str, max_tokens: int) -> Completion:
        # A tokenizer never makes more tokens than bytes, and twice the estimate is generous for prose.
        most = min(len(text.encode()), 2 * estimate_tokens(text)) + 50
        dearest = self.cost_usd(input_tokens=most, output_tokens=max_tokens)
        with self._budget.expense(at_most_usd=dearest) as expense:
            try:
                done = self._provider.ask(text, max_tokens=max_tokens)
            except Unanswered as failure:
                expense.spent_usd = 0.0 if failure.cost_known else dearest
                raise
            except AccessRefused:
                expense.spent_usd = 0.0
                raise
            expense.spent_usd = self.cost_usd(input_tokens=done.input_tokens, output_tokens=done.output_tokens)
        if not done.text.strip():
            raise Unanswered("gave an empty answer", again=True)
        return done


def open_model(
    protocol: Protocols,
    name: str,
    *,
    prices: Mapping[str, Price],
    budget: Budget,
    base_url: str | None = None,
    environ: Mapping[str, str] = os.environ,
    timeout_seconds: float = TIMEOUT_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> LanguageModel:
    """Return the model `name`; nothing is sent yet.

    The key is OPENAI_API_KEY or ANTHROPIC_API_KEY; your own server, at `base_url`, may need none.
    Raises InvalidInput for a model without a price or a missing key, SourceUnavailable for a missing library.
    """
    compute_cost_usd(prices, name, input_tokens=0, output_tokens=0)  # raises for a model without a price
    variable = f"{protocol.value.upper()}_API_KEY"
    key = environ.get(variable) or ("none" if base_url else "")
    if not key:
        raise InvalidInput(variable, f"is not set: the answerer {protocol.value!r} needs a key")
    kind = OpenAIProvider if protocol is Protocols.OPENAI else AnthropicProvider
    provider = kind(name, key=key, base_url=base_url, timeout_seconds=timeout_seconds)
    return LanguageModel(provider, prices[name], budget=budget, sleep=sleep)


class OpenAIProvider:
    """A model behind the chat completions protocol: OpenAI's, or any compatible server."""

    def __init__(self, name: str, *, key: str, base_url: str | None, timeout_seconds: float) -> None:
        self._sdk = _load(Protocols.OPENAI)
        self.name = name
        self._key = key
        self._timeout_seconds = timeout_seconds
        # OpenAI's newer models reject max_tokens; other servers often know nothing else.
        self._limit = "max_tokens" if base_url else "max_completion_tokens"
        self._client = self._sdk.OpenAI(api_key=key, base_url=base_url, timeout=timeout_seconds, max_retries=0)

    def ask(self, text: str, *, max_tokens: int) -> Completion:
        """Return the answer to one user message, read as a stream."""
        start = time.monotonic()
        said: list[str] = []
        finish, usage = "", None
        with _explained(self._sdk, self._key):
            stream = self._client.chat.completions.create(
                model=self.name,
                messages=[{"role": "user", "content": text}],
                stream=True,
                stream_options={"include_usage": True},
                **{self._limit: max_tokens},
            )
            for chunk in _until(start + self._timeout_seconds, stream):
                usage = chunk.usage or usage
                for choice in chunk.choices or ():
                    said.append(choice.delta.content or "")
                    finish = choice.finish_reason or finish
        _check_end(finish, filtered=finish == "content_filter")
        if usage is None:
            raise Unanswered("reported no token usage, so its cost is unknown", again=False, cost_known=False)
        return Completion("".join(said), usage.prompt_tokens, usage.completion_tokens, _since_ms(start))


class AnthropicProvider:
    """A model behind the messages protocol."""

    def __init__(self, name: str, *, key: str, base_url: str | None, timeout_seconds: float) -> None:
        self._sdk = _load(Protocols.ANTHROPIC)
        self.name = name
        self._key = key
        self._timeout_seconds = timeout_seconds
        self._client = self._sdk.Anthropic(api_key=key, base_url=base_url, timeout=timeout_seconds, max_retries=0)

    def ask(self, text: str, *, max_tokens: int) -> Completion:
        """Return the answer to one user message, read as a stream."""
        start = time.monotonic()
        said: list[str] = []
        finish, tokens_in, tokens_out = "", None, None
        with _explained(self._sdk, self._key):
            stream = self._client.messages.create(
                model=self.name, messages=[{"role": "user", "content": text}], max_tokens=max_tokens, stream=True
            )
            for event in _until(start + self._timeout_seconds, stream):
                if event.type == "message_start":
                    tokens_in = event.message.usage.input_tokens
                elif event.type == "content_block_delta" and event.delta.type == "text_delta":
                    said.append(event.delta.text)
                elif event.type == "message_delta":
                    tokens_out = event.usage.output_tokens
                    finish = event.delta.stop_reason or finish
        _check_end(finish, filtered=finish == "refusal")
        if tokens_in is None or tokens_out is None:
            raise Unanswered("reported no token usage, so its cost is unknown", again=False, cost_known=False)
        return Completion("".join(said), tokens_in, tokens_out, _since_ms(start))


def _load(protocol: Protocols) -> Any:
    """Return the official library of a protocol; importing it takes 1 s."""
    import importlib

    try:
        return importlib.import_module(protocol.value)
    except ModuleNotFoundError as error:
        raise SourceUnavailable(
            f"the answerer {protocol.value!r} needs another package. Run: pip install 'quarterdeck[{protocol.value}]'"
        ) from error


def _until(deadline: float, stream: Iterable[_Event]) -> Iterator[_Event]:
    """Pass on a stream until the deadline; a timeout per read would never end a slow trickle."""
    for event in stream:
        if time.monotonic() > deadline:
            raise Unanswered("took too long to finish its answer", again=True, cost_known=False)
        yield event


def _check_end(finish: str, *, filtered: bool) -> None:
    if not finish:
        raise Unanswered("broke off in the middle of its answer", again=True, cost_known=False)
    if filtered:
        raise Unanswered("was stopped by its provider's content filter", again=False, cost_known=False)


@contextmanager
def _explained(sdk: Any, key: str) -> Iterator[None]:
    """Convert a library's exceptions to `Unanswered`, or to AccessRefused for all questions."""
    import httpx2

    try:
        yield
    except sdk.APITimeoutError:
        raise Unanswered("did not answer in time", again=True, cost_known=False) from None
    except sdk.APIStatusError as error:
        raise _from_status(error, key) from None
    except sdk.APIConnectionError:
        raise Unanswered("could not be reached, or broke the connection", again=True, cost_known=False) from None
    except sdk.APIError as error:
        raise Unanswered(f"failed: {_clean(error.message, key)}", again=True, cost_known=False) from None
    except httpx2.TimeoutException:
        raise Unanswered("did not answer in time", again=True, cost_known=False) from None
    except httpx2.HTTPError:
        raise Unanswered("broke off in the middle of its answer", again=True, cost_known=False) from None
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError, ValueError):
        raise Unanswered("sent an answer that is not of its protocol", again=True, cost_known=False) from None


def _from_status(error: Any, key: str) -> Exception:
    status = int(error.status_code)
    reason = _clean(_message(error), key)
    if status in (401, 403):
        return AccessRefused(f"the provider refuses access (HTTP {status}): {reason}. Check the key and its rights")
    if status < 400:  # an error that came inside a stream
        return Unanswered(f"failed: {reason}", again=True, cost_known=False)
    again = status in _RETRIED or status >= 500
    return Unanswered(
        f"answered HTTP {status}: {reason}", again=again, wait_seconds=_wait_seconds(error.response.headers)
    )


def _message(error: Any) -> str:
    body = error.body
    inner = body.get("error", body) if isinstance(body, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else None
    return message if isinstance(message, str) else "no reason given"


def _clean(text: str, key: str) -> str:
    """Return a provider's message as one short line, with anything that looks like a key masked."""
    if len(key) > 4:
        text = text.replace(key, "***")
    return " ".join(_KEY_LIKE.sub("***", text).split())[:200]


def _wait_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the delay in the Retry-After header (seconds or a date); None without a usable one."""
    text = headers.get("retry-after", "")
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _since_ms(start: float) -> float:
    return (time.monotonic() - start) * 1_000
