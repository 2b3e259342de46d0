"""Who looks at the pages: whoever changes something through them acts under this name."""

from app.resources import get_config
from core.acts import Act


def make_act(reason: str, environment: str) -> Act:
    """Return what the visitor does as an act. Raises InvalidInput when the reason is empty or too long."""
    return Act(get_config().operator, reason, environment)
