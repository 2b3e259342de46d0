"""Rule that names the detectors there are, and the one that verdicts are made with."""

from collections.abc import Mapping

from core.drift import changepoint
from core.drift.detector import Detector

DETECTORS: Mapping[str, Detector] = {"changepoint": changepoint}
DETECTOR: Detector = changepoint
