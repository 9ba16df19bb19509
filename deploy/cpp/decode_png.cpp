// Decodes PNG by libpng as Pillow: gamma and transparency are ignored, 16 bits are reduced to the upper 8.
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>

#include "decode.h"
#include "errors.h"
#include "limits.h"

namespace classify {
namespace {

constexpr char kXmpKeyword[] = "XML:com.adobe.xmp";

// Compressed data beyond the last row. libpng decompresses all of it when it reads that row, and 1 MB can be 1 GB.
constexpr std::size_t kMaxBytesAfterPixels = 1 << 14;
constexpr std::size_t kMaxBytesPerPixel = 8;

struct Source {
    const Bytes& data;
    std::size_t position;
};

void read_data(png_structp png, png_bytep output, std::size_t num_bytes) {
    auto* source = static_cast<Source*>(png_get_io_ptr(png));
    if (num_bytes > source->data.size() - source->position) {
        png_error(png, "the file is truncated");
    }
    std::memcpy(output, source->data.data() + source->position, num_bytes);
    source->position += num_bytes;
}

// libpng reports an error by a call that must not return.
[[noreturn]] void on_error(png_structp png, png_const_charp message) {
    auto* reason = static_cast<std::string*>(png_get_error_ptr(png));
    *reason = message;
    png_longjmp(png, 1);
}

void ignore_warning(png_structp, png_const_charp) {}

// The functions that call libpng have no local objects, whose destructors a longjmp would skip.
class PngReader {
 public:
    explicit PngReader(const Bytes& data) : source_{data, 0} {
        png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reason_, on_error, ignore_warning);
        info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
        if (info_ == nullptr) {
            png_destroy_read_struct(&png_, nullptr, nullptr);
            throw std::bad_alloc();
        }
    }
    PngReader(const PngReader&) = delete;
    PngReader& operator=(const PngReader&) = delete;
    ~PngReader() {
        png_destroy_read_struct(&png_, &info_, nullptr);
    }

    void read_header() {
        require(open());
    }
    std::uint32_t width() const {
        return png_get_image_width(png_, info_);
    }
    std::uint32_t height() const {
        return png_get_image_height(png_, info_);
    }

    // Writes each row of the image to the address in `rows`. The last IDAT ends before byte `end_of_pixels`.
    void read_pixels(std::vector<png_bytep>& rows, std::size_t end_of_pixels) {
        require(decompress(rows.data(), end_of_pixels));
    }

    Metadata metadata() const {
        Metadata metadata;
        png_bytep exif = nullptr;
        png_uint_32 num_bytes = 0;
        if (png_get_eXIf_1(png_, info_, &num_bytes, &exif) != 0) {
            metadata.exif.assign(exif, exif + num_bytes);
        }
        png_textp texts = nullptr;
        const int num_texts = png_get_text(png_, info_, &texts, nullptr);
        for (int i = 0; i < num_texts; ++i) {
            if (std::strcmp(texts[i].key, kXmpKeyword) == 0) {
                metadata.xmp = texts[i].text;
            }
        }
        return metadata;
    }

 private:
    bool open() {
        if (setjmp(png_jmpbuf(png_))) {
            return false;
        }
        png_set_read_fn(png_, &source_, read_data);
        png_set_crc_action(png_, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
        png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // check_png limits the size
        png_read_info(png_, info_);
        return true;
    }

    bool decompress(png_bytep* rows, std::size_t end_of_pixels) {
        if (setjmp(png_jmpbuf(png_))) {
            return false;
        }
        png_set_palette_to_rgb(png_);
        png_set_expand_gray_1_2_4_to_8(png_);
        png_set_strip_16(png_);
        png_set_strip_alpha(png_);
        png_set_gray_to_rgb(png_);
        const int num_passes = png_set_interlace_handling(png_);
        png_read_update_info(png_, info_);
        const png_uint_32 last = height() - 1;
        for (int pass = 1; pass <= num_passes; ++pass) {
            png_read_rows(png_, rows, nullptr, last);
            if (pass == num_passes &&
                end_of_pixels > source_.position + kMaxBytesPerPixel * width() + kMaxBytesAfterPixels) {
                png_error(png_, "more pixels than the header says");
            }
            png_read_row(png_, rows[last], nullptr);
        }
        png_read_end(png_, info_);
        return true;
    }

    void require(bool is_done) const {
        if (!is_done) {
            throw BadImage("damaged: " + reason_);
        }
    }

    Source source_;
    std::string reason_;
    png_structp png_ = nullptr;
    png_infop info_ = nullptr;
};

}  // namespace

Decoded decode_png(const Bytes& data, bool may_turn) {
    const Header header = check_png(data);
    choose_scale(header, data.size(), false, may_turn && header.costs.may_turn);
    PngReader reader(data);
    reader.read_header();
    Image image(int(reader.width()), int(reader.height()));
    std::vector<png_bytep> rows(std::size_t(image.height));
    for (int y = 0; y < image.height; ++y) {
        rows[std::size_t(y)] = image.row(y);
    }
    reader.read_pixels(rows, header.end_of_pixels);
    return {std::move(image), reader.metadata()};
}

}  // namespace classify
