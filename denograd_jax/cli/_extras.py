"""Optional dependencies, asked for before they are needed."""

import importlib.util

from denograd_jax.errors import MissingExtraError

__all__ = ["require"]


def require(purpose: str, *modules: str) -> None:
    """Refuse when a module of the extra `[cli]` is missing.

    Raises:
        MissingExtraError: The message names the module and what to install.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(
                f'{purpose} needs {module}, which is not installed: pip install "denograd-jax[cli]"'
            )
