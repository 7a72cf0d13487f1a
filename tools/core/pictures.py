"""Pictures made small enough for models, in a process of its own (see tools/core/apart.py).

python -m tools.core.pictures < photo.png > smaller.jpg
"""

import io
import sys

from tools.core import apart

CPU_SECONDS = 10
#: Providers refuse pictures of 5 MB; what they look at is about so many pixels wide.
LARGEST = 3_500_000
SIDE = 1_568
#: What is made is a JPEG.
MEDIA_TYPE = "image/jpeg"


async def shrink(body: bytes) -> bytes:
    """Raises apart.Unreadable."""
    return await apart.run("tools.core.pictures", body=body, seconds=CPU_SECONDS)


def main() -> None:
    from PIL import Image, ImageOps

    apart.limit(CPU_SECONDS)
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(sys.stdin.buffer.read())))
    picture.thumbnail((SIDE, SIDE))
    flat = Image.new("RGB", picture.size, "white")
    flat.paste(picture.convert("RGBA"), mask=picture.convert("RGBA"))
    flat.save(sys.stdout.buffer, "JPEG", quality=85)


if __name__ == "__main__":
    main()
