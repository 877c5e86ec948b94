#!/usr/bin/env python3
"""Run a Kafka broker of one node in the foreground, without a container engine: broker.py FOLDER [--port N]

Its jars come from build.py (Maven), Java 17 or newer runs it. FOLDER keeps its log and settings; started again with the
same folder it goes on where it was, also after kill -9. On loopback, for development and tests: one node, one replica.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.dont_write_bytecode = True  # nothing is written beside the manifests
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from builds import BuildError, ToolMissingError, build, say  # noqa: E402 - see above
from recipes import KAFKA  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

PORT = 9092
HEAP = "-Xmx256m"
CLUSTER_ID = "b3RlbC1zdGVwcy1kZXYtMA"
"""Any 16 bytes, base64: there is one cluster on this machine."""
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
log.dirs={folder}/log
num.partitions=3
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
# After a kill the old session must end before the broker is taken back: soon, as nobody else could take its place.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
# What was acknowledged outlives the broker's own death; loss of power is for replicas.
auto.create.topics.enable=true
"""


def java() -> str:
    """The `java` on PATH. Raises ToolMissingError."""
    found = shutil.which("java")
    if found is None:
        raise ToolMissingError("No java found: Kafka needs Java 17 or newer")
    return found


def prepare(folder: Path, port: int, controller: int) -> tuple[list[str], Path]:
    """The command that runs a broker whose files are in `folder`, formatted if it is new, and its settings' file."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "server.properties"
    settings.write_text(PROPERTIES.format(port=port, controller=controller, folder=folder.absolute()), encoding="utf-8")
    command = [java(), HEAP, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{build(KAFKA)}/*"]
    if not (folder / "log" / "meta.properties").exists():
        formatted = subprocess.run(
            [*command, "kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER_ID, "-c", str(settings)],
            capture_output=True,
            text=True,
            check=False,
        )
        if formatted.returncode != 0:
            raise BuildError(f"Kafka could not format {folder}:\n{formatted.stdout}{formatted.stderr}")
    return command, settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Become the broker; the exit code where that does not succeed."""
    parser = argparse.ArgumentParser(description="Run a Kafka broker of one node.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--controller-port", type=int, help="default: the port and one")
    parsed = parser.parse_args(arguments)
    try:
        command, settings = prepare(parsed.folder, parsed.port, parsed.controller_port or parsed.port + 1)
    except BuildError as error:
        say(str(error))
        code = error.exit_code
    else:
        os.execv(command[0], [*command, "kafka.Kafka", str(settings)])
    return code


if __name__ == "__main__":
    sys.exit(main())
