// The characters of common/printable.py: the categories Cc, Cf, Cs, Zl and Zp of Unicode 16, and noncharacters.
#include "printable.h"

#include <algorithm>
#include <iterator>

namespace classify {
namespace {

struct Range {
    std::uint32_t first;
    std::uint32_t last;
};

// Without U+200C and U+200D, which join or separate letters of Persian, of Indian scripts and of emoji.
constexpr Range kHidden[] = {
    {0x0, 0x1f},        {0x7f, 0x9f},       {0xad, 0xad},       {0x600, 0x605},     {0x61c, 0x61c},
    {0x6dd, 0x6dd},     {0x70f, 0x70f},     {0x890, 0x891},     {0x8e2, 0x8e2},     {0x180e, 0x180e},
    {0x200b, 0x200b},   {0x200e, 0x200f},   {0x2028, 0x202e},   {0x2060, 0x2064},   {0x2066, 0x206f},
    {0xd800, 0xdfff},   {0xfeff, 0xfeff},   {0xfff9, 0xfffb},   {0xfffe, 0xffff},   {0x110bd, 0x110bd},
    {0x110cd, 0x110cd}, {0x13430, 0x1343f}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0001, 0xe0001},
    {0xe0020, 0xe007f},
};

std::string hexadecimal(std::uint32_t code, int num_digits) {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string digits;
    for (int shift = 4 * (num_digits - 1); shift >= 0; shift -= 4) {
        digits += kDigits[code >> shift & 0xf];
    }
    return digits;
}

std::string escaped(std::uint32_t code) {
    switch (code) {
        case '\n':
            return "\\n";
        case '\r':
            return "\\r";
        case '\t':
            return "\\t";
        default:
            return code < 0x100     ? "\\x" + hexadecimal(code, 2)
                   : code < 0x10000 ? "\\u" + hexadecimal(code, 4)
                                    : "\\U" + hexadecimal(code, 8);
    }
}

// Escapes the hidden characters of `text` that are not in `kept`.
std::string escaped_except(const std::string& text, const std::string& kept) {
    std::string shown;
    for (std::size_t at = 0; at < text.size();) {
        const Character character = character_at(text, at);
        const bool is_shown = !is_hidden(character.code) || kept.find(text[at]) != std::string::npos;
        shown += is_shown ? text.substr(at, character.length) : escaped(character.code);
        at += character.length;
    }
    return shown;
}

}  // namespace

Character character_at(const std::string& text, std::size_t start) {
    const auto byte = [&](std::size_t i) { return start + i < text.size() ? std::uint8_t(text[start + i]) : 0U; };
    const std::uint32_t first = byte(0);
    const std::size_t length = first < 0x80   ? 1
                               : first < 0xc2 ? 0
                               : first < 0xe0 ? 2
                               : first < 0xf0 ? 3
                               : first < 0xf5 ? 4
                                              : 0;
    std::uint32_t code = length < 2 ? first : first & (0x7fU >> length);
    bool is_utf8 = length > 0;
    for (std::size_t i = 1; i < length; ++i) {
        is_utf8 = is_utf8 && (byte(i) & 0xc0) == 0x80;
        code = code << 6 | (byte(i) & 0x3f);
    }
    // overlong form, half of a surrogate pair, or beyond the last character
    const bool is_forbidden = (length == 3 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) ||
                              (length == 4 && (code < 0x10000 || code > 0x10ffff));
    return is_utf8 && !is_forbidden ? Character{code, length} : Character{0xdc00 + first, 1};
}

bool is_hidden(std::uint32_t code) {
    return std::any_of(std::begin(kHidden), std::end(kHidden),
                       [&](const Range& range) { return range.first <= code && code <= range.last; });
}

std::string printable(const std::string& text) {
    return escaped_except(text, "");
}

std::string printable_lines(const std::string& text) {
    std::string shown;
    for (const char one : escaped_except(text, "\n\t")) {
        const bool is_second_line = !shown.empty() && shown.back() == '\n';
        if (is_second_line && one != ' ' && one != '\t' && one != '\n') {
            shown += "  ";
        }
        shown += one;
    }
    return shown;
}

}  // namespace classify
