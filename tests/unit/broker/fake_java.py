"""Stands in for a JVM that runs Kafka: `java -version`, and a server that says it serves.

Obeys the flags of class archives: refuses to start with one that says `broken`, writes one when it
is ended. A setting `fake.exit` in server.properties makes it end at once with that text.
"""

import signal
import socket
import struct
import sys
import threading
from pathlib import Path


def main(words):
    if words == ["-version"]:
        print('openjdk version "17.0.9" 2023-10-17\nOpenJDK Fake', file=sys.stderr)
        return 0
    settings = dict(
        line.split("=", 1) for line in Path(words[-1]).read_text().splitlines() if "=" in line
    )
    for word in words:
        name, _, value = word.partition("=")
        if name == "-XX:SharedArchiveFile" and Path(value).read_text() == "broken":
            print("the archive does not fit")
            return 1
        if name == "-XX:ArchiveClassesAtExit":
            signal.signal(signal.SIGTERM, lambda *_, to=value: sys.exit(Path(to).write_text("ok")))
    if "fake.exit" in settings:
        print("first line\n" + settings["fake.exit"])
        return 1
    if "fake.silent" in settings:
        signal.pause()
    port = int(settings["listeners"].split(",")[0].rpartition(":")[2])
    nodes = len(settings["controller.quorum.voters"].split(","))
    server = socket.create_server(("127.0.0.1", port))
    while True:
        threading.Thread(target=answer, args=(server.accept()[0], nodes), daemon=True).start()


def answer(connection, nodes):
    with connection:
        size = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))[0]
        key = struct.unpack(">h", connection.recv(size, socket.MSG_WAITALL)[:2])[0]
        body = struct.pack(">ih", 1, 0) if key == 18 else struct.pack(">ii", 1, nodes)
        connection.sendall(struct.pack(">i", len(body)) + body)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
