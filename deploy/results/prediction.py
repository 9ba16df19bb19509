"""A prediction as a Python object: its classes, the record of infer.py, and how a notebook shows it."""

import base64
import html
import io
import os
from typing import NamedTuple

from PIL import Image

from common.errors import BadImage
from common.printable import printable
from datasets.reading.decode import AnyImage, to_rgb

from .annotated import annotate
from .caption import percent

THUMBNAIL = 160  # longer side in pixels
MAX_SHOWN = 24  # pictures of a list in a notebook


class TopClass(NamedTuple):
    """One of the most probable classes of an image."""

    label: str
    score: float
    class_id: int


class Prediction:
    """The most probable classes of one image; `topk` holds all that were asked for, the best first.

    `error` is None, or the reason why the image could not be read. Such a prediction has no classes, and asking it for
    them raises BadImage.
    """

    def __init__(self, record: dict, source: AnyImage, exif_orientation: str = "ignore"):
        """Wrap a record of `deploy.topk`; `source` is the image, for `picture`."""
        self._record, self._source, self._exif_orientation = record, source, exif_orientation

    @property
    def file_name(self) -> str:
        """Path of the image, or `image 3` for the fourth of those that have no path."""
        return self._record["file_name"]

    @property
    def error(self) -> str | None:
        """Why the image could not be read; None if it could."""
        return self._record.get("error")

    @property
    def topk(self) -> tuple[TopClass, ...]:
        """The most probable classes, those below the threshold left out.

        Raises:
            BadImage: the image could not be read.
        """
        if self.error is not None:
            raise BadImage(self.file_name, self.error)
        record = self._record
        return tuple(map(TopClass, record["label_names"], record["scores"], record["class_ids"]))

    @property
    def label(self) -> str | None:
        """Name of the most probable class; None if no class reaches the threshold.

        Raises:
            BadImage: the image could not be read.
        """
        return self.topk[0].label if self.topk else None

    @property
    def score(self) -> float | None:
        """Probability of the most probable class; None if no class reaches the threshold.

        Raises:
            BadImage: the image could not be read.
        """
        return self.topk[0].score if self.topk else None

    @property
    def class_id(self) -> int | None:
        """Number of the most probable class; None if no class reaches the threshold.

        Raises:
            BadImage: the image could not be read.
        """
        return self.topk[0].class_id if self.topk else None

    def to_dict(self) -> dict:
        """The record that infer.py prints: class_ids, scores, file_name, label_names, and error where there is one."""
        return {name: list(value) if isinstance(value, list) else value for name, value in self._record.items()}

    def picture(self) -> Image.Image:
        """The image with names and scores drawn below it, as --save_images writes it.

        Raises:
            BadImage: the image could not be read.
        """
        return annotate(self._image(), self._record)

    def _image(self) -> Image.Image:
        if self.error is not None:
            raise BadImage(self.file_name, self.error)
        return to_rgb(self._source, self._exif_orientation)

    def __repr__(self) -> str:
        if self.error is not None:
            classes = f"error: {printable(self.error)}"
        else:
            classes = ", ".join(f"{printable(one.label)} {percent(one.score)}" for one in self.topk[:3]) or "no class"
        return f"<Prediction {printable(self.file_name)}: {classes}>"

    def _repr_html_(self) -> str:
        name = html.escape(printable(os.path.basename(self.file_name)))
        if self.error is not None:
            return f'<div style="{BOX}"><b>{name}</b><br>cannot be read: {html.escape(printable(self.error))}</div>'
        rows = "".join(
            f'<div style="{ROW}background:linear-gradient(to right,#4a86d855 {100 * one.score:.1f}%,transparent 0)">'
            f"<span>{html.escape(printable(one.label))}</span><span>{html.escape(percent(one.score))}</span></div>"
            for one in self.topk
        )
        return f'<div style="{BOX}">{self._thumbnail()}<br><small>{name}</small>{rows or "<br>no class"}</div>'

    def _thumbnail(self) -> str:
        try:
            image = self._image()
        except BadImage:  # the file is gone since
            return ""
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        times = max(1, THUMBNAIL // (2 * max(image.size)))  # so that a picture of 20 pixels is seen
        image = image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=85)
        data = base64.b64encode(stream.getvalue()).decode()
        return f'<img alt="" style="max-width:{THUMBNAIL}px" src="data:image/jpeg;base64,{data}">'


BOX = "display:inline-block;vertical-align:top;margin:4px;padding:6px;width:200px;overflow-wrap:anywhere;"
ROW = "display:flex;justify-content:space-between;gap:8px;padding:1px 4px;margin-top:2px;"


class Predictions(list):
    """Predictions in the order of their images; a notebook shows the pictures side by side."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        return Predictions(item) if isinstance(index, slice) else item

    def _repr_html_(self) -> str:
        more = f"<div>and {len(self) - MAX_SHOWN} more</div>" if len(self) > MAX_SHOWN else ""
        return f"<div>{''.join(one._repr_html_() for one in self[:MAX_SHOWN])}</div>{more}"
