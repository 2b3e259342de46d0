"""The fast streams of `benchmarks.rollout_bars` give the readings that the deck's own tally gives."""

from dataclasses import astuple

import numpy as np
import pytest

from benchmarks.rollout_bars import LOOK, Repetition, draw, expect, read
from benchmarks.sequential_tests import START, World
from core.arms.arms import Metric, Tally
from core.arms.expectations import Expectation
from core.flags.canary_plan import CANARY, STABLE
from core.log.values import AskedBy, UserRow


def test_the_readings_of_a_stream_are_those_of_the_tally() -> None:
    looks = 4
    drawn = draw(np.random.default_rng(7), World(share_pct=30, errors=(0.05, 0.1)), Repetition(), looks)
    fast = list(read(drawn, expect(drawn, looks), looks))
    past = [AskedBy(f"u{who}", f"q{text}", 1, score) for who, text, score in zip(*drawn.past, strict=True)]
    expectation, tally = Expectation(), Tally((STABLE, CANARY))
    expectation.learn(past)
    expectation.learn_users(row for row in past if row.user != "u-1")
    for look in range(looks):
        places = np.flatnonzero(drawn.look == look)
        asked = [
            AskedBy(f"u{drawn.user[at]}", f"q{drawn.text[at]}", 1, float(drawn.score[at]))
            for at in places
            if not drawn.failed[at]
        ]
        rows = {}
        for at in places:
            who, scored = f"u{drawn.user[at]}", not drawn.failed[at]
            sums = 1, int(scored), scored * drawn.score[at], 1, drawn.latency[at], 1, drawn.cost[at]
            before = rows.get(who, (0,) * 7)
            rows[who] = tuple(one + other for one, other in zip(before, sums, strict=True))
        arm = {who: CANARY if drawn.green[int(who[1:])] else STABLE for who in rows}
        slow = tally.add(
            [UserRow(look, arm[who], who, *sums, 0, 0.0, 0, 0.0) for who, sums in rows.items()],
            start=START + look * LOOK, at=START + (look + 1) * LOOK, expected=expectation.expect(asked),
        )  # fmt: skip
        expectation.learn(asked)
        for name in (STABLE, CANARY):
            one, other = fast[look].arms[name], slow.arms[name]
            assert (one.users, one.queries) == (other.users, other.queries)
            assert fast[look].last[name].failing == pytest.approx(slow.last[name].failing)
            for metric in (Metric.SCORE, Metric.ERRORS, Metric.LATENCY, Metric.COST):
                assert astuple(one.moments[metric])[:3] == pytest.approx(astuple(other.moments[metric])[:3], rel=1e-4)
            covariates = [arm.moments[Metric.SCORE].covariate for arm in (one, other)]
            assert all(covariates)
            assert astuple(covariates[0]) == pytest.approx(astuple(covariates[1]), rel=1e-3, abs=1e-6)
