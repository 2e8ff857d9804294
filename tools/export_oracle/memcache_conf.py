"""
MemCache's own services asked to take exported settings; run by the Python of a venv that has it.

Reads a JSON line for each export: `{"mmc-local.conf": text, "mmc-meta.conf": text}`. A service that takes its settings
goes on to its sockets, which nobody answers here, and is ended then. Answers with the settings of the local service as
it read them, or the words of refusal.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Timer

# How each service begins, by its file: the variable that names the file, the call, and what it says once it is read.
SERVICES = {
    "mmc-local.conf": (
        "MMC_LOCAL_CONFIG_PATH",
        "memcache_hybrid.DistributedObjectStore().init(0)",
        "Trying to connect",
    ),
    "mmc-meta.conf": ("MMC_META_CONFIG_PATH", "memcache_hybrid.MetaService.main()", "Meta service log level"),
}
PATIENCE = 60


def begun(file, text):
    """What the service of `file` read, or the words it refused in."""
    variable, call, taken = SERVICES[file]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, file)
        path.write_text(text, "utf-8")
        service = subprocess.Popen(
            [sys.executable, "-c", f"import memcache_hybrid; {call}"],
            env=os.environ | {variable: str(path)}, cwd=folder, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        impatience = Timer(PATIENCE, service.kill)
        impatience.start()
        said = ""
        with service:
            for line in service.stdout:
                said += line
                if taken in line:
                    break
            service.kill()
        impatience.cancel()
    if taken in said:
        return {"understood": dict(re.findall(r"(ock\.mmc\.\S+) = (\S+)", said))}
    return {"refused": " ".join(said.split())[-400:]}


def answer(asked):
    answers = {file: begun(file, asked[file]) for file in SERVICES}
    refused = [f"{file}: {told['refused']}" for file, told in answers.items() if "refused" in told]
    return {"refused": "; ".join(refused)} if refused else {"understood": answers["mmc-local.conf"]["understood"]}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
