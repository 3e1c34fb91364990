"""Sheets made readable: HTML reports, the class page, gradebooks and the terminal summary."""

from __future__ import annotations

from nbassay.reporting.write import write_reports

__all__ = ["write_reports"]
