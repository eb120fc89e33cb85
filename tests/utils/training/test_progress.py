import io
import re

import pytest
import torch

from tests.utils.stand_ins import Loader
from utils.distributed.world import World
from utils.training import progress
from utils.training.metrics import Meter, Scores
from utils.training.progress import RunClock

CPU = torch.device("cpu")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def _run(make, steps):
    loader, meter = Loader((1,) * steps), Meter(CPU)
    reads = []
    with make("epoch 1/2 train", loader) as bar:
        for _ in range(steps):
            meter.add(torch.tensor(1.5), torch.eye(3)[:1], torch.tensor([0]))
            reads.append(bar.step(meter))
    return [read for read in reads if read is not None]


@pytest.mark.parametrize(("steps", "lines"), [(1, 0), (7, 6), (11, 5), (391, 9)])
def test_a_file_gets_at_most_ten_lines_with_all_numbers(monkeypatch, capsys, steps, lines):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    factory = progress.bar_factory(World(CPU))
    reads = _run(factory, steps)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(reads) == lines
    numbers = r"ETA 0:00  loss 1\.5000  top-1 100\.00 %  top-5 100\.00 %  data 0\.0 %"
    assert all(re.fullmatch(rf"epoch 1/2 train \d+/{steps}  {numbers}", line) for line in printed)


def test_a_quick_epoch_prints_no_line(capsys):
    assert _run(progress.PlainBar, 391) == []
    assert capsys.readouterr().out == ""


def test_a_file_gets_a_line_every_so_many_batches(capsys):
    reads = _run(progress.bar_factory(World(CPU), every=4), 9)
    assert len(reads) == 2
    assert [line.split()[3] for line in capsys.readouterr().out.splitlines()] == ["4/9", "8/9"]


def test_other_processes_are_silent_and_never_read(capsys):
    assert _run(progress.bar_factory(World(CPU, rank=1, size=2)), 30) == []
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_one_line_redrawn(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    reads = _run(progress.bar_factory(World(CPU)), 300)
    text = terminal.getvalue()
    assert text.count("\n") == 1
    assert "300/300 ETA 0:00 loss 1.5000 top-1 100.00% top-5 100.00% data 0.0%" in text
    assert len(reads) < 300


def test_a_narrow_terminal_is_not_wrapped(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    _run(progress.bar_factory(World(CPU)), 3)
    assert max(map(len, re.split(r"[\r\n]", terminal.getvalue()))) < 60


def test_a_bar_ends_its_line_when_training_fails(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    with pytest.raises(KeyboardInterrupt), progress.TerminalBar("t", Loader()):
        raise KeyboardInterrupt
    assert terminal.getvalue().count("\n") == 1


def test_at_80_columns_a_long_run_has_a_bar_and_both_times(monkeypatch):
    terminal, clock = Terminal(), RunClock(epochs=200)
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    clock.start_epoch(99)
    clock.duration = 400.0
    bar = progress.TerminalBar("epoch 100/200 train", Loader((1,) * 391), clock)
    bar.index = 195
    bar.draw(Scores(1.2345, 91.25, 99.5, 100))
    line = re.split(r"[\r\n]|\x1b\[K", terminal.getvalue())[-1] or terminal.getvalue()
    assert re.search(r"\|[# ]{8,}\| 195/391 ETA 0:00 run 11:\d\d:\d\d loss 1\.234 91\.2%", line)
    assert max(map(len, re.split(r"[\r\n]|\x1b\[\?25l", terminal.getvalue()))) < 80


def test_the_time_left_of_a_run_follows_its_last_epoch(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    clock = RunClock(epochs=5)
    clock.start_epoch(0)
    now[0] = 10.0
    assert clock.left(30.0) == 30 + 4 * 40  # nothing is known of the test phase yet
    now[0] = 50.0
    clock.end_epoch()
    clock.start_epoch(1)
    now[0] = 60.0
    assert clock.left(30.0) == 40 + 3 * 50
    resumed = RunClock(epochs=2)
    resumed.start_epoch(0, share=0.5)
    now[0] = 70.0
    assert resumed.left(10.0) == 10 + 40


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00"), (67, "1:07"), (3723, "1:02:03"), (3 * 86400 + 4 * 3600 + 299, "3d 04:04")],
)
def test_durations_are_short(seconds, text):
    assert progress.clock_time(seconds) == text


def test_a_resumed_epoch_estimates_from_the_steps_taken_since(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    bar = progress.Bar("t", Loader((1,) * 100))
    bar.begin_at(90)
    bar.step(Meter(CPU))
    now[0] = 2.0
    assert bar.left == 2.0 * 9
