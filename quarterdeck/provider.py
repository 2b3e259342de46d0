"""The OpenFeature provider over a client: values, reasons, events, tracking and hooks.

Public: `QuarterdeckProvider`.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import ErrorCode, ProviderNotReadyError
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType, Reason
from openfeature.hook import Hook
from openfeature.provider import AbstractProvider, Metadata
from openfeature.track import TrackingEventDetails

from quarterdeck.client import Quarterdeck
from quarterdeck.errors import InvalidInput

__all__ = ["QuarterdeckProvider"]

logger = logging.getLogger("quarterdeck")

EXPOSURE = "exposure"
Value = TypeVar("Value", bound=FlagValueType)


class QuarterdeckProvider(AbstractProvider):
    """Answers OpenFeature's clients from a Quarterdeck client. The caller closes that client.

    The provider is READY once flags could be read, from the store or from the last good snapshot. While the store
    cannot be read it is STALE. Each change of flags is announced with their keys. `hooks` run around every evaluation.

    >>> from openfeature import api
    >>> flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
    >>> deck = Quarterdeck.from_definitions({"flags": {"use_reranker": flag}})
    >>> api.set_provider_and_wait(QuarterdeckProvider(deck))
    >>> api.get_client().get_boolean_value("use_reranker", False, EvaluationContext("user-42"))
    True
    >>> api.shutdown()
    """

    def __init__(self, deck: Quarterdeck, *, hooks: Sequence[Hook] = ()) -> None:
        super().__init__()
        self._deck = deck
        self._hooks = list(hooks)
        deck.on_change(self._tell_changes)
        deck.on_stale(self._tell_staleness)

    def get_metadata(self) -> Metadata:
        """Return the provider's name.

        >>> QuarterdeckProvider(Quarterdeck.from_definitions({"flags": {}})).get_metadata().name
        'Quarterdeck'
        """
        return Metadata(name="Quarterdeck")

    def get_provider_hooks(self) -> list[Hook]:
        """Return the hooks that run around every evaluation.

        >>> QuarterdeckProvider(Quarterdeck.from_definitions({"flags": {}})).get_provider_hooks()
        []
        """
        return self._hooks

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002 - OpenFeature merges it itself
        """Raise ProviderNotReadyError until flags could be read; the provider becomes ready when they can.

        >>> QuarterdeckProvider(Quarterdeck.from_definitions({"flags": {}})).initialize(EvaluationContext())
        """
        if self._deck.snapshot.version < 0:
            raise ProviderNotReadyError("no flags could be read yet, from the store or from the last good snapshot")

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """Return the value of a boolean flag, with its variant, reason and error code. Never raises.

        >>> flag = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on"}
        >>> provider = QuarterdeckProvider(Quarterdeck.from_definitions({"flags": {"use_reranker": flag}}))
        >>> provider.resolve_boolean_details("use_reranker", False, EvaluationContext("user-42")).value
        True
        """
        return self._resolve(flag_key, default_value, False, evaluation_context)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """Return the value of a text flag, with its variant, reason and error code. Never raises.

        >>> flag = {"state": "ENABLED", "variants": {"brief": "Be brief.", "long": "Explain"}, "defaultVariant": "long"}
        >>> provider = QuarterdeckProvider(Quarterdeck.from_definitions({"flags": {"style": flag}}))
        >>> provider.resolve_string_details("style", "", EvaluationContext("user-42")).value
        'Explain'
        """
        return self._resolve(flag_key, default_value, "", evaluation_context)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """Return the value of a whole-number flag, with variant, reason and error code. Never raises.

        >>> flag = {"state": "ENABLED", "variants": {"few": 3, "many": 10}, "defaultVariant": "many"}
        >>> provider = QuarterdeckProvider(Quarterdeck.from_definitions({"flags": {"top_k": flag}}))
        >>> provider.resolve_integer_details("top_k", 5, EvaluationContext("user-42")).value
        10
        """
        return self._resolve(flag_key, default_value, 0, evaluation_context)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """Return the value of a number flag, with its variant, reason and error code. Never raises.

        >>> flag = {"state": "ENABLED", "variants": {"low": 0.2, "high": 1}, "defaultVariant": "high"}
        >>> provider = QuarterdeckProvider(Quarterdeck.from_definitions({"flags": {"temperature": flag}}))
        >>> provider.resolve_float_details("temperature", 0.0, EvaluationContext("user-42")).value
        1.0
        """
        return self._resolve(flag_key, default_value, 0.0, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Return the value of a flag whose variants are objects or lists. Never raises.

        >>> flag = {"state": "ENABLED", "variants": {"bm25": {"k1": 1.2}}, "defaultVariant": "bm25"}
        >>> provider = QuarterdeckProvider(Quarterdeck.from_definitions({"flags": {"ranker": flag}}))
        >>> provider.resolve_object_details("ranker", {}, EvaluationContext("user-42")).value
        {'k1': 1.2}
        """
        return self._resolve(flag_key, default_value, {}, evaluation_context)

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Queue an event of a user for the store, as `Quarterdeck.track` does. An event it refuses is logged only.

        The event `exposure` with the attribute `flag` says that the user saw what the flag gave them, as
        `Quarterdeck.expose` does.

        >>> with Quarterdeck("sqlite:///deck.db") as deck:
        ...     details = TrackingEventDetails(0.5, {"page": "chat"})
        ...     QuarterdeckProvider(deck).track("answer-rated", EvaluationContext("user-42"), details)
        """
        user = evaluation_context.targeting_key if evaluation_context else None
        flag = tracking_event_details.attributes.get("flag") if tracking_event_details else None
        if tracking_event_name == EXPOSURE and isinstance(flag, str):
            self._deck.expose(flag, user or "", _to_dict(evaluation_context))
            return
        value = tracking_event_details.value if tracking_event_details else None
        attributes = tracking_event_details.attributes if tracking_event_details else {}
        try:
            self._deck.track(tracking_event_name, user or "", value=value, attributes=attributes)
        except InvalidInput as error:
            logger.warning("an event is not tracked: %s", error)

    def _resolve(
        self, key: str, default: Value, example: Any, context: EvaluationContext | None
    ) -> FlagResolutionDetails[Value]:
        """Evaluate in the type of `example`: the caller's default may have another, such as 0 for a float."""
        found = self._deck.evaluate(key, example, _to_dict(context))
        has_value = found.error_code is None and found.variant is not None
        return FlagResolutionDetails(
            value=found.value if has_value else default,
            variant=found.variant,
            reason=Reason(found.reason),
            error_code=ErrorCode(found.error_code) if found.error_code else None,
            error_message=found.error_message,
            flag_metadata=found.flag_metadata,
        )

    def _tell_changes(self, changed: frozenset[str]) -> None:
        self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=sorted(changed)))

    def _tell_staleness(self, problem: str) -> None:
        if problem:
            self.emit_provider_stale(ProviderEventDetails(message=problem))
        else:
            self.emit_provider_ready(ProviderEventDetails())


def _to_dict(context: EvaluationContext | None) -> dict[str, Any]:
    if context is None:
        return {}
    if context.targeting_key is None:
        return dict(context.attributes)
    return {**context.attributes, "targetingKey": context.targeting_key}
