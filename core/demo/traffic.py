"""Rule: draws who asks which question when, in which service, and who rates the answer: all that is simulated.

The generator is seeded. What a question finds, how it is answered and how it is rated is not drawn, see `replies`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from quarterdeck.flags import FlagSet
from quarterdeck.scope import Scope, make_scope

CHAT, SEARCH = "docs-chat", "search-box"
STAGING = "staging"
DAYS = 37
CANARY_DAYS, TRIAL_DAYS, NEXT_INDEX_DAYS = 4, 12, 2  # since when: the canary, prompt v3, the index of corpus v2
LIVE, TRIED = "v2", "v3"  # the prompt in production, and the one rolled out by a flag
LIVE_INDEX, NEXT_INDEX = "docs-v1", "docs-v2"
TENANT = "tenant"
# The search box shows no hit that is less similar than a floor. Yesterday's release raised it by mistake.
FLOOR, WRONG_FLOOR = 0.3, 0.7

_SEED = 20_26
_CHATS, _SEARCHES, _TESTS = 330, 90, 40  # questions on a working day
_WEEKEND, _WEEKEND_TESTS = 0.45, 0.25
_NEW_TOPIC_SHARE = 0.45
_TENANTS = ("acme",) * 5 + ("borealis",) * 3 + ("cobalt",) * 2
_RATED_SHARE, _RATED_AT_ONCE = 0.08, 0.7
_LONGEST_SEARCH = 5  # words


@dataclass(frozen=True, slots=True)
class DemoQuestion:
    """A question that somebody asked, and what served it.

    Hits below `floor` are not shown. `rated_after` is the time until the user rated the answer; None if nobody did.
    """

    scope: Scope
    ts: datetime
    text: str
    session_id: str
    index_version: str
    user_id: str | None = None
    prompt_version: str | None = None
    arm: str | None = None
    attributes: Mapping[str, str] | None = None
    floor: float = 0.0
    rated_after: timedelta | None = None


def draw_traffic(
    queries: Mapping[str, Sequence[str]], flags: FlagSet, *, environment: str, now: datetime
) -> list[DemoQuestion]:
    """Return 37 days of questions that end now, oldest first: two services, one of them in staging too.

    Volume follows the weekdays. In the chat, 45% of the questions are about VPP since
    `begin_new_topic`.
    """
    drawn = [*_draw_chat(queries, flags, environment, now), *_draw_searches(queries, environment, now)]
    if make_scope(environment, CHAT) != make_scope(STAGING, CHAT):
        drawn += _draw_tests(queries, now)
    return sorted(drawn, key=lambda each: each.ts)


def begin_new_topic(now: datetime) -> datetime:
    """Return since when users of the chat ask about VPP: the start of a day, so that the drop is one step."""
    return _midnight(now) - timedelta(days=6)


def begin_outage(now: datetime) -> datetime:
    """Return since when the search box hides nearly all hits: the start of yesterday, so that a whole day shows it."""
    return _midnight(now) - timedelta(days=1)


def _draw_chat(
    queries: Mapping[str, Sequence[str]], flags: FlagSet, environment: str, now: datetime
) -> Iterator[DemoQuestion]:
    """Yield the questions of the chat in production: three a session on average, from users of three tenants."""
    rng, raters = np.random.default_rng(_SEED), np.random.default_rng((_SEED, 1))
    popularity = {name: _popularity(rng, len(texts)) for name, texts in queries.items()}
    scope = make_scope(environment, CHAT)
    for day in range(DAYS):
        for session in range(int(rng.poisson(_volume(_CHATS, _WEEKEND, day, now) / 3))):
            number = int(rng.integers(4_000))
            user = f"user-{number}"
            moment = _start_of(day, now) + timedelta(seconds=float(rng.uniform(0, 86_000)))
            new_share = _NEW_TOPIC_SHARE if moment >= begin_new_topic(now) else 0.0
            is_canary = day >= DAYS - CANARY_DAYS
            arm = flags.resolve("answer-service", {"targetingKey": user}).variant if is_canary else "blue"
            is_tried = day >= DAYS - TRIAL_DAYS and flags.is_enabled("new_prompt_v3", user)
            for turn in range(1 + int(rng.poisson(2))):
                topic = str(rng.choice(["dpdk", "vpp", "offtopic"], p=[0.97 - new_share, new_share, 0.03]))
                yield DemoQuestion(
                    scope,
                    ts=min(now, moment + timedelta(seconds=40 * turn)),
                    text=queries[topic][int(rng.choice(len(queries[topic]), p=popularity[topic]))],
                    session_id=f"{user}-{day}-{session}",
                    index_version=LIVE_INDEX,
                    user_id=user,
                    prompt_version=TRIED if is_tried else LIVE,
                    arm=arm,
                    attributes={TENANT: _TENANTS[number % 10], "channel": ("web", "slack")[number % 3 == 0]},
                    rated_after=_draw_rating(raters),
                )


def _draw_rating(rng: np.random.Generator) -> timedelta | None:
    """Return when a user rates an answer: few do, most of them within minutes, some up to three days later."""
    if rng.random() >= _RATED_SHARE:
        return None
    minutes = rng.uniform(1, 20) if rng.random() < _RATED_AT_ONCE else rng.uniform(60, 3 * 1_440)
    return timedelta(minutes=float(minutes))


def _draw_searches(queries: Mapping[str, Sequence[str]], environment: str, now: datetime) -> Iterator[DemoQuestion]:
    """Yield the short questions of the search box, from visitors that are not known."""
    rng = np.random.default_rng((_SEED, 2))
    asked = {topic: _list_short(queries[topic]) for topic in ("dpdk", "offtopic")}
    popularity = {topic: _popularity(rng, len(texts)) for topic, texts in asked.items()}
    for day in range(DAYS):
        for session in range(int(rng.poisson(_volume(_SEARCHES, _WEEKEND, day, now) / 1.5))):
            moment = _start_of(day, now) + timedelta(seconds=float(rng.uniform(0, 86_000)))
            for turn in range(1 + int(rng.poisson(0.5))):
                topic = "offtopic" if rng.random() < 0.02 else "dpdk"
                ts = min(now, moment + timedelta(seconds=25 * turn))
                yield DemoQuestion(
                    make_scope(environment, SEARCH),
                    ts=ts,
                    text=asked[topic][int(rng.choice(len(asked[topic]), p=popularity[topic]))],
                    session_id=f"visit-{day}-{session}",
                    index_version=LIVE_INDEX,
                    floor=WRONG_FLOOR if ts >= begin_outage(now) else FLOOR,
                )


def _draw_tests(queries: Mapping[str, Sequence[str]], now: datetime) -> Iterator[DemoQuestion]:
    """Yield what six testers ask the chat in staging, from a list; corpus v2 is tried there, with questions about VPP.

    Everything is on there that production tries: prompt v3 a day earlier, and the index of corpus v2.
    """
    rng = np.random.default_rng((_SEED, 3))
    listed = {"dpdk": queries["dpdk"][::5], "vpp": queries["vpp"][::4], "offtopic": queries["offtopic"][::8]}
    for day in range(DAYS):
        has_next = day >= DAYS - NEXT_INDEX_DAYS
        shares = [0.62, 0.33, 0.05] if has_next else [0.95, 0.0, 0.05]
        for session in range(int(rng.poisson(_volume(_TESTS, _WEEKEND_TESTS, day, now) / 5))):
            user = f"tester-{rng.integers(6)}"
            moment = _start_of(day, now) + timedelta(seconds=float(rng.uniform(0, 86_000)))
            for turn in range(1 + int(rng.poisson(4))):
                texts = listed[str(rng.choice(list(listed), p=shares))]
                yield DemoQuestion(
                    make_scope(STAGING, CHAT),
                    ts=min(now, moment + timedelta(seconds=60 * turn)),
                    text=texts[int(rng.integers(len(texts)))],
                    session_id=f"{user}-{day}-{session}",
                    index_version=NEXT_INDEX if has_next else LIVE_INDEX,
                    user_id=user,
                    prompt_version=TRIED if day >= DAYS - TRIAL_DAYS - 1 else LIVE,
                    attributes={TENANT: "internal", "channel": "web"},
                )


def _midnight(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _start_of(day: int, now: datetime) -> datetime:
    return now - timedelta(days=DAYS - day)


def _volume(questions: int, weekend: float, day: int, now: datetime) -> float:
    is_weekend = (_start_of(day, now) + timedelta(hours=12)).weekday() >= 5
    return questions * (weekend if is_weekend else 1.0)


def _list_short(texts: Sequence[str]) -> list[str]:
    return [text for text in texts if len(text.split()) <= _LONGEST_SEARCH]


def _popularity(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return Zipf-like shares in random order: some questions are asked every day, most only sometimes."""
    weights = 1.0 / np.arange(3, count + 3) ** 0.7
    rng.shuffle(weights)
    return np.asarray(weights / weights.sum())
