"""Stands in for Colab's own package, so that an import of it does not take a cell down."""

from . import auth, drive, files, output

__all__ = ["auth", "drive", "files", "output"]
