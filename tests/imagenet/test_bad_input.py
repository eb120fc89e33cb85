"""Each mistake is one line on stderr with the flag or file in it, status 2, and no file changed."""

import shutil

import pytest
import torch

ANN, SNN = "--arch preresnet_ann.tiny ", "--arch preresnet_snn.tiny_if "
CALIBRATE = "--arch preresnet_cal_Vth.tiny --calculate_Vth new "


@pytest.fixture
def earlier(handed_over, images, tmp_path):
    """The folder after two stages, with files that do not fit, and data that are none."""
    folder = handed_over
    for name in ("ann.pth", "Vth.dict"):
        whole = (folder / name).read_bytes()
        (folder / f"cut_{name}").write_bytes(whole[: len(whole) // 2])
        (folder / f"text_{name}").write_text("nothing of the kind\n")
    content = torch.load(folder / "ann.pth", weights_only=True)
    state = content["state_dict"]
    torch.save({"state_dict": {**state, "more": torch.ones(1)}}, folder / "more.pth")
    torch.save({"state_dict": {k: state[k] for k in list(state)[1:]}}, folder / "less.pth")
    torch.save([1, 2], folder / "list.dict")
    for name in ("train", "val"):
        shutil.copytree(images, tmp_path / f"no_{name}")
        shutil.rmtree(tmp_path / f"no_{name}" / name)
    shutil.copytree(images, tmp_path / "differ")
    (tmp_path / "differ" / "val" / "class2").rename(tmp_path / "differ" / "val" / "other")
    shutil.copytree(images, tmp_path / "damaged")
    (tmp_path / "damaged" / "train" / "class1" / "3.png").write_bytes(b"")
    (tmp_path / "damaged" / "val" / "class1" / "1.png").write_bytes(b"")
    return folder


CASES = [
    (ANN + "--data {tmp}/nowhere", ["--data", "nowhere", "train"]),
    (ANN + "--data {tmp}/no_train", ["--data", "no_train", "no folder train"]),
    (ANN + "--data {tmp}/no_val", ["--data", "no_val", "no folder val"]),
    (ANN + "--data {tmp}/differ", ["--data", "class2, other"]),
    (ANN + "-e --data {tmp}/damaged", ["class1/1.png", "--skip_bad_images"]),
    (ANN + "-e -j 1 --data {tmp}/damaged", ["class1/1.png", "--skip_bad_images"]),
    (CALIBRATE + "--pre_train ann.pth --data {tmp}/damaged", ["class1/1.png"]),
    (ANN + "--pre_train gone.pth", ["--pre_train gone.pth", "ann.pth"]),
    (ANN + "--pre_train cut_ann.pth", ["--pre_train cut_ann.pth", "truncated"]),
    (ANN + "--pre_train text_ann.pth", ["--pre_train text_ann.pth"]),
    (ANN + "--pre_train Vth.dict", ["--pre_train Vth.dict", "no state_dict"]),
    (ANN + "--pre_train more.pth", ["--pre_train more.pth", "unexpected more"]),
    (SNN + "--pre_train more.pth", ["--pre_train more.pth", "unexpected more"]),
    (SNN + "--pre_train less.pth", ["--pre_train less.pth", "missing conv1.weight"]),
    ("--arch preresnet_ann.deeper --pre_train ann.pth", ["missing layer1.1.bn1.weight"]),
    (SNN + "--load_Vth gone.dict", ["--load_Vth gone.dict", "Vth.dict"]),
    (SNN + "--load_Vth cut_Vth.dict", ["--load_Vth cut_Vth.dict"]),
    (SNN + "--load_Vth text_Vth.dict", ["--load_Vth text_Vth.dict"]),
    (SNN + "--load_Vth list.dict", ["--load_Vth list.dict", "--calculate_Vth"]),
    (SNN + "--load_Vth ann.pth", ["--load_Vth ann.pth", "missing storein1", "unexpected epoch"]),
    (ANN + "--load_Vth Vth.dict", ["--load_Vth", "preresnet_ann.tiny"]),
    (ANN + "--rate_stat 1 -e", ["--rate_stat", "preresnet_ann.tiny"]),
    (ANN + "--engine folded", ["--engine folded"]),
    (ANN + "--compile on", ["--compile on"]),
    (ANN + "--resume gone.pth", ["--resume gone.pth"]),
    (ANN + "--resume cut_ann.pth", ["--resume cut_ann.pth"]),
    (ANN + "--resume more.pth", ["--resume more.pth", "epoch"]),
    (SNN + "--resume ann.pth", ["--resume ann.pth", "--arch preresnet_ann.tiny"]),
    (ANN + "--resume ann.pth --optimizer adam --epochs 4", ["--optimizer Adam", "ann.pth"]),
    (SNN + "--calculate_Vth new", ["--calculate_Vth", "preresnet_snn.tiny_if"]),
    (CALIBRATE, ["--pre_train"]),
    (CALIBRATE + "--pre_train more.pth", ["--pre_train more.pth", "unexpected more"]),
    ("--arch preresnet_cal_Vth.tiny", ["--arch preresnet_cal_Vth.tiny", "--calculate_Vth"]),
    ("--arch preresnet_cal_Vth.tiny --calculate_Vth a/b --pre_train ann.pth", ["a/b"]),
    (ANN + "--name a/b", ["--name a/b"]),
    (ANN + "--name ann_best", ["--name ann_best"]),
    (CALIBRATE.replace("new", "ann_firing_rate") + "--pre_train ann.pth", ["ann_firing_rate"]),
    (ANN + "--resume {tmp}/imagenet", ["--resume", "a folder"]),
    (SNN + "--load_Vth {tmp}/imagenet", ["--load_Vth", "a folder"]),
    (ANN + "--image-size 99999999999999999999999", ["--image-size", "from 32 to 4096"]),
    (ANN + "--multiprocessing-distributed --nproc 99999999", ["--nproc"]),
    (ANN + "-j 99999999", ["--workers"]),
    (ANN + "--world-size 99999999999999999999999 --rank 0", ["--world-size"]),
    ("--arch preresnet_ann.tinny", ["--arch", "preresnet_ann.tiny"]),
    ("--arch preresnet.resnet18_if", ["--arch", "preresnet.resnet18_if"]),
    (SNN + "--timesteps 0", ["--timesteps"]),
    (ANN + "--world-size 2 --rank 2", ["--world-size 2 --rank 2"]),
    (ANN + "-b 1", ["--batch-size"]),
    (ANN + "-c {tmp}/differ/val/other/0.png", ["0.png", "--checkpoint"]),
]


@pytest.mark.parametrize(("line", "said"), CASES, ids=[line for line, _ in CASES])
def test_is_one_line(call, earlier, tmp_path, capsys, line, said):
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        call(line.format(tmp=tmp_path))
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in said:
        assert part in line
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
