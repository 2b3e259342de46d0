"""The server's log: one line per event, as text or JSON, each with the id of its request.

Tracebacks show lines of code but no values of variables, and no line holds a secret.
"""

import logging
import os
from typing import TextIO

import structlog

from core.config import Config
from core.safety.scrubbing import list_secrets, scrub_all


def write_logs(config: Config, stream: TextIO) -> None:
    """Send every log line of this process to the stream, in the configured format and from the configured level on."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    secrets = list_secrets(os.environ)

    def hide_secrets(_logger: object, _method: str, told: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {name: scrub_all(value, secrets) for name, value in told.items()}

    last: list[structlog.typing.Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        hide_secrets,
    ]
    if config.log_format == "json":
        last += [structlog.processors.JSONRenderer(ensure_ascii=False)]
    else:
        plain = structlog.dev.plain_traceback
        last += [structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=0, exception_formatter=plain)]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("quarterdeck").setLevel(config.log_level.upper())
    logging.getLogger("quarterdeck.security").setLevel(logging.INFO)  # sign-ins, refusals and token uses, always


def take_over_logs() -> None:
    """Redirect to our log what Streamlit logs on its own: its lines and uvicorn's.

    Call it once Streamlit has read its settings. uvicorn's lines about requests are dropped: they hold query strings,
    and ours tell the same.
    """
    for name in [*logging.root.manager.loggerDict, "uvicorn.access"]:
        logger = logging.getLogger(name)
        own = getattr(logger, "streamlit_console_handler", None)
        if own is not None:
            logger.removeHandler(own)
            logger.propagate = name != "uvicorn.access"
            logger.setLevel(logging.WARNING)
