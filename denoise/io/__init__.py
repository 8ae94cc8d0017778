"""Read and write files of every format in `denoise.io.formats`."""

from denoise.io.base import Reader, Writer
from denoise.io.files import CODECS, modality, probe, read, reader, write, writer
from denoise.io.sniff import sniff, written_name

__all__ = [
    "CODECS",
    "Reader",
    "Writer",
    "modality",
    "probe",
    "read",
    "reader",
    "sniff",
    "write",
    "writer",
    "written_name",
]
