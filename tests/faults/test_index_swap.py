"""Indexes under load: real processes query through the alias while others build, die, swap, roll back and remove."""

import pytest

from benchmarks.index_swap import READERS, Scene, run, run_canary

pytestmark = [pytest.mark.slow, pytest.mark.deep]


def test_readers_notice_nothing_of_50_swaps_and_of_builders_killed_ten_times(tmp_path):
    scene = Scene(tmp_path, 400, 16, str(tmp_path / "indexes"))
    outcome = run(scene, swaps=50, kills=10)
    assert len(outcome.readings) == READERS
    assert [failure for reading in outcome.readings for failure in reading.failures] == []
    assert [answer for reading in outcome.readings for answer in reading.wrong] == []
    assert all(reading.queries >= 50 and len(reading.names) >= 3 for reading in outcome.readings)
    assert outcome.swaps + outcome.rollbacks >= 50
    assert outcome.rollbacks > 0
    assert outcome.kills == 10
    assert outcome.embedded <= outcome.texts
    assert outcome.inconsistencies == ()


def test_readers_notice_nothing_of_50_steps_and_rollbacks_of_index_canaries(tmp_path):
    scene = Scene(tmp_path, 400, 16, str(tmp_path / "indexes"))
    outcome = run_canary(scene, moves=50)
    assert len(outcome.readings) == READERS
    assert [failure for reading in outcome.readings for failure in reading.failures] == []
    assert [answer for reading in outcome.readings for answer in reading.wrong] == []
    assert all(reading.queries >= 50 and reading.tried > 0 for reading in outcome.readings)
    assert outcome.steps + outcome.ways_back == 50
    assert outcome.ways_back > 0
    assert outcome.inconsistencies == ()
