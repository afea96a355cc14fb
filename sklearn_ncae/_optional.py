"""Late imports of optional dependencies, with an error that names the extra to install."""

from importlib import import_module
from types import ModuleType


def import_extra(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Parameters
    ----------
    module : str
        Dotted name of the module.
    extra : str
        The extra of this package that installs it.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    ImportError
        If the module is not installed; the message names the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This needs {module.split('.')[0]!r}, which is not installed. "
            f'Install it with: pip install "sklearn-ncae[{extra}]"'
        ) from error
