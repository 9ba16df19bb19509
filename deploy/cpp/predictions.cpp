// Writes JSON from which the json module of Python reads the same values, bit for bit.
#include "predictions.h"

#include <charconv>
#include <cstdint>
#include <functional>

namespace classify {
namespace {

// The shortest digits from which `value` is read back.
std::string json_number(double value) {
    char digits[32];
    const std::to_chars_result result = std::to_chars(digits, digits + sizeof digits, value);
    std::string text(digits, result.ptr);
    return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

std::string unicode_escape(unsigned code) {
    constexpr char kDigits[] = "0123456789abcdef";
    return {
        '\\', 'u', kDigits[code >> 12 & 0xf], kDigits[code >> 8 & 0xf], kDigits[code >> 4 & 0xf], kDigits[code & 0xf]};
}

// Length of the UTF-8 character at `start` in `text`; 0 if the bytes are not UTF-8.
std::size_t character_length(const std::string& text, std::size_t start) {
    const auto byte = [&](std::size_t i) { return start + i < text.size() ? std::uint8_t(text[start + i]) : 0U; };
    const unsigned first = byte(0);
    const std::size_t length = first < 0x80   ? 1
                               : first < 0xc2 ? 0
                               : first < 0xe0 ? 2
                               : first < 0xf0 ? 3
                               : first < 0xf5 ? 4
                                              : 0;
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0) != 0x80) {
            return 0;
        }
    }
    // overlong form, half of a surrogate pair, or beyond the last character
    const bool is_forbidden = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) >= 0xa0) ||
                              (first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) >= 0x90);
    return is_forbidden ? 0 : length;
}

// Quotes a text. A byte that is not UTF-8 becomes the lone surrogate that os.fsdecode of Python makes of it.
std::string json_text(const std::string& text) {
    std::string quoted = "\"";
    for (std::size_t i = 0; i < text.size();) {
        const std::size_t length = character_length(text, i);
        const std::uint8_t byte = std::uint8_t(text[i]);
        if (length == 0) {
            quoted += unicode_escape(0xdc00U + byte);
        } else if (byte < 0x20) {
            quoted += unicode_escape(byte);
        } else if (byte == '"' || byte == '\\') {
            quoted += '\\';
            quoted += text[i];
        } else {
            quoted.append(text, i, length);
        }
        i += length == 0 ? 1 : length;
    }
    return quoted + '"';
}

std::string json_list(const std::vector<ClassScore>& classes,
                      const std::function<std::string(const ClassScore&)>& item) {
    std::string list = "[";
    for (const ClassScore& one : classes) {
        list += (list.size() > 1 ? ", " : "") + item(one);
    }
    return list + "]";
}

}  // namespace

std::string prediction_line(const std::string& file_name, const std::vector<ClassScore>& classes,
                            const ClassNames& class_names) {
    const auto id = [](const ClassScore& one) { return std::to_string(one.class_id); };
    const auto score = [](const ClassScore& one) { return json_number(one.score); };
    const auto name = [&](const ClassScore& one) {
        return json_text(class_names ? (*class_names)[one.class_id] : "class " + id(one));
    };
    return "{\"class_ids\": " + json_list(classes, id) + ", \"scores\": " + json_list(classes, score) +
           ", \"file_name\": " + json_text(file_name) + ", \"label_names\": " + json_list(classes, name) + "}";
}

std::string failed_prediction_line(const std::string& file_name, const std::string& reason) {
    return "{\"class_ids\": [], \"scores\": [], \"file_name\": " + json_text(file_name) +
           ", \"label_names\": [], \"error\": " + json_text(reason) + "}";
}

}  // namespace classify
