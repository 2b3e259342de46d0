"""The small service that `blue_green` and the tests deploy: it answers with its release and process id.

Run: `python -m benchmarks.answer_service PORT RELEASE`. A release named `sick…` is never healthy, `dead…` ends at once.
"""

import asyncio
import os
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def answer(request: Request) -> Response:
    """Answer, after as many milliseconds as the request asks for."""
    if RELEASE.startswith("sick"):
        print("traffic came", flush=True)
    await asyncio.sleep(int(request.query_params.get("slow_ms", "0")) / 1_000)
    return JSONResponse({"release": RELEASE, "color": os.environ.get("COLOR"), "pid": os.getpid()})


async def healthz(_request: Request) -> Response:
    """Health check."""
    return JSONResponse({"release": RELEASE}, status_code=503 if RELEASE.startswith("sick") else 200)


if __name__ == "__main__":
    PORT, RELEASE = int(sys.argv[1]), sys.argv[2]
    if RELEASE.startswith("dead"):
        sys.exit("this release cannot start")
    app = Starlette(routes=[Route("/", answer), Route("/healthz", healthz)])
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning", access_log=False)
