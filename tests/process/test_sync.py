"""Acknowledged means on disk: the kernel is watched, and a sync of the log lies between each request and its answer."""

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.process.server import COMMAND, Server, answer, body, send

SEQUENTIAL: Final = 120
CLIENTS: Final = 8
EACH: Final = 10
CALLS: Final = "fdatasync,fsync,read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg"


@dataclass
class Trace:
    """What the kernel did, in order: requests read, syncs of the log, answers written.

    Attributes:
        unproved: answers for which no sync began after their request was read and ended before they were written.
    """

    acknowledged: int = 0
    syncs: int = 0
    unproved: list[str] = field(default_factory=list)


LINE: Final = re.compile(r"^(?P<thread>\d+) +(?P<rest>.*)$")
UNFINISHED: Final = " <unfinished ...>"
RESUMED: Final = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")


def events(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """(`begins` or `ends`, call with arguments and result) of each traced call."""
    begun: dict[str, str] = {}
    for line in lines:
        found = LINE.match(line.rstrip("\n"))
        if found is None:
            continue
        thread, rest = found["thread"], found["rest"]
        resumed = RESUMED.match(rest)
        if resumed is not None:
            yield "ends", begun.pop(thread, "") + resumed[2]
        elif rest.endswith(UNFINISHED):
            begun[thread] = rest.removesuffix(UNFINISHED)
            yield "begins", begun[thread]
        else:
            yield "begins", rest
            yield "ends", rest


def read_trace(lines: Iterator[str]) -> Trace:
    trace, moment = Trace(), 0
    asked: dict[str, int] = {}          # connection -> when its request was read
    began: dict[str, list[int]] = {}    # a sync of the log -> when it began
    latest = -1                         # of the syncs that are over, when the one that began last began
    for edge, call in events(lines):
        moment += 1
        name = call.partition("(")[0]
        connection = re.search(r"TCP(?:v6)?:\[([^\]]*)\]", call)
        if name in ("fdatasync", "fsync") and "/log.db" in call:
            key = call.split(")", 1)[0]
            if edge == "begins":
                began.setdefault(key, []).append(moment)
            elif call.endswith("= 0"):
                trace.syncs += 1
                latest = max(latest, began[key].pop(0))
        elif connection is None:
            continue
        elif edge == "ends" and "POST /hooks/" in call:
            asked[connection[1]] = moment
        elif edge == "begins" and "HTTP/1.1 202" in call:
            trace.acknowledged += 1
            if latest <= asked.pop(connection[1]):
                trace.unproved.append(call)
    return trace


def sync_before_each_answer(folder: Path, sequential: int, each: int, *, command: Sequence[str] = COMMAND) -> None:
    """Deliver one after the other, then at once; the trace of a server shows a sync for each answer."""
    record = folder / "trace"
    tracer = ("strace", "-f", "-qq", "-yy", "-s", "48", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(record))
    server = Server(folder, under=tracer, command=command)
    server.start()
    try:
        token = server.token("alertmanager")
        connection = server.connect()
        for number in range(sequential):
            # A new alert, its repeat, its resolve: what writes least has to be as durable as what writes most.
            send(connection, token, body(f"host-{number // 3}", ended=number % 3 == 2))
            assert answer(connection).status == 202
        statuses: list[int] = []

        def client(who: int) -> None:
            mine = server.connect()
            for number in range(each):
                send(mine, token, body(f"client-{who}-{number}"))
                statuses.append(answer(mine).status)

        threads = [threading.Thread(target=client, args=(who,)) for who in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [202] * (CLIENTS * each)
    finally:
        server.stop()
        server.close()
    with record.open(errors="replace") as lines:
        trace = read_trace(lines)
    assert trace.acknowledged == sequential + CLIENTS * each
    assert trace.unproved == []
    assert trace.syncs >= sequential


@pytest.mark.process
def test_between_each_request_and_its_acknowledgement_the_log_is_synced(tmp_path: Path) -> None:
    sync_before_each_answer(tmp_path, SEQUENTIAL, EACH)


def test_an_answer_without_a_sync_of_its_own_would_be_noticed() -> None:
    request = '7 read(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "POST /hooks/alertmanager HTTP/1.1", 65536) = 33'
    reply = '7 write(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, "HTTP/1.1 202 Accepted", 21) = 21'
    sync = ["8 fdatasync(5</data/log.db-wal> <unfinished ...>", "8 <... fdatasync resumed>) = 0"]
    failed = ["8 fdatasync(5</data/log.db-wal>) = -1 EIO (Input/output error)"]
    other = ["8 fdatasync(6</data/views.db-wal>) = 0"]
    for lines, unproved in (
        ([request, *sync, reply], 0), ([request, reply, *sync], 1), ([*sync, request, reply], 1), ([request, *failed, reply], 1),
        ([sync[0], request, sync[1], reply], 1), ([request, sync[0], reply, sync[1]], 1), ([request, *other, reply], 1),
        ([request, *sync, reply, request, reply], 1),
    ):
        trace = read_trace(iter(lines))
        assert len(trace.unproved) == unproved, lines
