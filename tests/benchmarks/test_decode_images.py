from benchmarks.decode_images import build_parser, main


def test_each_step_and_loader_is_measured(capsys):
    flags = "--images 4 --batch 2 --workers 0 1 --rounds 1"
    main(build_parser().parse_args(flags.split()))
    lines = capsys.readouterr().out.splitlines()
    assert "kB per image" in lines[0]
    names = [line.split("  ")[0] for line in lines[1:]]
    crops = ["decode, training crop", "decode, resize, centre crop"]
    assert names == ["decode", *crops, "loader, 0 processes", "loader, 1 processes"]
