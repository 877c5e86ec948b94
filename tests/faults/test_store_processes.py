"""Several processes and one store: locks, forks, the dead and who looks after them."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from otel_steps.receipts import adoption
from otel_steps.receipts.names import scan
from otel_steps.receipts.places import MIB, Limits
from otel_steps.receipts.reader import read_receipts
from otel_steps.receipts.store import Store
from tests.faults.records import opened, receipt, usage

if TYPE_CHECKING:
    from pathlib import Path

HERE = "http://localhost:4318"
SETUP = """
import os, sys, time
from pathlib import Path
from otel_steps.receipts.store import Store
from otel_steps.receipts.places import Limits
from tests.faults.records import opened, receipt, usage
folder = Path(sys.argv[1])
"""


def run(folder: Path, code: str) -> str:
    """Run `code` in a process of its own to its end, however it ends; what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", SETUP + code, str(folder)], stdout=subprocess.PIPE, check=False, timeout=60, text=True
    )
    assert done.returncode in {0, -signal.SIGKILL}, done
    return done.stdout


def interrupted(folder: Path) -> dict[str, int]:
    """Step name to inclusive tokens, each once."""
    found = [entry.record for entry in read_receipts(folder) if entry.record.status == "interrupted"]
    assert len({record.receipt_id for record in found}) == len(found)
    return {record.name: record.total_input_tokens for record in found}


DIE = "os.kill(os.getpid(), 9)"
TREE = f"""
store = Store(folder, endpoint={HERE!r}, resource={{"service.name": "dead"}})
root = opened("root"); leaf = opened("leaf", root); done = opened("done", root); idle = opened("idle", root)
store.spent(leaf.receipt_id, usage(1, 2, 3), (root, leaf))
store.spent(done.receipt_id, usage(10, 0), (done,))
store.completed(receipt("done", receipt_id=done.receipt_id, parent_receipt_id=root.receipt_id))
store.spent(leaf.receipt_id, usage(100, 0), ())
store.spent(root.receipt_id, usage(1000, 0), ())
"""


LATE = f"""
store = Store(folder, endpoint={HERE!r}, limits=Limits(max_bytes={MIB}))
outer = opened("outer"); inner = opened("inner", outer); within = opened("within", inner)
store.spent(within.receipt_id, usage(10, 0), (outer, inner, within))
store.completed(receipt("within", receipt_id=within.receipt_id, parent_receipt_id=inner.receipt_id))
store.completed(receipt("inner", receipt_id=inner.receipt_id, parent_receipt_id=outer.receipt_id))
while len(list(folder.glob("*.jsonl"))) < 2:
    store.completed(receipt("filler"))
store.spent(within.receipt_id, usage(7, 0), ())
between = opened("between", outer); last = receipt("last", parent_receipt_id=between.receipt_id)
store.completed(last)
while len(list(folder.glob("*.jsonl"))) < 3:
    store.completed(receipt("filler"))
store.spent(last.receipt_id, usage(100, 0), (between,))
"""


def test_a_late_call_of_a_step_that_closed_in_an_earlier_file_counts_in_those_around_it(tmp_path: Path) -> None:
    run(tmp_path, LATE + DIE)
    store = Store(tmp_path, endpoint=HERE)
    assert store.recover() == 2
    assert interrupted(tmp_path) == {"outer": 117, "between": 100}
    store.close()


def test_a_dead_process_s_open_steps_are_interrupted_with_what_they_had_spent(tmp_path: Path) -> None:
    run(tmp_path, TREE + DIE)
    store = Store(tmp_path, endpoint="http://elsewhere")
    assert store.recover() == 2
    assert store.recover() == 0
    found = {entry.record.name: entry.record for entry in read_receipts(tmp_path)}
    assert set(found) == {"root", "leaf", "done"}
    leaf, root = found["leaf"], found["root"]
    assert (leaf.status, leaf.revision, leaf.input_tokens, leaf.output_tokens) == ("interrupted", 1, 101, 2)
    assert (leaf.cost_nano_usd, leaf.llm_calls, leaf.model) == (1003, 2, "m")
    assert (root.input_tokens, root.total_input_tokens, root.total_llm_calls) == (1000, 1111, 4)
    assert leaf.parent_receipt_id == root.receipt_id
    assert leaf.error is not None
    assert "process" in leaf.error
    assert leaf.ended_at >= found["done"].ended_at
    assert leaf.ended_at >= leaf.started_at
    # the dead process's own resource goes with them
    deliverer = Store(tmp_path, endpoint=HERE)
    batches = []
    while (batch := deliverer.take(100, 1 << 20)) is not None:
        batches.append(batch)
        deliverer.acknowledge(batch, len(batch.records))
    assert {record.name for batch in batches for record in batch.records} == {"root", "leaf", "done"}
    assert all(batch.resource == {"service.name": "dead"} for batch in batches)


def test_it_happens_by_itself_with_the_next_receipt_of_any_process(tmp_path: Path) -> None:
    run(tmp_path, TREE + DIE)
    run(tmp_path, "store = Store(folder); store.completed(receipt('next')); store.close()")
    assert interrupted(tmp_path) == {"root": 1111, "leaf": 101}


def test_a_living_process_is_left_alone_and_its_files_are_not_settled_by_others(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SETUP + TREE + "print('up', flush=True); sys.stdin.read()", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        store = Store(tmp_path, endpoint=HERE, limits=Limits(max_bytes=1))
        assert store.recover() == 0
        assert store.take(10, 1 << 20) is None
        store.retain()
        assert [entry.record.name for entry in read_receipts(tmp_path)] == ["done"]
        process.kill()
        process.wait()
        assert store.recover() == 2


def test_a_writer_recovers_from_its_last_file_alone_and_never_needs_the_older_ones(tmp_path: Path) -> None:
    run(
        tmp_path,
        TREE.replace("Store(folder,", f"Store(folder, limits=Limits(max_bytes={MIB}),")
        + """
for number in range(400):
    one = opened("s", root)
    store.spent(one.receipt_id, usage(1, 0), (one,))
    store.completed(receipt("s", receipt_id=one.receipt_id, parent_receipt_id=root.receipt_id))
"""
        + DIE,
    )
    files = sorted(tmp_path.glob("*.jsonl"))
    assert len(files) > 5
    for file in files[:-1]:
        file.unlink()
    assert Store(tmp_path).recover() == 2
    assert interrupted(tmp_path) == {"root": 1111 + 400, "leaf": 101}


@pytest.mark.parametrize("keep", [0, 10, 200, 2000])
def test_a_head_cut_off_by_the_death_means_the_file_before_it_holds(tmp_path: Path, keep: int) -> None:
    run(tmp_path, TREE.replace("Store(folder,", f"Store(folder, limits=Limits(max_bytes={MIB}),") + DIE)
    (first,) = tmp_path.glob("*.jsonl")
    head = json.loads(first.read_bytes().splitlines()[0])
    second = tmp_path / first.name.replace("000001", "000002")
    content = json.dumps({**head, "seq": 2, "opened": 5}, separators=(",", ":")).encode() + b"\n"
    content += first.read_bytes().splitlines(keepends=True)[1]
    second.write_bytes(content[:keep])
    assert Store(tmp_path).recover() == 2
    assert interrupted(tmp_path) == {"root": 1111, "leaf": 101}


@pytest.mark.parametrize("step", ["before", "writing", "between", "after"])
def test_a_recoverer_that_is_killed_leaves_it_to_the_next_and_none_is_doubled(tmp_path: Path, step: str) -> None:
    run(tmp_path, TREE + DIE)
    code = {
        "before": "os.replace = lambda *a: os.kill(os.getpid(), 9)",
        "writing": """
real = os.write
def half(descriptor, data):
    real(descriptor, bytes(data)[:500]); os.kill(os.getpid(), 9)
os.write = half""",
        "between": """
from otel_steps.receipts import disk
disk.sync = lambda descriptor: os.kill(os.getpid(), 9)""",
        "after": """
replace = os.replace
def once(*a):
    replace(*a); os.kill(os.getpid(), 9)
os.replace = once""",
    }[step]
    for _ in range(3):
        run(tmp_path, code + "\nStore(folder).recover()")
    Store(tmp_path).recover()
    assert interrupted(tmp_path) == {"root": 1111, "leaf": 101}
    assert not list(tmp_path.glob("*.tmp"))


def test_whoever_comes_first_of_many_does_it_once(tmp_path: Path) -> None:
    for _ in range(5):
        run(tmp_path, TREE + DIE)
    code = SETUP + "print('up', flush=True); sys.stdin.readline(); print(Store(folder).recover())"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for racer in racers:
        assert racer.stdout is not None
        racer.stdout.readline()
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    counts = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    assert sum(counts) == 10
    names = Counter(entry.record.name for entry in read_receipts(tmp_path))
    assert names == {"root": 5, "leaf": 5, "done": 5}


def test_stores_of_one_process_do_not_take_each_other_for_dead(tmp_path: Path) -> None:
    stores = [Store(tmp_path, endpoint=HERE) for _ in range(4)]
    step = opened()
    for store in stores:
        store.spent(step.receipt_id, usage(), (step,))
        assert store.recover() == 0
    threads = [threading.Thread(target=store.recover) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert interrupted(tmp_path) == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_its_own_file_and_none_of_its_parent_s_steps_receipts_and_locks(tmp_path: Path) -> None:
    out = run(
        tmp_path,
        TREE
        + """
read, write = os.pipe()
child = os.fork()
if child == 0:
    os.close(read)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    assert store.waiting() == 0
    assert store.take(10, 1 << 20) is None
    store.completed(receipt("child"))
    mine = opened("mine")
    store.spent(mine.receipt_id, usage(7, 0), (mine,))
    os.write(write, b"x")
    time.sleep(60)
    os._exit(1)
os.close(write)
os.read(read, 1)
print(child, flush=True)
assert store.waiting() == 1
store.completed(receipt("parent"))
"""
        + DIE,
    )
    child = int(out)
    try:
        store = Store(tmp_path)
        assert store.recover() == 2  # the parent's: its lock went with it, though the child lives
        assert interrupted(tmp_path) == {"root": 1111, "leaf": 101}
        writers = {files.writer for files in scan(tmp_path) if files.segments}
        assert len(writers) == 2
    finally:
        os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while store.recover() == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert interrupted(tmp_path) == {"root": 1111, "leaf": 101, "mine": 7}
    names = Counter(entry.record.name for entry in read_receipts(tmp_path))
    assert names["child"] == names["parent"] == names["done"] == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_parent_s_lock_outlives_its_children_and_forks_amid_writing_threads_hang_nobody(tmp_path: Path) -> None:
    run(
        tmp_path,
        f"""
import threading
store = Store(folder, endpoint={HERE!r})
step = opened("open"); store.spent(step.receipt_id, usage(1, 0), (step,))
stop = False
def work():
    while not stop: store.completed(receipt("thread"))
threads = [threading.Thread(target=work) for _ in range(3)]
for t in threads: t.start()
children = []
for n in range(20):
    child = os.fork()
    if child == 0:
        store.completed(receipt(f"child{{n}}"))
        store.close()
        os._exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
stop = True
for t in threads: t.join()
assert Store(folder).recover() == 0
"""
        + DIE,
    )
    store = Store(tmp_path)
    assert store.recover() == 1
    names = Counter(entry.record.name for entry in read_receipts(tmp_path))
    assert all(names[f"child{n}"] == 1 for n in range(20))


def test_a_program_started_by_the_process_does_not_hold_its_lock(tmp_path: Path) -> None:
    out = run(
        tmp_path,
        TREE
        + """
import subprocess
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
sleeper = subprocess.Popen(sleep, stdout=subprocess.DEVNULL, close_fds=False)
print(sleeper.pid, flush=True)
"""
        + DIE,
    )
    try:
        assert Store(tmp_path).recover() == 2
    finally:
        os.kill(int(out), signal.SIGKILL)


def test_what_was_acknowledged_before_a_kill_is_not_skipped_nor_all_sent_again(tmp_path: Path) -> None:
    run(
        tmp_path,
        f"""
store = Store(folder, endpoint={HERE!r})
for n in range(10): store.completed(receipt(f"s{{n}}"))
batch = store.take(4, 1 << 20)
store.acknowledge(batch, 3)
"""
        + DIE,
    )
    store = Store(tmp_path, endpoint=HERE)
    batch = store.take(100, 1 << 20)
    assert batch is not None
    assert [record.name for record in batch.records] == [f"s{n}" for n in range(3, 10)]


@pytest.mark.parametrize("note", [b"", b"{", b"\0" * 40, b'{"seq":"x"}'])
def test_a_damaged_note_of_what_was_delivered_sends_again_and_never_skips(tmp_path: Path, note: bytes) -> None:
    run(
        tmp_path,
        f"store = Store(folder, endpoint={HERE!r})\nfor n in range(3): store.completed(receipt(f's{{n}}'))\n"
        f"store.acknowledge(store.take(2, 1 << 20), 2)\n" + DIE,
    )
    (file,) = tmp_path.glob("*.position.json")
    file.write_bytes(note)
    batch = Store(tmp_path, endpoint=HERE).take(100, 1 << 20)
    assert batch is not None
    assert len(batch.records) == 3


def test_two_shippers_never_have_the_same_file_and_together_have_all(tmp_path: Path) -> None:
    for writer in range(6):
        store = Store(tmp_path, endpoint=HERE)
        for number in range(20):
            store.completed(receipt(f"{writer}.{number}"))
        store.close()
    shippers = [Store(tmp_path, endpoint="http://x", any_endpoint=True) for _ in range(3)]
    sent: list[list[str]] = [[] for _ in shippers]

    def ship(index: int) -> None:
        while (batch := shippers[index].take(7, 1 << 20)) is not None:
            sent[index] += [record.name for record in batch.records]
            shippers[index].acknowledge(batch, len(batch.records))

    threads = [threading.Thread(target=ship, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = Counter(name for names in sent for name in names)
    assert counted == {f"{writer}.{number}": 1 for writer in range(6) for number in range(20)}


def test_more_dead_writers_than_are_held_at_a_time_are_all_delivered(tmp_path: Path) -> None:
    for number in range(3 * adoption.ADOPT_MAX):
        store = Store(tmp_path, endpoint=HERE)
        store.completed(receipt(f"s{number}"))
        store.close()
    store = Store(tmp_path, endpoint=HERE)
    names = []
    while (batch := store.take(100, 1 << 20)) is not None:
        names += [record.name for record in batch.records]
        store.acknowledge(batch, len(batch.records))
    assert sorted(names) == sorted(f"s{number}" for number in range(3 * adoption.ADOPT_MAX))
    assert not [files for files in scan(tmp_path) if files.unfinished]


def test_files_of_a_later_version_are_kept_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, TREE + DIE)
    (file,) = tmp_path.glob("*.jsonl")
    content = file.read_bytes().replace(b'"schema":1', b'"schema":2')
    file.write_bytes(content)
    store = Store(tmp_path, endpoint=HERE)
    assert store.recover() == 0
    assert store.take(10, 1 << 20) is None
    assert list(read_receipts(tmp_path)) == []
    assert "later version" in caplog.text
    assert file.read_bytes() == content


@pytest.mark.skipif(sys.platform == "win32", reason="file systems without locks are a matter of fcntl")
def test_a_file_system_without_locks_still_has_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import fcntl

    def enolck(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", enolck)
    store = Store(tmp_path, endpoint=HERE)
    store.completed(receipt("a"))
    assert [entry.record.name for entry in read_receipts(tmp_path)] == ["a"]
    other = Store(tmp_path, endpoint=HERE)
    assert other.take(1, 1) is None  # nobody can tell whether its writer lives
    assert "no locks" in caplog.text
    store.close()
