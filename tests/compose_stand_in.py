"""Stands in for `docker compose` where there is no Docker: notes each call, and runs the service as a plain process.

Run: `python tests/compose_stand_in.py FOLDER --project-name NAME COMMAND …`. It does what the driver counts on.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil


def is_running(pid: int) -> bool:
    """Whether the process lives; a zombie does not."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def main() -> None:
    folder, (option, project, command, *rest) = Path(sys.argv[1]), sys.argv[2:]
    assert option == "--project-name"
    values = {name: os.environ[name] for name in ("SERVICE", "COLOR", "RELEASE", "PORT")}
    with (folder / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({"project": project, "command": [command, *rest], **values}) + "\n")
    note = folder / f"{project}.pid"
    pid = int(note.read_text()) if note.exists() else None
    running = pid is not None and is_running(pid)
    if (folder / "broken").exists():
        sys.exit("Cannot connect to the Docker daemon. Is the docker daemon running?")
    if command == "ps" and running:
        print("f00dfeed")
    if command == "up" and not running:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.answer_service", values["PORT"], values["RELEASE"]],
            cwd=Path(__file__).resolve().parents[1], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=(folder / f"{project}.log").open("w"),
        )  # fmt: skip
        note.write_text(str(process.pid))
    if command == "logs" and (folder / f"{project}.log").exists():
        print((folder / f"{project}.log").read_text())
    if command == "down" and running:
        os.kill(pid, signal.SIGTERM)
        while is_running(pid):
            time.sleep(0.02)


if __name__ == "__main__":
    main()
