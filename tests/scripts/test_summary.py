import pytest
import torch

from scripts.summary import main, summary

HEADER = "Learning Rate\tTrain Loss\tValid Loss\tTrain Acc.\tValid Acc.\t\n"


def row(accuracy):
    return f"0.100000\t0.500000\t0.400000\t80.000000\t{accuracy:.6f}\t\n"


def test_the_best_epoch_and_the_mean_rate_are_told(tmp_path):
    stem = str(tmp_path / "run")
    (tmp_path / "run.txt").write_text(HEADER + row(91) + row(97.5) + row(95))
    torch.save({"relu1": 0.25, "relu2": torch.tensor(0.75)}, tmp_path / "run_firing_rate.dict")
    lines = summary(stem)
    assert lines[0].split("  ")[-1].strip() == "97.50 % (best epoch: 2)"
    assert "50.00 %" in lines[1]
    assert [line.split()[-1] for line in lines[2:]] == [
        f"{stem}.txt",
        f"{stem}.pdf",
        f"{stem}_best.pth",
    ]
    (tmp_path / "run_best_report.html").touch()
    assert summary(stem)[-1].split() == ["Report", f"{stem}_best_report.html"]


def test_a_missing_log_is_named_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["summary.py", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    expected = f"error: {tmp_path / 'run.txt'}: no such file; evaluate the run first\n"
    assert capsys.readouterr() == ("", expected)
