"""``python -m ranvier`` is ``ranvier``."""

from ranvier.apps.cli import main

main()
