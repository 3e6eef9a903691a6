"""``python -m ranvier`` is ``ranvier``."""

from ranvier.apps.cli import console

console()
