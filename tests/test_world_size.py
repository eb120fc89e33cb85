"""Training and testing give the same results on any number of ranks: whole steps, gloo on CPUs.

The file is also the program of the ranks, which form groups of 4, 3 and 2 one after another.
"""

import copy
import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.profiler import profile

from models import NeuronSetting
from models.network import SpikingNetwork
from models.neuron import IFNeuron, LIFNeuron
from tests import ranks
from utils.datasets.sharding import test_spans as spans_of_test
from utils.datasets.sharding import train_spans
from utils.distributed.launch_env import join
from utils.distributed.world import World
from utils.optimization import optimizer
from utils.training import loop
from utils.training.hooks import StepHooks
from utils.training.progress import Bar
from utils.training.state import TrainState

ALONE = World(torch.device("cpu"))
STEPS, BATCH, CLASSES, TESTED = 5, 10, 7, 23  # shares of 2, 3, 2, 3 for four; 23 is prime
ENGINES = ("folded", "unrolled")
NEURONS = {"if": (IFNeuron, 1.5), "lif": (LIFNeuron, 0.1)}
PARTS = (5, 6)  # shares of a batch that two processes present in two parts, of 3, 2 and of 3, 3


class Net(SpikingNetwork):
    """Every kind of branch: a static input, a BatchNorm in a branch, a residual, a pool, 1x1."""

    in_channels = 3

    def __init__(self, neuron, Vth):
        setting = NeuronSetting(timesteps=3, Vth=Vth, delta_t=0.2)
        super().__init__(setting)
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1, self.relu1 = nn.BatchNorm2d(4), neuron(setting)
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
        self.down = nn.Sequential(nn.Conv2d(4, 6, 1, stride=2, bias=False), nn.BatchNorm2d(6))
        self.bn2, self.relu2 = nn.BatchNorm2d(6), neuron(setting)
        self.conv3 = nn.Conv2d(6, 6, 3, padding=1)
        self.bn3, self.relu3 = nn.BatchNorm2d(6), neuron(setting)
        self.pool, self.flat = nn.AvgPool2d(2), nn.Flatten()
        self.fc = nn.Linear(6 * 2 * 2, CLASSES)
        self.bn4, self.relu4 = nn.BatchNorm1d(CLASSES), neuron(setting)

    def forward(self, images):
        x = self.relu1(self.bn1(self.conv1(self.present(images))))
        x = self.relu2(self.bn2(self.conv2(x) + self.down(x)))
        x = self.relu3(self.bn3(self.conv3(x) + x))
        return self.readout(self.relu4(self.bn4(self.fc(self.flat(self.pool(x))))))


def network(kind, engine="folded", sync_bn=False):
    torch.manual_seed(0)
    model = Net(*NEURONS[kind]).double()
    for norm in (module for module in model.modules() if hasattr(module, "running_mean")):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 1)
    model.configure(engine=engine, sync_bn=sync_bn)
    return model


def samples(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, 8, 8, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, CLASSES, (count,), generator=generator)


class Batches(list):
    """The batches of one rank, like those of a loader."""

    def __init__(self, data, spans):
        super().__init__(tuple(part[a:b] for part in data) for a, b in spans)
        self.num_samples, self.waited = len(data[0]), 0.0


def train(world, kind, engine_name, sync_bn=True, compression="none", steps=STEPS):
    """The parameters, thresholds and running statistics after five steps."""
    model = network(kind, engine_name, sync_bn)
    sgd = optimizer.build("SGD", model, lr=0.1, momentum=0.9, weight_decay=1e-2, nesterov=False)
    spans = train_spans(steps * BATCH, BATCH, world.rank, world.size)
    batches = Batches(samples(steps * BATCH), spans)
    wrapped, bar = world.wrap(model, compression), Bar("", batches)
    state = TrainState(model, sgd)
    loop.train_one_epoch(state, wrapped, batches, [0.1] * steps, world, bar, StepHooks())
    return model.state_dict()


def gradient(world, model, data, weigh=True, parts=1, compression="none"):
    """The gradient of the mean loss over `data`, this rank's part of the batch, and the others."""
    wrapped = world.wrap(model, compression)
    if not weigh:
        world = ALONE
    loop.compute_gradients(wrapped, *data, world, parts)
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def frozen(kind):
    """A network whose BatchNorms use running statistics, so that samples do not interact."""
    model = network(kind)
    for module in model.modules():
        if hasattr(module, "running_mean"):
            module.train(False)
    return model


def share(world, data):
    """This rank's part of a batch that is cut at `PARTS`, or the whole batch of one rank."""
    return tuple(half.split(PARTS)[world.rank] for half in data) if world.size > 1 else data


def exchanges(world, sync_bn):
    """The number of all-reduces in one step, including that of the loss weight."""
    model = network("lif", sync_bn=sync_bn)
    wrapped, data = world.wrap(model), samples(8, seed=world.rank)
    with profile() as seen:
        loop.compute_gradients(wrapped, *data, world)
    return sum(event.name == "gloo:all_reduce" for event in seen.events())


def evaluated(world):
    model = network("lif")
    data = samples(TESTED, seed=3)
    batches = Batches(data, spans_of_test(TESTED, 4, world.rank, world.size))
    return loop.evaluate(model, batches, world, Bar("", batches))


def as_process(folder):
    """What each rank computes and saves."""
    torch.set_num_threads(1)
    rank, ports = int(os.environ["RANK"]), sys.argv[2:]
    for size, port in zip((4, 3, 2), ports, strict=True):
        if rank >= size:
            return
        os.environ.update(ranks.group(rank, size, port))
        with join() as world:
            results = {"evaluated": tuple(evaluated(world))}
            if size != 3:
                for kind in NEURONS:
                    for name in ENGINES:
                        results[kind, name] = train(world, kind, name)
            if size == 2:
                results |= of_two(world)
            torch.save(results, folder / f"{size}.{rank}.pt")


def of_two(world):
    """What is computed in the group of two only."""
    own = samples(6, seed=world.rank)
    results = {"exchanges": {sync: exchanges(world, sync) for sync in (False, True)}}
    for name in ENGINES:
        results["own", name] = gradient(ALONE, network("lif", name), own)
        results["mean", name] = gradient(world, network("lif", name), own, weigh=False)
    whole = share(world, samples(sum(PARTS)))
    for compression in ("none", "bf16"):
        results[compression] = gradient(world, frozen("if"), whole, compression=compression)
    results["parts"] = gradient(world, frozen("if"), whole, parts=2)
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The results of each rank of the groups of 2, 3 and 4, by size and rank."""
    folder = tmp_path_factory.mktemp("world_size")
    printed = ranks.run(4, __file__, folder, *(ranks.free_port() for _ in range(3)))
    assert not any("stride" in errors for _, errors in printed)  # buckets would be copied
    return {
        size: [torch.load(folder / f"{size}.{r}.pt", weights_only=True) for r in range(size)]
        for size in (2, 3, 4)
    }


def furthest(one, two):
    assert one.keys() == two.keys()
    return max((one[key].double() - two[key].double()).abs().max().item() for key in one)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("kind", NEURONS)
def test_with_sync_bn_any_number_of_processes_trains_the_network_that_one_does(results, kind, name):
    alone = train(ALONE, kind, "unrolled", sync_bn=False)
    begun = network(kind).state_dict()
    moved = [abs(alone[key] - begun[key]).max() for key in alone if key.endswith("Vth")]
    assert min(moved) > 1e-4
    assert furthest(train(ALONE, kind, name), alone) < 1e-9
    for size in (2, 4):
        for result in results[size]:
            assert furthest(result[kind, name], alone) < 1e-9


@pytest.mark.parametrize("name", ENGINES)
def test_without_sync_bn_gradients_are_the_mean_over_the_ranks(results, name):
    own = [result["own", name] for result in results[2]]
    mean = {key: (own[0][key] + own[1][key]) / 2 for key in own[0]}
    assert any(key.endswith("Vth") and mean[key].abs() > 1e-6 for key in mean)
    for result in results[2]:
        assert furthest(result["mean", name], mean) < 1e-12


def test_every_test_image_counts_once_on_any_number_of_ranks(results):
    images, labels = samples(TESTED, seed=3)
    model = network("lif").eval()
    with torch.no_grad():
        logits = torch.cat([model(image[None]) for image in images])
    hit = sum(int(row.argmax() == label) for row, label in zip(logits, labels, strict=True))
    top5 = sum(int(label in row.topk(5).indices) for row, label in zip(logits, labels, strict=True))
    loss = nn.functional.cross_entropy(logits, labels).item()
    assert 0 < hit < top5 < TESTED
    for scores in [tuple(evaluated(ALONE)), *(r["evaluated"] for n in results for r in results[n])]:
        assert scores == (pytest.approx(loss), 100 * hit / TESTED, 100 * top5 / TESTED, TESTED)


def test_without_sync_bn_no_layer_has_a_collective(results):
    layers = sum(hasattr(module, "running_mean") for module in network("lif").modules())
    for result in results[2]:
        assert result["exchanges"][False] == 2  # the loss's weight, one bucket of gradients
        assert result["exchanges"][True] == 2 + 2 * layers


def test_parts_of_unequal_shares_add_up_to_the_gradient_of_the_whole_batch(results):
    model = frozen("if")
    expected = gradient(ALONE, copy.deepcopy(model), samples(sum(PARTS)))
    assert furthest(gradient(ALONE, model, samples(sum(PARTS)), parts=3), expected) < 1e-12
    for result in results[2]:
        assert furthest(result["parts"], expected) < 1e-12
        assert furthest(result["none"], expected) < 1e-12


def test_compressed_gradients_agree_to_the_digits_of_bf16(results):
    for result in results[2]:
        for key, exact in result["none"].items():
            sent = result["bf16"][key]
            assert (sent - exact).norm() <= 2**-7 * exact.norm(), key
            assert not torch.equal(sent, exact) or not exact.any()
    assert furthest(*(result["bf16"] for result in results[2])) == 0


if __name__ == "__main__":
    as_process(Path(sys.argv[1]))
