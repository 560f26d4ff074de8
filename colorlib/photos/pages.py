"""Read and write files of several pages or frames, one page at a time.

Not here: what belongs to a single photograph (`colorlib.photos.photo`) and films
(`colorlib.video`).

TIFF and HEIF files hold pages, each with its own size and metadata. Animated PNG, WebP and AVIF
files hold frames of one size, each with the time for which it is shown; a GIF, which can't be
written, becomes an animated PNG. Pages don't become frames, nor frames pages.
"""

import contextlib
import dataclasses
import fractions
import itertools
import struct

import numpy as np
from PIL import Image, PngImagePlugin

from colorlib import files, images
from colorlib.photos import photo

PAGED, ANIMATED = ("TIFF", "HEIF"), ("PNG", "WEBP", "AVIF", "GIF")
"""Formats of pages and formats of frames."""

LONGEST_DELAY = 65535
"""Largest numerator and denominator of the seconds in a PNG file's frame control."""


@dataclasses.dataclass(frozen=True)
class Page:
    """A colored page or frame, ready to be written.

    Attributes
    ----------
    pixels : ndarray of uint8 or uint16, shape (height, width, 3 or 4)
        sRGB, and alpha.
    profile : bytes or None
        An ICC profile.
    kept : dict
        From `metadata.collect`; of frames only the first one's is written.
    duration : float or None
        Milliseconds for which a frame is shown. None for a page, and for the still picture of an
        animated PNG, which programs without animations show.
    """

    pixels: np.ndarray
    profile: bytes | None = None
    kept: dict = dataclasses.field(default_factory=dict)
    duration: float | None = None


class Pages:
    """The photographs of an opened file, to be iterated over once, in order.

    Parameters
    ----------
    image : PIL.Image.Image
        From `images.opened`, not loaded yet.
    path : path-like
        Its name, for messages.

    Attributes
    ----------
    loop : int
        How often an animation is played; 0 is for ever.
    intact : int
        Number of pages before the first one that can't be read; 0 as long as all can.
    """

    def __init__(self, image, path):
        self._image, self._path, self._numbers = image, path, images.page_numbers(image)
        self.intact = 0
        self.loop = image.info.get("loop", 1 if image.format == "GIF" else 0)
        if image.format == "GIF" and image.info.get("loop"):
            self.loop += 1  # a GIF counts the repetitions

    def __len__(self):
        return len(self._numbers)

    def __iter__(self):
        for before, number in enumerate(self._numbers):
            try:
                with images.explained_reading(self._path):
                    photograph = self._read(number)
            except images.ImageError:
                self.intact = before
                raise
            yield photograph
            del photograph  # frees its memory before the next one is read

    def fitting(self, path):
        """Return how many of the pages a file of this name can hold: all, or 1."""
        kinds = [kind for kind in (PAGED, ANIMATED) if self._image.format in kind]
        return len(self) if kinds and images.format_of(path) in kinds[0] else 1

    def _read(self, number):
        image = self._image
        if image.tell() != number:
            images.turn_to(image, number)
        photograph = photo.decode(image, len(self))
        outside = number == 0 and getattr(image, "default_image", False)
        if image.format in ANIMATED and not outside:
            photograph = dataclasses.replace(photograph, duration=image.info.get("duration", 0))
        if image.format == "GIF" and len(self) > 1 and photograph.alpha is None:
            # a later frame may be transparent where this one is not
            opaque = np.full(photograph.shape, 255, np.uint8)
            photograph = dataclasses.replace(photograph, alpha=opaque)
        return photograph


@contextlib.contextmanager
def opened(path):
    """Open an image file to iterate over its pages.

    Parameters
    ----------
    path : path-like

    Yields
    ------
    Pages

    Raises
    ------
    colorlib.images.ImageError
        As `images.read` does.
    """
    with images.opened(path) as image:
        yield Pages(image, path)


def convert(source, target, change):
    """Read a file, change all its pages that the target's format can hold, and write them.

    Parameters
    ----------
    source, target : path-like
        The target's ending decides its format.
    change : callable
        From `photo.Photograph` to `Page`.

    Returns
    -------
    list of str
        What could not be kept.

    Raises
    ------
    colorlib.images.ImageError
        If the first page can't be read or the target can't be written.
    """
    with opened(source) as pages:
        total, count = len(pages), pages.fitting(target)
    described, why = True, f"{images.format_of(target)} files hold no others of this kind"
    while count > 1:
        try:
            with opened(source) as pages:
                changed = map(change, itertools.islice(pages, count))
                if not described:
                    changed = (dataclasses.replace(page, kept={}) for page in changed)
                write(target, changed, count, pages.loop)
            break
        except images.ImageError as error:
            if pages.intact:
                count, why = pages.intact, str(error)
            elif described:
                described = False
            else:
                raise
    else:
        page = change(photo.read(source))
        described = photo.write(target, page.pixels, page.profile, page.kept)
    losses = []
    if count < total:
        some = "the first is" if count == 1 else f"the first {count} are"
        losses.append(f"of {total} pages or frames only {some} colored ({why})")
    if not described:
        losses.append("the metadata are too long or damaged and left out")
    return losses


def write(path, pages, count, loop=0):
    """Write several pages or frames into one file, or nothing at all.

    Parameters
    ----------
    path : path-like
        The ending decides the format: one of `PAGED` or `ANIMATED`.
    pages : iterable of Page
        In most formats each is written before the next one is taken from the iterable; for a HEIF
        file all are in memory at once.
    count : int
        Number of pages.
    loop : int
        How often an animation is played, 0 for ever; AVIF files always play for ever.

    Raises
    ------
    colorlib.images.ImageError
        If the file can't be written.
    """
    image_format = images.format_of(path)
    with images.explained_writing(path), files.replacing(path) as temporary:
        if image_format == "TIFF":
            photo.write_tiff(temporary, ((page.pixels, page.profile, page.kept) for page in pages))
        elif image_format == "HEIF":
            _write_heif(temporary, pages)
        elif image_format == "PNG":
            _write_png(temporary, _alike(pages), count, loop)
        else:
            frames = _Frames(_alike(pages), count)
            options = photo.options(image_format, frames.first.profile, frames.first.kept)
            images.save(
                frames,
                temporary,
                image_format,
                save_all=True,
                duration=frames.durations,
                loop=loop,
                **options,
            )


# All frames of an animation have transparency or none has it; the first one decides.
def _alike(pages):
    channels = None
    for page in pages:
        pixels = page.pixels
        channels = channels or pixels.shape[2]
        if pixels.shape[2] > channels:
            pixels = images.over_white(pixels)
        elif pixels.shape[2] < channels:
            top = np.iinfo(pixels.dtype).max
            pixels = np.dstack([pixels, np.full(pixels.shape[:2], top, pixels.dtype)])
        yield dataclasses.replace(page, pixels=pixels)


class _Frames(Image.Image):
    """All frames as one image for Pillow's writers; a frame is made when they seek to it."""

    is_animated = True

    def __init__(self, pages, count):
        super().__init__()
        self._pages, self._position, self.n_frames, self.durations = iter(pages), -1, count, []
        self.first = self._next()

    def tell(self):
        return max(self._position, 0)

    def seek(self, frame):
        if frame >= self.n_frames:
            raise EOFError("no more frames")
        if frame > self._position:
            self._next()

    def _next(self):
        page = next(self._pages)
        image = Image.fromarray(page.pixels)
        self.im, self._mode, self._size = image.im, image.mode, image.size
        self.durations.append(round(page.duration or 0))
        self._position += 1
        return dataclasses.replace(page, pixels=None)


def _write_heif(path, pages):
    shown = []
    for page in pages:
        shown.append(Image.fromarray(page.pixels))
        found = {"icc_profile": page.profile, "exif": page.kept.get("exif")}
        found["xmp"] = page.kept.get("xmp")
        shown[-1].info = {name: value for name, value in found.items() if value}
    options = {"quality": photo.QUALITY, "save_all": True, "append_images": shown[1:]}
    images.save(shown[0], path, "HEIF", **options)


# PNG, third edition, section 11.3.6: Pillow's chunks of each frame, with sequence numbers added.
def _write_png(path, pages, count, loop):
    numbers, begun = itertools.count(), False
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for page in pages:
            options = photo.options("PNG", page.profile, page.kept)
            image = Image.fromarray(page.pixels)
            chunks = PngImagePlugin.getchunks(image, **(options if not begun else _PLAIN))
            data = [content for name, content, _ in chunks if name == b"IDAT"]
            if not begun:
                for name, content, _ in itertools.takewhile(lambda x: x[0] != b"IDAT", chunks):
                    PngImagePlugin.putchunk(file, name, content)
                frames = count - (page.duration is None)
                PngImagePlugin.putchunk(file, b"acTL", struct.pack(">II", frames, loop))
            if page.duration is not None:
                PngImagePlugin.putchunk(
                    file, b"fcTL", _control(next(numbers), image.size, page.duration)
                )
            for content in data:
                if begun:
                    content = struct.pack(">I", next(numbers)) + content
                PngImagePlugin.putchunk(file, b"fdAT" if begun else b"IDAT", content)
            begun = True
        PngImagePlugin.putchunk(file, b"IEND", b"")


_PLAIN = {"compress_level": photo.PNG_COMPRESSION}


def _control(number, size, milliseconds):
    delay = fractions.Fraction(milliseconds / 1000).limit_denominator(LONGEST_DELAY)
    if delay.numerator > LONGEST_DELAY:
        delay = fractions.Fraction(min(round(milliseconds / 1000), LONGEST_DELAY))
    return struct.pack(">5I2H2B", number, *size, 0, 0, delay.numerator, delay.denominator, 0, 0)
