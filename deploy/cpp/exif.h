// The orientation of an image in its EXIF or XMP metadata.
#pragma once

#include "decode.h"
#include "image.h"

namespace classify {

// Returns the value 1 to 8 of tag 0x0112 in the EXIF block, else of tiff:Orientation in the XMP packet, else 1
// (upright).
int orientation(const Metadata& metadata);

// Rotates and mirrors `image`, which has this orientation, so that it is upright.
Image upright(const Image& image, int orientation);

}  // namespace classify
