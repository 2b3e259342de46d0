"""Rule: the available drift detectors, and the one that the verdict uses."""

from collections.abc import Mapping

from core.drift import changepoint
from core.drift.detector import Detector

DETECTORS: Mapping[str, Detector] = {"changepoint": changepoint}
DETECTOR: Detector = changepoint
