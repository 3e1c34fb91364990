"""Grades notebook labs by measuring what the learner's notebook did."""
