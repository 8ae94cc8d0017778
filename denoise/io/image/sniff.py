"""What a file is, from its first bytes: names lie."""

from __future__ import annotations

__all__ = ["found_kind"]

MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG", ".png"),
    (b"\xff\xd8\xff", "JPEG", ".jpg"),
    (b"II*\0", "TIFF", ".tif"),
    (b"MM\0*", "TIFF", ".tif"),
    (b"II+\0", "TIFF", ".tif"),
    (b"MM\0+", "TIFF", ".tif"),
    (b"BM", "BMP", ".bmp"),
    (b"GIF8", "GIF", ".gif"),
    (b"%PDF", "PDF", ".pdf"),
    (b"%!PS", "PostScript", ".ps"),
    (b"8BPS", "Photoshop", ".psd"),
    (b"PK\3\4", "ZIP", ".zip"),
    (b"\x1f\x8b", "gzip", ".gz"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000", ".jp2"),
    (b"\0\0\0\x0cJXL ", "JPEG XL", ".jxl"),
    (b"\xff\x0a", "JPEG XL", ".jxl"),
    (b"fLaC", "FLAC", ".flac"),
    (b"OggS", "Ogg", ".ogg"),
)
RIFF = {b"WEBP": ("WebP", ".webp"), b"WAVE": ("WAV", ".wav"), b"AVI ": ("AVI", ".avi")}
BRANDS = {
    b"avif": ("AVIF", ".avif"),
    b"heic": ("HEIC", ".heic"),
    b"heix": ("HEIC", ".heic"),
    b"mif1": ("HEIF", ".heif"),
}


def found_kind(head: bytes) -> tuple[str, str]:
    """The kind of data that starts with `head` (some hundred bytes), and the suffix it should have."""
    if head[:4] == b"RIFF":
        return RIFF.get(head[8:12], ("RIFF", ""))
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], ("ISO media", ""))
    for magic, kind, suffix in MAGIC:
        if head.startswith(magic):
            return kind, suffix
    return ("text", "") if _is_text(head) else ("unknown", "")


def _is_text(head: bytes) -> bool:
    try:
        # The head may end inside a character: three bytes at most are missing of it.
        text = head.decode("utf-8", "strict" if len(head) < 512 else "ignore")
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\t\r\n\f" for letter in text)
