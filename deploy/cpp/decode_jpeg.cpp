// Decodes JPEG by libjpeg-turbo with its defaults, as Pillow: slow integer DCT, smooth chroma upsampling.
#include <algorithm>
#include <csetjmp>
#include <cstdio>  // jpeglib.h takes FILE from it
#include <cstring>

#include <jpeglib.h>
// after jpeglib.h
#include <jerror.h>

#include "decode.h"
#include "errors.h"
#include "exif.h"
#include "limits.h"

namespace classify {
namespace {

constexpr char kExifStart[] = "Exif\0";  // with the zero byte that ends the literal
constexpr char kXmpStart[] = "http://ns.adobe.com/xap/1.0/";
constexpr unsigned kMaxMarkerBytes = 0xffff;

// libjpeg reports an error by a call that must not return.
struct ErrorManager {
    jpeg_error_mgr base;
    std::jmp_buf escape;
    char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void on_error(j_common_ptr info) {
    auto* errors = reinterpret_cast<ErrorManager*>(info->err);
    info->err->format_message(info, errors->message);
    std::longjmp(errors->escape, 1);
}

void ignore_warning(j_common_ptr) {}

// Without this handler libjpeg completes a truncated file with gray pixels.
boolean on_end_of_data(j_decompress_ptr info) {
    ERREXIT(info, JERR_INPUT_EOF);
    return FALSE;
}

// The functions that call libjpeg have no local objects, whose destructors a longjmp would skip.
class JpegReader {
 public:
    JpegReader() {
        info_.err = jpeg_std_error(&errors_.base);
        errors_.base.error_exit = on_error;
        errors_.base.output_message = ignore_warning;
    }
    JpegReader(const JpegReader&) = delete;
    JpegReader& operator=(const JpegReader&) = delete;
    ~JpegReader() {
        jpeg_destroy_decompress(&info_);
    }

    void read_header(const Bytes& data) {
        require(open(data));
    }
    // Decodes at 1/`scale` of the sides; to be called before the next two.
    void set_scale(int scale) {
        info_.scale_num = 1;
        info_.scale_denom = unsigned(scale);
        jpeg_calc_output_dimensions(&info_);
    }
    int width() const {
        return int(info_.output_width);
    }
    int height() const {
        return int(info_.output_height);
    }
    bool is_cmyk() const {
        return info_.num_components == 4;
    }

    // Writes rows of RGB, or of CMYK as stored, to `output`.
    void read_pixels(std::uint8_t* output) {
        require(decompress(output));
    }

    Metadata metadata() const {
        Metadata metadata;
        for (jpeg_saved_marker_ptr marker = info_.marker_list; marker != nullptr; marker = marker->next) {
            const std::uint8_t* start = marker->data;
            const std::uint8_t* end = start + marker->data_length;
            if (metadata.exif.empty() && starts_with(*marker, kExifStart, sizeof kExifStart)) {
                metadata.exif.assign(start + sizeof kExifStart, end);
            } else if (metadata.xmp.empty() && starts_with(*marker, kXmpStart, sizeof kXmpStart)) {
                metadata.xmp.assign(start + sizeof kXmpStart, end);
            }
        }
        return metadata;
    }

 private:
    bool open(const Bytes& data) {
        if (setjmp(errors_.escape)) {
            return false;
        }
        jpeg_create_decompress(&info_);
        jpeg_mem_src(&info_, data.data(), static_cast<unsigned long>(data.size()));
        info_.src->fill_input_buffer = on_end_of_data;
        jpeg_save_markers(&info_, JPEG_APP0 + 1, kMaxMarkerBytes);
        jpeg_read_header(&info_, TRUE);
        return true;
    }

    bool decompress(std::uint8_t* output) {
        if (setjmp(errors_.escape)) {
            return false;
        }
        info_.out_color_space = is_cmyk() ? JCS_CMYK : JCS_RGB;
        jpeg_start_decompress(&info_);
        const std::size_t row_bytes = std::size_t(info_.output_width) * info_.output_components;
        while (info_.output_scanline < info_.output_height) {
            JSAMPROW row = output + info_.output_scanline * row_bytes;
            jpeg_read_scanlines(&info_, &row, 1);
        }
        jpeg_finish_decompress(&info_);
        return true;
    }

    void require(bool is_done) const {
        if (!is_done) {
            throw BadImage(std::string("damaged: ") + errors_.message);
        }
    }

    static bool starts_with(const jpeg_marker_struct& marker, const char* start, std::size_t length) {
        return marker.data_length >= length && std::memcmp(marker.data, start, length) == 0;
    }

    jpeg_decompress_struct info_{};
    ErrorManager errors_{};
};

// Computes a * b / 255, rounded.
int product_of_fractions(int a, int b) {
    const int product = a * b + 128;
    return (product + (product >> 8)) >> 8;
}

// Converts CMYK as Adobe stores it: complements of the inks, 255 is no ink.
void cmyk_to_rgb(const Bytes& inks, Bytes& pixels) {
    for (std::size_t i = 0; i < pixels.size(); ++i) {
        const std::uint8_t* ink = inks.data() + i / 3 * 4;
        const int not_black = ink[3];
        pixels[i] = std::uint8_t(std::max(0, not_black - product_of_fractions(255 - ink[i % 3], not_black)));
    }
}

}  // namespace

Decoded decode_jpeg(const Bytes& data, bool may_turn) {
    const Header header = check_jpeg(data);
    JpegReader reader;
    reader.read_header(data);
    const Metadata metadata = reader.metadata();
    const bool is_turned = may_turn && orientation(metadata) != 1;
    reader.set_scale(choose_scale(header, data.size(), true, is_turned));
    Decoded decoded = {Image(reader.width(), reader.height()), metadata};
    if (reader.is_cmyk()) {
        Bytes inks(decoded.image.pixels.size() / 3 * 4);
        reader.read_pixels(inks.data());
        cmyk_to_rgb(inks, decoded.image.pixels);
    } else {
        reader.read_pixels(decoded.image.pixels.data());
    }
    return decoded;
}

}  // namespace classify
