"""Rule: which scope a command means that names an environment, a service, both or neither."""

from collections.abc import Sequence

from core.errors import InvalidInput
from quarterdeck.scope import DEFAULT_SERVICE, Scope, make_scope


def choose_scope(known: Sequence[Scope], *, environment: str | None, service: str | None, own: str) -> Scope:
    """Return the one scope among the `known` ones that fits the names given; None fits every name.

    Where several fit and the environment was not given, it is `own`. Raises InvalidInput, listing the scopes, where
    that still leaves several, or where none has the names given.
    """
    named = make_scope(environment or own, service)
    if not known:
        return named
    fitting = [
        scope
        for scope in known
        if (environment is None or scope.environment == named.environment)
        and (service is None or scope.service == named.service)
    ]
    if len(fitting) > 1 and environment is None:
        fitting = [scope for scope in fitting if scope.environment == named.environment] or fitting
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(f"{scope.environment}/{scope.service}" for scope in fitting or known)
    if fitting:
        raise InvalidInput("service", f"several report: {listed}; choose one with --environment and --service")
    if service is None and environment is not None:
        return Scope(named.environment, DEFAULT_SERVICE)  # nothing was recorded in this environment yet
    raise InvalidInput("service", f"{named.environment}/{named.service} recorded nothing; there are: {listed}")
