import pytest

from utils.runs.paths import RunFiles, owner, run_files
from utils.system.errors import UserError


def _filled(tmp_path, text):
    files = RunFiles(tmp_path, "net.a_lif")
    for path in (files.log, files.last, files.best, files.curves):
        path.write_text(text)
    return files


def test_names_begin_with_the_whole_stem(tmp_path):
    files = RunFiles(tmp_path, "net.a_lif")
    assert files.log.name == "net.a_lif.txt"
    assert files.best.name == "net.a_lif_best.pth"
    assert files.firing_rates.name == "net.a_lif_firing_rate.dict"


def test_every_run_set_aside_gets_one_number_for_all_its_files(tmp_path):
    for run in ("first", "second"):
        _filled(tmp_path, run).set_aside()
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    suffixes = (".txt", ".pth", "_best.pth", ".pdf")
    expected = {f"net.a_lif.old-1{s}": "first" for s in suffixes}
    expected |= {f"net.a_lif.old-2{s}": "second" for s in suffixes}
    assert texts == expected


def test_the_file_to_keep_is_copied(tmp_path):
    files = _filled(tmp_path, "run")
    aside = files.set_aside(keep=files.best)
    assert files.existing() == ["_best.pth"]
    assert aside.best.read_text() == files.best.read_text() == "run"


def test_nothing_to_set_aside(tmp_path):
    assert RunFiles(tmp_path, "x").set_aside() is None


def test_a_run_whose_name_only_begins_alike_is_left_alone(tmp_path):
    (tmp_path / "net.a_lif2.txt").write_text("other")
    _filled(tmp_path, "run").set_aside()
    assert (tmp_path / "net.a_lif2.txt").read_text() == "other"


def test_all_checkpoints_of_a_run_have_one_owner(tmp_path):
    files = RunFiles(tmp_path, "net.a_lif")
    assert {owner(tmp_path, path.name) for path in files.checkpoints()} == {files}


ENDINGS = ["_best", "_mid", "_previous", "_evaluation", "_firing_rate", ".old-1", "x.old-23"]


@pytest.mark.parametrize("name", ENDINGS)
def test_a_stem_that_names_files_of_another_run_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=rf"--name {name}: .*net"):
        run_files(tmp_path, f"net{name}", f"--name {name}")


def test_other_stems_never_share_a_file(tmp_path):
    stems = ["net", "net_bests", "net_mid2", "net.old", "net_best_", "net.old-1a"]
    runs = [run_files(tmp_path, stem, "--name") for stem in stems]
    for run in runs:
        for path in (*run.checkpoints(), run.log, run.curves, run.record, run.evaluation):
            path.write_text("")
    assert len(list(tmp_path.iterdir())) == len(stems) * 8
