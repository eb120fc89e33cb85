import pytest

from cifar.options import build_parser as cifar_parser
from imagenet.options import build_parser as imagenet_parser
from utils.system.errors import UserError
from utils.system.flags import (
    FlagParser,
    above,
    at_least,
    bounded,
    command_line,
    fraction,
    one_of,
)


def _parse(kind, text):
    parser = FlagParser()
    parser.add_argument("--x", type=kind)
    return parser.parse_args([f"--x={text}"]).x


def test_values_in_range_are_converted():
    assert _parse(at_least(0), "0") == 0
    assert _parse(above(0), "1e-3") == 1e-3
    assert _parse(fraction, "0.9") == 0.9
    assert _parse(one_of("SGD", "Adam"), "adam") == "Adam"


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        (at_least(1), "0", "at least 1"),
        (at_least(1), "1.5", "int"),
        (above(0), "0", "greater than 0"),
        (above(0), "nan", "greater than 0"),
        (above(0), "inf", "greater than 0"),
        (fraction, "1", "below 1"),
        (at_least(1), "9" * 23, "at most 2.14748e+09"),
        (at_least(1), "9" * 5000, "int"),
        (above(0), "1e308", "at most 1e+30"),
        (above(0, maximum=5), "6", "at most 5"),
        (bounded(float), "-1e308", "at most 1e+30"),
        (bounded(float), "nan", "finite"),
        (bounded(int, 10), "-11", "at most 10"),
        (one_of("SGD", "Adam"), "lamb", "SGD, Adam"),
    ],
)
def test_a_value_out_of_range_is_one_line_with_the_flag(kind, text, said):
    with pytest.raises(UserError) as error:
        _parse(kind, text)
    assert "--x" in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_flags_given_are_told_from_defaults():
    parser = FlagParser()
    parser.add_argument("-e", "--evaluate", action="store_true")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--import", dest="imports", nargs="+", action="extend")
    parser.set_defaults(other=3)
    assert parser.parse_args([]).given == frozenset()
    args = parser.parse_args(["-e", "--lr", "0.1", "--import", "a", "b", "--import", "c"])
    assert args.given == {"evaluate", "lr", "imports"}
    assert (args.imports, args.other) == (["a", "b", "c"], 3)


def test_help_shows_defaults_where_there_are_any():
    parser = FlagParser()
    kinds = parser.add_subparsers()
    made = kinds.add_parser("make")
    made.add_argument("--seed", default=0, help="of the noise")
    made.add_argument("--gif", help="animation")
    made.add_argument("--quiet", action="store_true", help="print nothing")
    text = made.format_help()
    assert "of the noise (default: 0)" in text and text.count("default") == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--optimiser", "SGD"], "--optimiser SGD; did you mean --optimizer?"),
        (["--datset=digits"], "--datset=digits; did you mean --dataset?"),
        (["--qqq"], "--qqq (--help"),
        (["words"], "words (--help"),
    ],
)
def test_an_unknown_flag_is_told_with_its_nearest(given, said):
    with pytest.raises(UserError) as error:
        cifar_parser(False).parse_args(given)
    assert f"unrecognized arguments: {said}" in str(error.value)


def test_an_unknown_flag_is_a_user_error():
    with pytest.raises(UserError, match="--nonsense"):
        FlagParser().parse_args(["--nonsense", "1"])


@pytest.mark.parametrize(
    ("parser", "line"),
    [
        (cifar_parser(multi=True), ""),
        (cifar_parser(multi=False), "-e --mean 0.1 0.2 0.3 --import a.py b.py --name=-x --lr 1e-5"),
        (imagenet_parser(), "--multiprocessing-distributed --gpu 0 --no_flip --seed 3"),
    ],
)
def test_the_command_line_of_parsed_flags_parses_to_them(parser, line):
    flags = vars(parser.parse_args(line.split()))
    parsed = vars(parser.parse_args(command_line(parser, flags | {"unknown": 1})))
    assert parsed | {"given": flags["given"]} == flags
