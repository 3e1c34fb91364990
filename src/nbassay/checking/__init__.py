"""Checks over evidence: one pytest session scores a whole class."""
