"""Files that are written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a new file beside `path` to write to, which becomes `path` if nothing was raised."""
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"{str(target)!r} is a folder; give the name of a file in it.")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"There is no folder {str(target.parent)!r} to write {target.name!r} into."
        ) from error
    os.close(handle)
    written = Path(name)
    try:
        yield written
        with written.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp's files are for their owner alone; a new file has the usual permissions.
        mask = os.umask(0)
        os.umask(mask)
        written.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~mask)
        written.replace(target)
    finally:
        written.unlink(missing_ok=True)
