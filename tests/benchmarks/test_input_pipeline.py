from benchmarks.input_pipeline import build_parser, main


def test_both_pipelines_are_measured(capsys):
    flags = "--images 64 --batch 32 --workers 0 --rounds 1 --device cpu"
    main(build_parser().parse_args(flags.split()))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("64 images, batch 32, 1 rounds")
    assert [line.split()[0] for line in lines[1:]] == ["in", "DataLoader,", "ratio"]
    assert float(lines[-1].split()[-1]) > 0
