"""Outputs of cells, of which nobody sees any yet."""


def clear(*_arguments: object, **_options: object) -> None:
    """Do nothing."""
