"""Bytes → text, in the encoding that the user names, that a byte-order mark shows, or UTF-8."""

from __future__ import annotations

import codecs

from compiler.data.table import shorten
from targets.errors import InputError

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""UTF-32 before UTF-16: the first two bytes of its mark are the other's."""

_NO_FILE_IS_IN = {"punycode", "idna", "undefined", "unicode-escape", "raw-unicode-escape", "mbcs", "oem"}
_C1 = range(0x80, 0xA0)
"""Bytes that are control characters in latin-1, and quotes and dashes in windows-1252."""


def check_encoding(encoding: str | None) -> None:
    """InputError for an encoding that is not there, or that no text file is in (rot13, base64, punycode, …)."""
    if encoding is None:
        return
    try:
        found = codecs.lookup(encoding)
    except (LookupError, ValueError) as error:
        raise InputError(f"There is no encoding {shorten(encoding)}.\nTry --encoding latin-1 or utf-16.") from error
    is_of_text = getattr(found, "_is_text_encoding", True)
    if not is_of_text or found.name.replace("_", "-") in _NO_FILE_IS_IN:
        raise InputError(f"{shorten(encoding)} is no encoding of text files.\nTry --encoding latin-1 or utf-16.")


def decode(content: bytes, *, source: str, encoding: str | None) -> tuple[str, str, tuple[str, ...]]:
    """Text, the encoding it was in, and notes. Byte-order marks are dropped, at the start and where files were joined."""
    check_encoding(encoding)
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    used = encoding or marked or "utf-8"
    try:
        text = content.decode(used)
    except UnicodeError as error:
        raise InputError(_encoding_message(content, source, used, error)) from error
    if "\0" in text[:10_000]:
        raise InputError(
            f"{source} is not a text file: it contains NUL characters.\n"
            "Give a text file; if it is UTF-16 without a byte-order mark, pass --encoding utf-16-le.",
        )
    text = text.removeprefix("\ufeff")
    notes = [] if encoding or not marked else [f"{source}: read as {marked.upper()}, by its byte-order mark"]
    if "\n\ufeff" in text:
        text = text.replace("\n\ufeff", "\n")
        notes.append(f"{source}: byte-order marks at starts of lines were dropped, as of files that were joined")
    return text, used.upper() if used == "utf-8" else used, tuple(notes)


def _encoding_message(content: bytes, source: str, encoding: str, error: UnicodeError) -> str:
    name = "UTF-8" if encoding == "utf-8" else shorten(encoding)
    if not isinstance(error, UnicodeDecodeError):
        return f"{source} is not {name}.\nPass --encoding with the one that it was written in."
    line = content.count(b"\n", 0, error.start) + 1
    found = f"{source} is not {name}: byte 0x{content[error.start]:02x} at line {line}"
    if encoding == "utf-8" and _is_mostly_utf8(content):
        return f"{found}; the rest of it is.\nRepair that line: two encodings are mixed in the file."
    other = "windows-1252" if any(byte in _C1 for byte in content[error.start : error.start + 100_000]) else "latin-1"
    return f"{found}.\nPass --encoding {other}, or the encoding that it was written in."


def _is_mostly_utf8(content: bytes) -> bool:
    """Whether more characters beyond ASCII are well-formed than are not."""
    text = content.decode(errors="replace")
    broken = text.count("\ufffd")
    return sum(not character.isascii() for character in text) > 2 * broken
