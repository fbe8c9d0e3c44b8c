"""A disk that fails is told in a sentence; everything else is not taken for it."""

import errno
import os
import sys

import pytest

from hft_ray.cli.main import main
from hft_ray.disk_errors import disk_problem


def caused(error, cause):
    error.__cause__ = cause
    return error


def of(number, path=None):
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (of(errno.ENOSPC, "/data/x"), "the disk is full at '/data/x'"),
        (of(errno.EDQUOT), "the disk is full"),
        (of(errno.EFBIG), "the disk is full"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (caused(ValueError("cannot save"), of(errno.ENOSPC)), "the disk is full"),
        (of(errno.EROFS, "/r"), "a file cannot be written or read at '/r'"),
        (of(errno.EACCES, "/r"), "a file cannot be written or read at '/r'"),
        (of(errno.ESTALE), "the disk does not answer as it should"),
    ],
    ids=str,
)
def test_a_disk_that_fails_is_told(error, said):
    assert disk_problem(error).startswith(said)


@pytest.mark.parametrize("error", [KeyError("q"), ConnectionRefusedError(111, "refused")], ids=str)
def test_another_error_is_not_a_disk_that_fails(error):
    assert disk_problem(error) is None


def test_a_command_on_a_full_disk_ends_with_a_sentence(monkeypatch, capfd, tmp_path):
    def full(*_):
        raise of(errno.ENOSPC, "/home/x")

    monkeypatch.setattr("hft_ray.config.load.load", full)
    monkeypatch.setattr(sys, "argv", ["hft-ray", "plan", "run.yaml", "--storage", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capfd.readouterr().err
    assert ended.value.code == 1
    assert "failed: the disk is full at '/home/x'" in said
    assert "Traceback" not in said
