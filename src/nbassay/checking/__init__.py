"""Checks over evidence: one pytest session scores many submissions."""
