import pytest
import torch

from utils.distributed.world import World
from utils.runs import checkpoint, resume
from utils.runs.paths import RunFiles
from utils.runs.resume import locate
from utils.system.errors import UserError

WORLD = World(torch.device("cpu"))


@pytest.fixture
def files(tmp_path):
    return RunFiles(tmp_path, "net")


def _save(path, epoch, **more):
    weights = {"w": torch.full((50,), float(epoch))}
    checkpoint.save(path, {"epoch": epoch, "state_dict": weights, **more})


def _cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def _read(files, name="auto", evaluate=False):
    resumed = resume.read(name, files, WORLD, evaluate)
    return (resumed.name, resumed.content) if resumed else None


def test_no_resume_and_a_named_file(files):
    assert _read(files, "") is None
    _save(files.best, 3)
    name, content = _read(files, "net_best.pth")
    assert (name, content["epoch"]) == ("net_best.pth", 3)


@pytest.mark.parametrize(
    ("steps", "newest"),
    [
        ({"last": (3, 0), "previous": (2, 0), "best": (3, 0)}, "net.pth"),
        ({"last": (3, 0), "mid": (3, 7), "previous": (2, 0)}, "net_mid.pth"),
        ({"last": (3, 0), "mid": (2, 7)}, "net.pth"),
        ({"last": (3, 0), "best": (4, 0)}, "net_best.pth"),
        ({"mid": (0, 2)}, "net_mid.pth"),
    ],
)
def test_auto_is_the_one_that_got_furthest(files, steps, newest):
    for name, (epoch, step) in steps.items():
        _save(getattr(files, name), epoch, step=step)
    assert _read(files)[0] == newest


def test_damaged_ones_are_named_and_passed_over(files, capsys):
    for path, epoch in ((files.last, 3), (files.previous, 2), (files.best, 1)):
        _save(path, epoch)
    _cut(files.last)
    files.mid.write_text("no checkpoint")
    name, content = _read(files)
    assert (name, content["epoch"]) == ("net_previous.pth", 2)
    first, second, choice = capsys.readouterr().out.splitlines()
    assert "net.pth" in first and "net_mid.pth" in second
    assert choice.endswith("net_previous.pth")


def test_without_a_whole_one_training_starts_anew_and_says_so(files, capsys):
    assert _read(files) is None
    assert "starting a new run" in capsys.readouterr().out
    _save(files.last, 1)
    _cut(files.last)
    assert _read(files) is None
    assert "net.pth" in capsys.readouterr().out


def test_nothing_to_evaluate_is_an_error(files):
    with pytest.raises(UserError, match="--resume auto"):
        _read(files, evaluate=True)


@pytest.mark.parametrize("epoch", [None, "three"])
def test_one_that_does_not_say_how_far_it_got_is_passed_over(files, epoch, capsys):
    _save(files.best, 1)
    checkpoint.save(files.last, {"epoch": epoch, "state_dict": {}})
    assert _read(files)[0] == "net_best.pth"
    assert "net.pth" in capsys.readouterr().out


def test_files_of_another_run_are_left_alone(files, tmp_path):
    _save(tmp_path / "net2.pth", 9)
    assert _read(files) is None


def test_a_name_is_looked_for_in_the_folder_then_as_a_path_then_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, root = tmp_path / "root" / "a", tmp_path / "root"
    for path in (folder / "x.pth", root / "b" / "y[1].pth", tmp_path / "z.pth"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    assert locate("x.pth", folder, "--resume") == folder / "x.pth"
    assert locate("root/a/x.pth", folder, "--resume") == folder / "x.pth"
    assert locate("z.pth", folder, "--resume").resolve() == tmp_path / "z.pth"
    assert locate("y[1].pth", folder, "--resume", root) == root / "b" / "y[1].pth"
    assert locate("y[1].pth", folder, "--resume") == folder / "y[1].pth"  # which is missing
    with pytest.raises(UserError, match="--resume root: a folder"):
        locate("root", folder, "--resume")
    (folder / "w.pth").mkdir()
    with pytest.raises(UserError, match="--load_Vth w.pth: a folder"):
        locate("w.pth", folder, "--load_Vth")
