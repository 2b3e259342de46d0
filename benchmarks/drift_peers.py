"""Four known change detectors over the same daily means: CUSUM, EWMA, PELT (ruptures) and ADWIN (river).

Each as its textbook or library sets it up. CUSUM and EWMA learn mean and sd from 35 days, and anew after an alarm.
PELT looks back over all days at once; the others judge day by day. Each calls falls only.
"""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

LEARNED = 35
Floats = NDArray[np.float64]


def list_peers() -> dict[str, Callable[[Floats], list[int]]]:
    """Return the detectors that can be imported here: daily means in, days of calls out."""
    peers: dict[str, Callable[[Floats], list[int]]] = {"CUSUM": run_cusum, "EWMA": run_ewma}
    if find_spec("ruptures"):
        peers["PELT"] = run_pelt
    if find_spec("river"):
        peers["ADWIN"] = run_adwin
    return peers


def run_cusum(mean: Floats) -> list[int]:
    """Page's one-sided CUSUM with reference value 0.5 and decision interval 5 (Montgomery 2013, ch. 9)."""
    return _monitor(mean, lambda state, z: max(0.0, state - z - 0.5), limit=5.0)


def run_ewma(mean: Floats) -> list[int]:
    """An EWMA chart of weight 0.2 whose lower limit is 3 standard errors (Montgomery 2013, ch. 9)."""
    return _monitor(mean, lambda state, z: 0.8 * state - 0.2 * z, limit=3.0 * np.sqrt(0.2 / 1.8))


def _monitor(mean: Floats, follow: Callable[[float, float], float], *, limit: float) -> list[int]:
    calls, state, learned = [], 0.0, 0
    for day in range(LEARNED, len(mean)):
        if day < learned + LEARNED:
            continue
        known = mean[learned : learned + LEARNED]
        state = follow(state, float((mean[day] - known.mean()) / max(known.std(ddof=1), 1e-9)))
        if state > limit:
            calls.append(day)
            state, learned = 0.0, day
    return calls


def run_pelt(mean: Floats) -> list[int]:
    """PELT with a quadratic cost, in units of the noise, and the BIC's penalty: the days on which the level falls."""
    import ruptures

    noise = max(float(np.median(np.abs(np.diff(mean)))) / 0.954, 1e-9)
    scaled = (mean - mean.mean())[:, None] / noise
    ends = ruptures.KernelCPD(kernel="linear", min_size=2).fit(scaled).predict(pen=3 * np.log(len(mean)))
    edges = [0, *ends]
    levels = [float(mean[low:high].mean()) for low, high in zip(edges, ends, strict=False)]
    return [ends[i] for i in range(len(levels) - 1) if levels[i + 1] < levels[i]]


def run_adwin(mean: Floats) -> list[int]:
    """ADWIN with the library's defaults, checked at every day."""
    from river.drift import ADWIN

    detector, calls = ADWIN(clock=1, grace_period=5, min_window_length=2), []
    for day, value in enumerate(mean):
        before = detector.estimation
        detector.update(float(value))
        if detector.drift_detected and detector.estimation < before:
            calls.append(day)
    return calls
