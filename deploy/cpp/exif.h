// The orientation that a camera wrote beside the pixels.
#pragma once

#include "decode.h"
#include "image.h"

namespace classify {

// Value 1 to 8 of tag 0x0112 in the EXIF block, else of tiff:Orientation in the XMP packet. 1, upright, where there is
// none or it makes no sense.
int orientation(const Metadata& metadata);

// `image` turned and mirrored so that a picture of this orientation stands upright.
Image upright(const Image& image, int orientation);

}  // namespace classify
