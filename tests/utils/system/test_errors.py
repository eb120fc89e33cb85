import pytest

from utils.system.errors import UserError, first_line, flag_errors, warn_on_write_error


def test_the_first_line_of_a_message_or_the_type():
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("message", "line"), [("too\n  small", "--x: too small"), ("--y: wrong", "--y: wrong")]
)
def test_a_value_error_names_a_flag(message, line):
    with pytest.raises(UserError) as error, flag_errors("--x"):
        raise ValueError(message)
    assert str(error.value) == line


def test_other_errors_pass():
    with pytest.raises(KeyError), flag_errors("--x"):
        raise KeyError
    with pytest.raises(KeyError), warn_on_write_error("the log"):
        raise KeyError


def test_a_failed_write_is_a_warning(capsys):
    with warn_on_write_error("the log"):
        raise OSError(28, "No space left on device")
    assert "warning: the log could not be written: [Errno 28] No space" in capsys.readouterr().err
