"""A worker process for the tests: `python run_worker.py CATALOG OPTIONS`, options as JSON. It says
"ready" when it takes tasks, and stops at SIGTERM.
"""

import json
import logging
import signal
import sys
import threading
from pathlib import Path

from holdfast.jobs.worker import Worker, WorkerOptions


def main():
    logging.basicConfig(level=logging.INFO, format="%(created).3f %(name)s %(message)s")
    options = json.loads(sys.argv[2])
    timeout = options.pop("stop_timeout", 0)
    options["lock"] = Path(options["lock"])
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    worker = Worker("bodies:compose", {"catalog": sys.argv[1]}, WorkerOptions(**options))
    worker.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    ended.wait()
    worker.stop(timeout)


main()
