import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from utils.distributed import rendezvous
from utils.distributed.rendezvous import free_port, open_store, wait_for_keys
from utils.system.errors import UserError

HOST = "127.0.0.1"


def _start(port, ranks, size, timeout=20.0, before_last=lambda: None):
    """What each of `ranks` gets or raises as a message; the last calls `before_last` first."""

    def run(rank):
        if rank == ranks[-1]:
            before_last()
        try:
            return open_store(HOST, port, rank, size, timeout)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(run, ranks))


@pytest.fixture
def launcher(monkeypatch):
    """The port of a store that a launcher serves, and the store."""
    store = dist.TCPStore(HOST, free_port(), is_master=True, wait_for_workers=False)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("MASTER_ADDR", HOST)
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    return store.port, store


def test_ranks_share_one_store():
    stores = _start(free_port(), [0, 1, 2], 3)
    stores[1].set("key", "value")
    assert [store.get("key") for store in stores] == [b"value"] * 3


def test_restarted_ranks_do_not_see_the_keys_of_the_previous_ones(launcher):
    port, _ = launcher
    before = _start(port, [0, 1], 2)
    before[0].set("key", "stale")
    # Rank 0 first sees the token of the previous rank 1.
    after = _start(port, [0, 1], 2, before_last=lambda: time.sleep(0.3))
    assert not after[1].check(["key"])
    after[0].set("key", "new")
    assert (after[1].get("key"), before[1].get("key")) == (b"new", b"stale")


def test_a_late_rank_is_named_while_the_others_wait(monkeypatch):
    named = threading.Event()

    def printed(line):
        if line == "waiting for rank 2 of 3":
            named.set()

    monkeypatch.setattr(rendezvous, "print_line", printed)
    monkeypatch.setattr(rendezvous, "PATIENCE", 0.01)
    stores = _start(free_port(), [0, 1, 2], 3, before_last=lambda: named.wait(20))
    assert named.is_set() and not any(isinstance(store, str) for store in stores)


def test_missing_ranks_are_named_to_all_others():
    messages = _start(free_port(), [0, 1], 4, timeout=0.5)
    assert messages[0].startswith("--timeout 0.5: ranks 2, 3 of 4 did not start")
    assert messages[1] == messages[0]


def test_a_launchers_store_without_rank_0_times_out(launcher):
    (message,) = _start(launcher[0], [1], 2, timeout=0.3)
    assert message.startswith("--timeout 0.3: rank 1 of 2 got no answer from rank 0")


@pytest.mark.parametrize("rank", [0, 1])
def test_an_unknown_host_is_an_error_at_once(rank):
    with pytest.raises(socket.gaierror):
        open_store("no host", 1, rank, 2, timeout=600)


def test_waiting_for_keys_times_out():
    store = dist.HashStore()
    assert not wait_for_keys(store, ["key"], 0.1)
    store.set("key", "")
    assert wait_for_keys(store, ["key"], 0.1)
