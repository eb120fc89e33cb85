import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.full_disk import largest_file
from tests.utils.events.recordings import make_events
from utils.events.formats.aedat2 import encode_aedat2
from utils.events.frames import to_frames
from utils.show_events import COLOURS, colour, draw, main
from utils.system.errors import UserError


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "cifar10_cat_0.aedat"
    path.write_bytes(encode_aedat2(make_events(2000)))
    return path


def call(monkeypatch, *argv):
    monkeypatch.setattr(sys, "argv", ["show_events", *map(str, argv)])
    main()


def test_picture_and_animation_are_written(recording, tmp_path, monkeypatch, capsys):
    picture, animation = tmp_path / "frames.png", tmp_path / "frames.gif"
    call(monkeypatch, recording, "--out", picture, "--gif", animation, "--timesteps", 5)
    with Image.open(picture) as image:
        assert image.width > image.height > 200
    with Image.open(animation) as image:
        assert (image.n_frames, image.size) == (5, (384, 384))
    out = capsys.readouterr().out
    assert "2,000 events in 0.1" in out and f"wrote {picture} and {animation}\n" in out


def test_the_animation_is_only_written_with_its_flag(recording, tmp_path, monkeypatch):
    call(monkeypatch, recording, "--out", tmp_path / "a.png")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", recording.name]


@pytest.mark.parametrize("T", [1, 10, 23])
@pytest.mark.parametrize("split_by", ["number", "time"])
def test_every_frame_is_drawn_above_the_rate(T, split_by):
    events = make_events(2000)
    figure = draw(events, to_frames(events, T, split_by), split_by)
    *frames, rate = figure.axes
    assert [axes.get_title() for axes in frames] == [f"t = {j + 1}" for j in range(T)]
    assert rate.get_xlabel() == "time (s)" and rate.get_ylabel() == "events (1000/s)"
    drawn = sum((p.get_data().values * np.diff(p.get_data().edges)).sum() for p in rate.patches)
    assert drawn * 1000 == pytest.approx(2000)


def test_polarities_have_their_colours_on_white():
    frames = np.zeros((1, 2, 3, 3), int)
    frames[0, 1, 0, 0] = frames[0, 0, 1, 1] = 4
    image = colour(frames)[0]
    np.testing.assert_allclose(image[0, 0], COLOURS["ON"])
    np.testing.assert_allclose(image[1, 1], COLOURS["OFF"])
    assert (image[2, 2] == 1).all()


def test_a_frame_without_events_is_white():
    assert (colour(np.zeros((1, 2, 3, 3), int)) == 1).all()


def test_without_a_suffix_the_picture_is_a_png(recording, tmp_path, monkeypatch, capsys):
    call(monkeypatch, recording, "--out", tmp_path / "picture")
    assert f"wrote {tmp_path / 'picture.png'}\n" in capsys.readouterr().out
    assert (tmp_path / "picture.png").exists()


def test_the_rate_does_not_fall_to_zero_at_the_edges():
    events = make_events(2000)
    rate = draw(events, to_frames(events, 2)).axes[-1]
    assert [patch.get_data().baseline for patch in rate.patches] == [None, None]


def test_pixels_with_both_polarities_are_in_the_legend():
    events = make_events(2000)
    legend = draw(events, to_frames(events, 2)).axes[-1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["ON", "OFF", "pixels with both"]


def test_the_title_names_the_file_or_what_was_simulated():
    events = make_events(2000)
    for changes, title in (
        ({"source": "folder/a$b\n.aedat"}, r"a\$b\n.aedat"),
        ({"source": "cat_0.aedat", "description": "simulated: digit 3"}, "simulated: digit 3"),
    ):
        figure = draw(replace(events, **changes), to_frames(events, 2))
        assert figure.get_suptitle().startswith(f"{title}\n2,000 events")


@pytest.mark.parametrize("flag", ["--out", "--gif"])
def test_a_folder_is_refused_before_anything_is_written(recording, tmp_path, monkeypatch, flag):
    (tmp_path / "folder.gif").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"{flag} .*folder.gif: "):
        call(monkeypatch, recording, flag, tmp_path / "folder.gif")
    assert {path.name for path in tmp_path.iterdir()} == {"folder.gif", recording.name}


@pytest.mark.parametrize("flag", ["--out", "--gif"])
def test_a_full_disk_is_one_line_and_leaves_nothing(recording, tmp_path, monkeypatch, flag):
    monkeypatch.chdir(tmp_path)
    target = tmp_path / ("x.png" if flag == "--out" else "x.gif")
    with largest_file(1000), pytest.raises(UserError, match="cannot write .*make room"):
        call(monkeypatch, recording, flag, target)
    assert not target.exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("argv", [["missing.aedat"], ["--timesteps", "0", "x"], ["--gif", "x"], []])
def test_mistakes_are_one_line(monkeypatch, argv):
    with pytest.raises(UserError) as error:
        call(monkeypatch, *argv)
    assert "\n" not in str(error.value)


def test_an_unknown_kind_of_picture_is_one_line(recording, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="--out"):
        call(monkeypatch, recording, "--out", tmp_path / "frames.xyz")
