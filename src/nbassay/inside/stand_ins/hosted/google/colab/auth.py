"""Nobody has to sign in here."""


def authenticate_user(*_arguments: object, **_options: object) -> None:
    """Do nothing."""
