"""Writers, servers and builders killed in the middle of a write, each a real process that gets a real SIGKILL.

`QUARTERDECK_CRASH_ROUNDS=200` runs the figure of `docs/figures.md`.
"""

import os

import pytest

from benchmarks.crashes import TURNS, report, run

pytestmark = [pytest.mark.slow, pytest.mark.deep]

ROUNDS = int(os.environ.get("QUARTERDECK_CRASH_ROUNDS", "20"))


def test_what_was_acknowledged_is_there_after_a_sigkill_and_nothing_is_torn(tmp_path, url):
    outcome = run(tmp_path, url, rounds=ROUNDS)
    print(report(outcome))
    assert outcome.lost == []
    assert outcome.torn == []
    assert outcome.kills.total() == ROUNDS
    if len(TURNS) <= ROUNDS:
        assert (
            min(
                outcome.flushed,
                outcome.flips,
                outcome.received,
                outcome.scored,
                outcome.spans,
                outcome.alerts,
                outcome.approved,
            )
            > 0
        )
