"""The container of model files: a zip of one JSON document and of arrays as .npy members.

Everything here may be handed a hostile file. Members are stored, never compressed, so that what
is read takes no more memory than the file takes on disk; their names are fixed, and nothing is
ever unpacked to disk.
"""

import errno
import io
import json
import math
import os
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sklearn_ncae._atomic import replacing

_DOCUMENT = "model.json"
_ARRAY = "arrays/{}.npy"

# Python objects take many times the bytes that describe them in a document or a directory.
_MAX_DOCUMENT_BYTES = 4_000_000
_MAX_DIRECTORY_BYTES = 1_000_000
_MAX_NPY_HEADER = 1000

_END_OF_ZIP = struct.Struct("<4s4H2LH")
_ZIP64_LOCATOR_BYTES = 20


class ModelFileError(ValueError):
    """A model file that is damaged, hostile, from a newer version, or no model file at all."""


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn whatever a parser raises on a damaged file into a `ModelFileError`.

    Parameters
    ----------
    what : str
        What the file is refused for.
    """
    try:
        yield
    except ModelFileError:
        raise
    except Exception as error:  # parsers raise nearly anything on damaged input
        # A place outside of the file that a damaged directory points to is no fault of the disk.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise ModelFileError(f"{what} ({type(error).__name__}: {error})") from error


def write_archive(
    path: str | os.PathLike[str],
    document: dict[str, Any],
    arrays: Sequence[NDArray[Any]],
    check: Callable[[BinaryIO], object],
) -> None:
    """Write a model file, whole or not at all.

    Parameters
    ----------
    path : str or os.PathLike
        A file of that name is replaced.
    document : dict
        What goes into JSON.
    arrays : sequence of ndarray
        Numbers or strings, written in little-endian C order.
    check : callable
        Reads the written file before it takes its place; what it raises stops that.

    Raises
    ------
    ValueError
        If the document is too long to be read again.
    OSError
        If the file cannot be written; what was there before is left as it was.
    """
    text = json.dumps(document, indent=1, allow_nan=False).encode()
    if len(text) > _MAX_DOCUMENT_BYTES:
        raise ValueError(
            f"All but the arrays takes {len(text)} bytes as JSON, more than the "
            f"{_MAX_DOCUMENT_BYTES} of a model file. A very long history_ may be cut."
        )
    with replacing(path) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
            archive.writestr(zipfile.ZipInfo(_DOCUMENT), text)
            for number, array in enumerate(arrays):
                stream = io.BytesIO()
                little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
                np.lib.format.write_array(stream, little_endian, (1, 0), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(_ARRAY.format(number)), stream.getvalue())
        with open(temporary, "rb") as file:
            check(file)


class ModelArchive:
    """A model file opened for reading.

    Parameters
    ----------
    file : binary file
        Has to stay open while members are read.

    Attributes
    ----------
    document : dict
        What was in JSON.

    Raises
    ------
    ModelFileError
        If the file is not what `write_archive` writes.
    """

    def __init__(self, file: BinaryIO) -> None:
        n_bytes = _check_end(file)
        with refusing("it is damaged, or no zip file"):
            self._zip = zipfile.ZipFile(file)
        members = self._zip.infolist()
        self._members = {member.filename: member for member in members}
        expected = {_DOCUMENT, *map(_ARRAY.format, range(len(members) - 1))}
        if set(self._members) != expected or len(members) != len(expected):
            raise ModelFileError("its members are not those of a model file")
        for member in members:
            if (
                member.compress_type != zipfile.ZIP_STORED
                or member.flag_bits & 1  # encrypted
                or member.file_size != member.compress_size
            ):
                raise ModelFileError(f"its member {member.filename} is compressed or encrypted")
        if sum(member.file_size for member in members) > n_bytes:
            raise ModelFileError("its members overlap")
        if self._members[_DOCUMENT].file_size > _MAX_DOCUMENT_BYTES:
            raise ModelFileError(f"its {_DOCUMENT} is larger than {_MAX_DOCUMENT_BYTES} bytes")
        with refusing(f"its {_DOCUMENT} is damaged"):
            self.document = json.loads(self._read(_DOCUMENT))
        if not isinstance(self.document, dict):
            raise ModelFileError(f"its {_DOCUMENT} is not a JSON object")

    def _read(self, name: str) -> bytes:
        member = self._members.pop(name, None)
        if member is None:
            raise ModelFileError(f"{name} is missing, or asked for twice")
        with refusing(f"its member {name} is damaged"):
            return self._zip.read(member)

    def array(self, number: object) -> NDArray[Any]:
        """Read the array of a number, once.

        Parameters
        ----------
        number : int
            Its place among the arrays that were written.

        Returns
        -------
        array : ndarray
            Not empty; of booleans, integers, floats or strings.
        """
        name = _ARRAY.format(number)
        content = self._read(name)
        stream = io.BytesIO(content)
        with refusing(f"{name} is not an array"), warnings.catch_warnings():
            warnings.simplefilter("error")  # of headers that only very old versions have written
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ModelFileError(f"{name} is of another version of the npy format")
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(
                stream, max_header_size=_MAX_NPY_HEADER
            )
            data = memoryview(content)[stream.tell() :]
            if dtype.kind not in "fiubU" or fortran_order or dtype.itemsize == 0:
                raise ModelFileError(f"{name} has the type {dtype}, or another order than C")
            if min(shape, default=1) < 1 or math.prod(shape) * dtype.itemsize != len(data):
                raise ModelFileError(f"{name} has {len(data)} bytes, not an array of {shape}")
            # A copy, to be writable, of the byte order of this machine.
            return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))

    def check_all_read(self) -> None:
        """Refuse a file with arrays that nothing has asked for."""
        if self._members:
            raise ModelFileError(f"it has members too many: {sorted(self._members)[:3]}")


def _check_end(file: BinaryIO) -> int:
    """Size of the file, after a look at what `zipfile` would read into memory first."""
    n_bytes = file.seek(0, os.SEEK_END)
    tail_bytes = min(n_bytes, _END_OF_ZIP.size + _ZIP64_LOCATOR_BYTES)
    file.seek(-tail_bytes, os.SEEK_END)
    tail = file.read()
    file.seek(0)
    if tail[-_END_OF_ZIP.size :][:4] != b"PK\x05\x06":
        raise ModelFileError("it is truncated, or no model file")
    *_, directory_bytes, _, comment_bytes = _END_OF_ZIP.unpack(tail[-_END_OF_ZIP.size :])
    if directory_bytes > _MAX_DIRECTORY_BYTES or comment_bytes or tail[:4] == b"PK\x06\x07":
        raise ModelFileError(
            f"its zip directory has {directory_bytes} bytes, more than {_MAX_DIRECTORY_BYTES}, "
            "or a comment, or is that of a zip64 file"
        )
    return n_bytes
