// The same limits and the same walk over JPEG segments and PNG chunks as in Python, so that the same files are refused.
#include "limits.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "errors.h"

namespace classify {
namespace {

constexpr std::uint64_t kMaxSide = 65'535;
constexpr std::uint64_t kMaxPixels = 250'000'000;
constexpr double kMaxSeconds = 0.7;
constexpr double kMaxMegabytes = 170;
constexpr std::size_t kMaxParts = 20'000;
constexpr std::size_t kMaxSegments = 1000;
constexpr std::size_t kMaxHeaderBytes = 16 << 20;
constexpr std::size_t kMaxJunkBytes = 1 << 14;
constexpr std::size_t kMaxCompressedTexts = 8;
constexpr std::size_t kMaxTextBytes = 4 << 20;
constexpr double kNsPerOutputPixel = 4;
constexpr double kNsPerSampleAndScan = 0.7;
constexpr double kBytesTurned = 4;

std::size_t number(const Bytes& data, std::size_t at, std::size_t num_bytes) {
    std::size_t value = 0;
    for (std::size_t i = 0; i < num_bytes; ++i) {
        value = value << 8 | data[at + i];
    }
    return value;
}

bool is_at(const Bytes& data, std::size_t at, const char* text) {
    const std::size_t length = std::strlen(text);
    return at + length <= data.size() && std::memcmp(data.data() + at, text, length) == 0;
}

std::string text_of(const Size& size) {
    return std::to_string(size.width) + " x " + std::to_string(size.height) + " pixels";
}

void check_size(const Size& size) {
    if (size.width > kMaxSide || size.height > kMaxSide || size.width * size.height > kMaxPixels) {
        throw BadImage(text_of(size) + "; the limit is " + std::to_string(kMaxSide) + " a side and " +
                       std::to_string(kMaxPixels) + " in all");
    }
}

[[noreturn]] void throw_too_much_metadata(const char* format) {
    throw BadImage(std::string("more than ") + std::to_string(kMaxSegments) + " pieces or " +
                   std::to_string(kMaxHeaderBytes >> 20) + " MB of metadata in a " + format +
                   " file, the limit; save the image without comments and other metadata");
}

// Bytes of all channels of a JPEG that the decoder collects before it computes pixels; 0 if it does not collect.
double collected_samples(const Bytes& data, std::size_t frame, std::size_t scan, const Size& size, bool is_progressive) {
    const std::size_t num_channels = data[frame + 9];
    if (scan + 4 >= data.size() || (!is_progressive && data[scan + 4] >= num_channels)) {
        return 0;
    }
    std::size_t widest = 1;
    std::size_t highest = 1;
    std::size_t sum = 0;
    for (std::size_t i = 0; i < num_channels && frame + 11 + 3 * i < data.size(); ++i) {
        const std::size_t across = data[frame + 11 + 3 * i] >> 4;
        const std::size_t down = data[frame + 11 + 3 * i] & 15;
        widest = std::max(widest, across);
        highest = std::max(highest, down);
        sum += across * down;
    }
    const double share = num_channels > 1 ? double(sum) / double(widest * highest) : 1;
    return share * double((size.width + 7) / 8 * 8) * double((size.height + 7) / 8 * 8);
}

std::size_t count_scans(const Bytes& data, std::size_t at) {
    std::size_t num_scans = 0;
    for (; at + 1 < data.size(); ++at) {
        num_scans += data[at] == 0xff && data[at + 1] == 0xda;
    }
    return num_scans;
}

bool is_segment(std::uint8_t marker) {
    return marker == 0xc4 || marker == 0xcc || marker == 0xdb || marker == 0xdd || marker == 0xfe || marker >> 4 == 0xe;
}

}  // namespace

Header check_jpeg(const Bytes& data) {
    std::size_t at = 2;
    std::size_t frame = 0;
    std::size_t num_segments = 0;
    std::size_t num_junk = 0;
    Header header;
    while (at + 4 <= data.size()) {
        const std::uint8_t marker = data[at + 1];
        const bool is_marker = data[at] == 0xff;
        const bool is_frame = is_marker && marker >= 0xc0 && marker <= 0xc2 && frame == 0;
        if (is_frame) {
            if (at + 10 > data.size()) {
                break;
            }
            frame = at;
            header.size = {number(data, at + 7, 2), number(data, at + 5, 2)};
            check_size(header.size);
            header.costs.bytes_per_pixel = data[at + 9] == 1 ? 5 : data[at + 9] == 4 ? 8 : 4;
        } else if (is_marker && marker == 0xda && frame != 0) {
            const double samples = collected_samples(data, frame, at, header.size, data[frame + 1] == 0xc2);
            header.costs.ns_per_pixel = 0.5;
            header.costs.ns_per_byte = samples > 0 ? 32 : 10;
            header.costs.extra_bytes = double(at) + 2 * std::round(samples);
            header.costs.extra_ns =
                samples > 0 ? kNsPerSampleAndScan * std::round(samples) * double(count_scans(data, at)) : 0;
            return header;
        } else if (is_marker && marker >= 0xc3 && marker <= 0xcf && !is_segment(marker) && marker != 0xc8) {
            throw BadImage("JPEG of the rare kind SOF" + std::to_string(marker - 0xc0) +
                           "; save it as a baseline JPEG");
        } else if (!is_marker || !is_segment(marker)) {
            const std::size_t start = at++;
            while (at + 1 < data.size() && (data[at] != 0xff || data[at + 1] == 0 || data[at + 1] == 0xff)) {
                ++at;
            }
            num_junk += at - start;
            if (num_junk > kMaxJunkBytes) {
                throw BadImage("more than " + std::to_string(kMaxJunkBytes) +
                               " bytes between the parts of a JPEG, the limit; save the image again");
            }
            continue;
        }
        header.costs.may_turn = header.costs.may_turn || marker == 0xe1;
        at += 2 + std::max<std::size_t>(number(data, at + 2, 2), 2);
        if (++num_segments > kMaxSegments || at > kMaxHeaderBytes) {
            throw_too_much_metadata("JPEG");
        }
    }
    throw BadImage("damaged: the JPEG header is incomplete");
}

Header check_png(const Bytes& data) {
    std::size_t at = 8;
    std::size_t num_parts = 0;
    std::size_t num_segments = 0;
    std::size_t num_bytes = 0;
    std::size_t num_compressed = 0;
    Header header;
    header.costs.ns_per_pixel = 14;
    header.costs.ns_per_byte = 11;
    while (at + 12 <= data.size()) {
        const std::size_t length = number(data, at, 4);
        const auto is_kind = [&](const char* kind) { return is_at(data, at + 4, kind); };
        if (is_kind("IHDR") && length >= 13 && at + 21 <= data.size()) {
            header.size = {number(data, at + 8, 4), number(data, at + 12, 4)};
            check_size(header.size);
            const int depth = data[at + 16];
            const int colour = data[at + 17];
            header.costs.bytes_per_pixel = colour == 2 ? 4 : colour == 3 ? 5 : colour != 0 ? 8 : depth == 16 ? 12 : 5;
        }
        const bool is_idat = is_kind("IDAT");
        if (!is_idat && !is_kind("fdAT") && !is_kind("fcTL")) {
            ++num_segments;
            num_bytes += length;
        }
        num_compressed += is_kind("zTXt") || is_kind("iTXt") || is_kind("iCCP");
        header.costs.may_turn =
            header.costs.may_turn || is_kind("eXIf") || is_kind("zTXt") || is_kind("tEXt") || is_kind("iTXt");
        if (length > data.size() - at - 12) {
            header.end_of_pixels = is_idat ? data.size() : header.end_of_pixels;
            break;  // libpng says that the file is truncated
        }
        if (++num_parts > kMaxParts || num_segments > kMaxSegments || num_bytes > kMaxHeaderBytes ||
            num_compressed > kMaxCompressedTexts) {
            throw_too_much_metadata("PNG");
        }
        if (is_kind("IEND")) {
            break;
        }
        at += 12 + length;
        if (is_idat) {
            header.end_of_pixels = at;
        }
    }
    header.costs.extra_bytes = 5 * double(num_bytes) + 2 * double(kMaxTextBytes * num_compressed);
    return header;
}

int choose_scale(const Header& header, std::size_t num_bytes, bool is_jpeg, bool is_turned) {
    const Costs& costs = header.costs;
    const double pixels = double(header.size.width * header.size.height);
    double seconds = 0;
    double megabytes = 0;
    for (int scale = 1; scale <= (is_jpeg ? 8 : 1); scale *= 2) {
        const double output = pixels / (scale * scale);
        const double ns = costs.ns_per_pixel * pixels + costs.ns_per_byte * double(num_bytes) + costs.extra_ns;
        const double per_pixel = costs.bytes_per_pixel + (is_turned ? kBytesTurned : 0);
        seconds = (ns + (is_jpeg ? kNsPerOutputPixel * output : 0)) / 1e9;
        megabytes = (double(num_bytes) + costs.extra_bytes + per_pixel * output) / 1e6;
        if (seconds <= kMaxSeconds && megabytes <= kMaxMegabytes) {
            return scale;
        }
    }
    const std::string too_much =
        seconds > kMaxSeconds ? std::to_string(std::lround(seconds * 1000)) + " ms; the limit is 700 ms"
                              : std::to_string(std::lround(megabytes)) + " MB of memory; the limit is 170 MB";
    throw BadImage("to decode " + text_of(header.size) + " would take about " + too_much +
                   "; shrink the image or save it as baseline JPEG, for example with magick mogrify -resize 4000x4000 "
                   "-format jpg");
}

}  // namespace classify
