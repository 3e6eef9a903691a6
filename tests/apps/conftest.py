"""What tests of the command line share."""

from __future__ import annotations

import pytest

from ranvier.apps.cli import main


@pytest.fixture
def run(capsys):
    """Run the program in this process: exit code, standard output, standard error."""

    def call(*arguments):
        with pytest.raises(SystemExit) as caught:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return caught.value.code, out, err

    return call
