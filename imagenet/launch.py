"""Start the processes that the flags ask for, and connect them."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass

import torch

from utils.distributed.launch_env import connect, join, single_process, variable
from utils.distributed.rendezvous import free_port
from utils.distributed.spawn import spawn
from utils.distributed.world import World
from utils.system.errors import UserError

_MULTICAST = "tcp://224."  # the published default, an address that torch no longer supports


@dataclass(frozen=True)
class Layout:
    """`nodes` machines of `per_node` processes each; this is machine `node`."""

    nodes: int
    node: int
    per_node: int

    @property
    def size(self) -> int:
        """The number of processes."""
        return self.nodes * self.per_node


Work = Callable[[Namespace, Layout, World], None]


def start(work: Work, args: Namespace) -> None:
    """Call `work(args, layout, world)` in each process that the flags ask for on this machine.

    Raises `UserError` for flags that contradict each other or do not fit this machine.
    """
    if layout := _launched(args):
        with join(args.local_rank, args.timeout) as world:
            work(args, layout, world)
        return
    layout = _layout(args)
    url = _rendezvous_url(args.dist_url, layout)
    if layout.size == 1:
        with _alone(args) as world:
            work(args, layout, world)
    elif args.multiprocessing_distributed:
        spawn(_process, layout.per_node, work, args, layout, url)
    else:
        _process(0, work, args, layout, url)


def _process(index: int, work: Work, args: Namespace, layout: Layout, url: str) -> None:
    """Connect to the other processes as process `index` of this machine, and call `work`."""
    device = _device(index if args.multiprocessing_distributed else args.gpu or 0)
    if device.type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // layout.per_node))
    backend = args.dist_backend if device.type == "cuda" else "gloo"
    rank = layout.node * layout.per_node + index
    with connect(url, backend, rank, layout.size, device, args.timeout) as world:
        work(args, layout, world)


def _alone(args: Namespace) -> World:
    """Return the world of a single process that no launcher started."""
    if args.gpu is not None:
        return World(_device(args.gpu))
    if args.multiprocessing_distributed:
        return single_process()
    world = join(args.local_rank, args.timeout)
    others = torch.cuda.device_count() - world.size
    if world.size == 1 and others > 0:
        world.print_main(
            f"note: {others} more GPUs here; --multiprocessing-distributed uses them all"
        )
    return world


def _launched(args: Namespace) -> Layout | None:
    """Return the layout of this process's launcher, None without one or where flags override."""
    by_flags = args.multiprocessing_distributed or args.gpu is not None or args.nproc
    if by_flags or (args.world_size, args.rank) != (-1, -1) or "WORLD_SIZE" not in os.environ:
        return None
    size = variable("WORLD_SIZE", 1)
    per_node = variable("LOCAL_WORLD_SIZE", 1, size, default=size)
    return Layout(size // per_node, variable("GROUP_RANK", 0, size - 1, default=0), per_node)


def _layout(args: Namespace) -> Layout:
    nodes, node = args.world_size, args.rank
    if nodes == -1 and node == -1:
        nodes, node = 1, 0
    if nodes < 1 or not 0 <= node < nodes:
        raise UserError(
            f"--world-size {args.world_size} --rank {args.rank}: do not fit; give the number of "
            "nodes, and this node's number from 0"
        )
    return Layout(nodes, node, _per_node(args))


def _per_node(args: Namespace) -> int:
    gpus = torch.cuda.device_count()
    if args.gpu is not None and args.gpu >= gpus:
        raise UserError(f"--gpu {args.gpu}: there are {gpus} GPUs here, from 0")
    if not args.multiprocessing_distributed:
        if args.nproc:
            raise UserError(f"--nproc {args.nproc}: needs --multiprocessing-distributed")
        return 1
    if args.gpu is not None:
        raise UserError("--gpu: --multiprocessing-distributed takes all GPUs; give one of the two")
    if gpus and (args.nproc or 1) > gpus:
        raise UserError(f"--nproc {args.nproc}: there are {gpus} GPUs, one for each process")
    return args.nproc or gpus or 1


def _rendezvous_url(url: str, layout: Layout) -> str:
    """Return `url`, or for the published default on one machine the URL of a free port."""
    if not url.startswith(_MULTICAST):
        return url
    if layout.nodes > 1:
        raise UserError(f"--dist-url {url}: several nodes need tcp://<address of node 0>:<port>")
    return f"tcp://127.0.0.1:{free_port()}"


def _device(gpu: int) -> torch.device:
    return torch.device("cuda", gpu) if torch.cuda.is_available() else torch.device("cpu")
