"""How the samples of one size share UNet and VAE calls."""

from typing import NamedTuple


class Layout(NamedTuple):
    """How many rows and images calls have, and who is in them."""

    rows: int = 0
    """Rows to which a UNet call is padded, so that all have one shape; 0: none."""
    images: int = 0
    """The same of a VAE call."""
    apart: bool = False
    """Whether each sample has calls of its own."""
    exact: bool = False
    """Whether an image's bits are known not to depend on what shares its calls."""


TIGHT = Layout()
APART = Layout(apart=True)


def tight(_width: int, _height: int) -> Layout:
    """The fastest one for any size: a lone sample padded to sixteen rows would take eight times as long."""
    return TIGHT
