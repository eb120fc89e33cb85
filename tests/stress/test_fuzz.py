"""Damaged files of every kind that the programs read: each is read or is a UserError of one line.

`FUZZ_EXAMPLES=10000 python -m pytest tests/stress/test_fuzz.py -s` tries that many of each kind and
prints the outcomes; `FUZZ_SEED=1` tries other ones. The suite tries few.
"""

import copy
import io
import os
import zipfile
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from models import NeuronSetting
from tests.cifar.tiny_net import tiny_lif
from tests.imagenet.tiny_net import snn
from tests.stress.damage import damaged
from tests.utils.events.formats.aedat4_bytes import aedat4_bytes
from tests.utils.events.layouts import (
    AEDAT3_HEADER,
    aedat3_packet,
    atis_bytes,
    random_rows,
    write_gesture,
)
from tests.utils.events.recordings import make_events
from utils.datasets.digits import EMBEDDED, load_digits
from utils.distributed.world import World
from utils.events.batches import COLLECTIONS
from utils.events.formats.aedat2 import encode_aedat2
from utils.events.formats.reader import read_events
from utils.events.frame_cache import DamagedFrames, FrameKind, read_frames, write_frames
from utils.events.frames import to_frames
from utils.optimization import optimizer
from utils.runs import checkpoint
from utils.system import random_state
from utils.system.errors import UserError
from utils.training.state import TrainState

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
WORLD = World(torch.device("cpu"))
SETTING = NeuronSetting(timesteps=2)
OPTIMIZER = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "nesterov": False}


def fuzz(test):
    """Call `test(data)`, which draws from `data`, once per example."""
    limits = settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None)
    seed(SEED)(limits(given(st.data())(test)))()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file"


@pytest.fixture
def outcomes(request):
    """Counts the outcomes and prints them at the end."""
    counter = Counter()
    yield counter
    print(f"\n{request.node.name}: {dict(counter)}")


def _read(outcomes, read, errors=UserError):
    """Count whether `read` returns or raises an error of one line."""
    try:
        read()
    except errors as error:
        assert "\n" not in str(error)
        outcomes["refused"] += 1
    else:
        outcomes["read"] += 1


def _file(write):
    """The bytes that `write` writes into a file."""
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {member.filename: archive.read(member) for member in archive.infolist()}


def _zipped(members):
    """A zip file of these members with valid checksums."""

    def write(buffer):
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)

    return _file(write)


def _inside(draw, whole, name):
    """The zip file `whole` with a damaged member `name` and valid checksums."""
    members = _members(whole)
    key = next(key for key in members if key.endswith(name))
    return _zipped(members | {key: draw(damaged([members[key]]))})


def _recordings():
    events = make_events(60)
    yield encode_aedat2(events, ["a comment"])
    yield aedat4_bytes(events.t, events.x, events.y, events.p)


def test_recordings(path, outcomes):
    pytest.importorskip("aedat")
    wholes = list(_recordings())

    def read(data):
        path.write_bytes(data.draw(damaged(wholes)))
        _read(outcomes, lambda: to_frames(read_events(path), 4))

    fuzz(read)


def test_recordings_of_other_formats(tmp_path, outcomes):
    rows = random_rows(np.random.default_rng(0), 60, 34)
    packets = aedat3_packet(rows[:30]), aedat3_packet(rows[30:], invalid={2}, room=40)
    kinds = {".aedat": AEDAT3_HEADER + b"".join(packets), ".bin": atis_bytes(rows)}

    def read(data):
        suffix = data.draw(st.sampled_from(list(kinds)))
        path = tmp_path / f"file{suffix}"
        path.write_bytes(data.draw(damaged([kinds[suffix]])))
        _read(outcomes, lambda: to_frames(read_events(path), 4))

    fuzz(read)


def test_lists_and_labels_of_gestures(tmp_path, outcomes):
    write_gesture(tmp_path)
    kind = COLLECTIONS["DVS128Gesture"].kind(2)
    files = [tmp_path / "DvsGesture" / n for n in ("user01_led_labels.csv", "trials_to_train.txt")]
    wholes = {file: file.read_bytes() for file in files}

    def read(data):
        file = data.draw(st.sampled_from(files))
        file.write_bytes(data.draw(damaged([wholes[file]])))
        _read(outcomes, lambda: COLLECTIONS["DVS128Gesture"].samples(tmp_path, kind))
        file.write_bytes(wholes[file])

    fuzz(read)


KIND = FrameKind(2)


@pytest.fixture(scope="module")
def cache(path):
    write_frames(path, to_frames(make_events(60), 2))
    return path.read_bytes()


def test_frame_caches(path, cache, outcomes):
    def read(data):
        inside = data.draw(st.booleans())
        content = _inside(data.draw, cache, ".npy") if inside else data.draw(damaged([cache]))
        path.write_bytes(content)
        _read(outcomes, lambda: read_frames(path, KIND), DamagedFrames)

    fuzz(read)


def test_digits(tmp_path, outcomes):
    whole = (EMBEDDED / "digits.npz").read_bytes()

    def read(data):
        inside = data.draw(st.booleans())
        content = _inside(data.draw, whole, ".npy") if inside else data.draw(damaged([whole]))
        (tmp_path / "digits.npz").write_bytes(content)
        _read(outcomes, lambda: load_digits(tmp_path))

    fuzz(read)


# Values that may replace others in a file.
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -1, 2**63, 1e308]))
TENSORS = st.sampled_from(
    [
        torch.zeros(()),
        torch.zeros(3),
        torch.full((), float("nan")),
        torch.full((1,), -1.0),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros(1, dtype=torch.complex64),
        torch.zeros(1, dtype=torch.bool),
        torch.zeros(0),
        torch.zeros(1).expand(10**9),
    ]
)
THINGS = st.recursive(
    st.one_of(st.none(), NUMBERS, st.text(max_size=5), st.binary(max_size=5), TENSORS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers()), inner, max_size=3),
    ),
    max_leaves=5,
)


def _altered(draw, content):
    """A copy of `content` in which one value at some depth is replaced or missing."""
    content = copy.copy(content)
    if isinstance(content, dict) and content:
        key = draw(st.sampled_from(list(content)))
        if draw(st.integers(0, 4)) == 0:
            del content[key]
        elif draw(st.booleans()):
            content[key] = _altered(draw, content[key])
        else:
            content[key] = draw(THINGS)
        return content
    if isinstance(content, list) and content:
        index = draw(st.integers(0, len(content) - 1))
        content[index] = _altered(draw, content[index])
        return content
    return draw(THINGS)


def _damaged_content(draw, content, whole, legacy):
    """A file of tensors: damaged, damaged with valid checksums, or with other values."""
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return draw(damaged([whole, legacy]))
    if kind == 1:
        return _inside(draw, whole, "data.pkl")
    return _file(lambda buffer: torch.save(_altered(draw, content), buffer))


def _both_forms(content):
    """The bytes of `content` in the current file format and in the older one."""
    new = _file(lambda buffer: torch.save(content, buffer))
    old = _file(lambda b: torch.save(content, b, _use_new_zipfile_serialization=False))
    return new, old


def test_thresholds(path, outcomes):
    from imagenet.pretrained import load_Vth

    net = snn(SETTING)
    content = {n.replace("relu", "storein"): torch.tensor(1.5) for n in net.neurons()}
    content["storein1"] = (torch.tensor([2.0]),)  # as published ones are
    whole, legacy = _both_forms(content)

    def read(data):
        path.write_bytes(_damaged_content(data.draw, content, whole, legacy))
        _read(outcomes, lambda: load_Vth(net, path, WORLD))

    fuzz(read)


def test_checkpoints(path, outcomes):
    """Of any optimizer, read into any; a checkpoint that is read allows a step."""
    states = {name: _trained(name) for name in optimizer.NAMES}
    contents = {name: _content(state) for name, state in states.items()}
    files = {name: _both_forms(content) for name, content in contents.items()}
    drawn, names = random_state.capture(WORLD.device), st.sampled_from(optimizer.NAMES)

    def read(data):
        written_by, read_by, alter = data.draw(st.tuples(names, names, st.booleans()))
        content, state = contents[written_by], states[read_by]
        if alter:
            altered = content | {"optimizer": _altered(data.draw, content["optimizer"])}
            path.write_bytes(_file(lambda buffer: torch.save(altered, buffer)))
        else:
            path.write_bytes(_damaged_content(data.draw, content, *files[written_by]))

        def resume():
            state.resume(checkpoint.load(path), 3, WORLD, "file")
            assert state.epoch >= 0 and 0 <= state.step <= 3
            assert all(len(row) == 5 for row in state.rows)
            state.optimizer.step()

        _read(outcomes, resume)
        random_state.restore(drawn, WORLD.device)

    fuzz(read)


def _content(state):
    """A checkpoint of `state` within an epoch, independent of it."""
    content = copy.deepcopy(state.snapshot(WORLD))
    content |= {"epoch": 1, "step": 1, "steps": 3, "setting": {"a": 1}, "manualSeed": 3}
    return content | {"parts": [{"totals": [1.0, 2.0, 3.0, 4.0], "statistics": {}}]}


def _trained(name):
    """The state after a step of the optimizer `name`."""
    net = tiny_lif(SETTING)
    state = TrainState(net, optimizer.build(name, net, **OPTIMIZER))
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    state.rows = [[0.1, 2.0, 2.0, 10.0, 10.0]]
    return state
