"""Amounts of memory, as people write them."""

import re

from configs.errors import InvalidParameter

UNITS = {"": 1, "M": 2**20, "G": 2**30}
AMOUNT = re.compile(r"(?P<number>\d{1,18}(?:\.\d+)?) ?(?:(?P<unit>[MG])I?)?B?", re.IGNORECASE)
LEAST = 64 * 2**20


class ByteCount(int):
    """A number of bytes; units are powers of 1024, whether they are written G, GB or GiB."""

    @classmethod
    def read(cls, text: object) -> "ByteCount":
        """`6G`, `6GB`, `6144M` or a plain number of bytes.

        Raises:
            InvalidParameter: it is none, or so little that nothing fits.
        """
        found = AMOUNT.fullmatch(str(text).strip())
        count = int(float(found["number"]) * UNITS[(found["unit"] or "").upper()]) if found else 0
        if count < LEAST:
            raise InvalidParameter(
                f"{str(text)!r:.60} is no amount of memory; give a number with M or G, such as 6G or 6144M, "
                "of at least 64M"
            )
        return cls(count)
