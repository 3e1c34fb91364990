"""``python -m nbassay``."""

from nbassay.cli import main

main()
