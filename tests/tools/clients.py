"""An environment of its own for Python's Kafka client, made when it is first asked for."""

import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(ROOT, "target/test-tools/venv")


def python():
    """The interpreter that has the client."""
    complete = os.path.join(VENV, "complete")
    if not os.path.exists(complete):
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        pip = os.path.join(VENV, "bin/pip")
        subprocess.run([pip, "install", "-q", "confluent-kafka==2.16.1"], check=True)
        open(complete, "w", encoding="utf-8").close()
    return os.path.join(VENV, "bin/python")
