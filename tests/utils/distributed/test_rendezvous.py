import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from utils.distributed import rendezvous
from utils.distributed.rendezvous import free_port, meet, wait
from utils.system.errors import UserError

HOST = "127.0.0.1"


def _together(port, ranks, size, timeout=20.0, late=lambda: None):
    """What `meet` gives or raises to each of `ranks`, of which the last waits for `late`."""

    def come(rank):
        if rank == ranks[-1]:
            late()
        try:
            return meet(HOST, port, rank, size, timeout)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(come, ranks))


@pytest.fixture
def launcher(monkeypatch):
    """The port of a store that a launcher serves, and the store."""
    store = dist.TCPStore(HOST, free_port(), is_master=True, wait_for_workers=False)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("MASTER_ADDR", HOST)
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    return store.port, store


def test_processes_meet_in_a_store_of_their_own():
    stores = _together(free_port(), [0, 1, 2], 3)
    stores[1].set("key", "value")
    assert [store.get("key") for store in stores] == [b"value"] * 3


def test_processes_started_again_do_not_find_what_those_before_left(launcher):
    port, _ = launcher
    before = _together(port, [0, 1], 2)
    before[0].set("key", "stale")
    # Process 0 sees the word of the one before first.
    after = _together(port, [0, 1], 2, late=lambda: time.sleep(0.3))
    assert not after[1].check(["key"])
    after[0].set("key", "new")
    assert (after[1].get("key"), before[1].get("key")) == (b"new", b"stale")


def test_who_is_late_is_named_meanwhile(monkeypatch):
    named = threading.Event()

    def printed(line, flush):
        if line == "waiting for process 2 of 3":
            named.set()

    monkeypatch.setattr(rendezvous, "print", printed, raising=False)
    monkeypatch.setattr(rendezvous, "PATIENCE", 0.01)
    stores = _together(free_port(), [0, 1, 2], 3, late=lambda: named.wait(20))
    assert named.is_set() and not any(isinstance(store, str) for store in stores)


def test_who_does_not_come_is_named_to_all_who_did():
    told = _together(free_port(), [0, 1], 4, timeout=0.5)
    assert told[0].startswith("--timeout 0.5: processes 2, 3 of 4 did not come")
    assert told[1] == told[0]


def test_without_process_0_a_launchers_store_gives_no_answer(launcher):
    (told,) = _together(launcher[0], [1], 2, timeout=0.3)
    assert told.startswith("--timeout 0.3: process 1 of 2 waited for process 0 in vain")


@pytest.mark.parametrize("rank", [0, 1])
def test_an_address_that_is_none_is_told_at_once(rank):
    with pytest.raises(socket.gaierror):
        meet("no host", 1, rank, 2, timeout=600)


def test_waiting_ends():
    store = dist.HashStore()
    assert not wait(store, ["key"], 0.1)
    store.set("key", "")
    assert wait(store, ["key"], 0.1)
