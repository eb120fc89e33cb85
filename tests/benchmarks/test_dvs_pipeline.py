from benchmarks.dvs_pipeline import build_parser, long_recording, main


def test_every_table_is_printed(capsys):
    flags = "--recordings 20 --events 40000 --timesteps 2 --workers 0"
    main(build_parser().parse_args(flags.split()))
    out = capsys.readouterr().out
    for row in ("integrate by number", "convert 10,000 (extrapolated)", "cache 48x48, float32"):
        assert float(out.split(row)[1].split()[0]) > 0
    assert "in memory at 48x48, float32: 0.37 GB" in out


def test_recordings_have_the_number_of_events_asked_for():
    assert len(long_recording(3, 50_000)) == 50_000
