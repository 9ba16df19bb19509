// Writes JSON from which the json module of Python reads the same values, bit for bit.
#include "predictions.h"

#include <charconv>
#include <cstdint>
#include <functional>

#include "printable.h"

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

// Quotes a text. A byte that is not UTF-8 becomes the lone surrogate that os.fsdecode of Python makes of it, and what is
// not shown as itself is escaped too: the line may be read on a terminal.
std::string json_text(const std::string& text) {
    std::string quoted = "\"";
    for (std::size_t at = 0; at < text.size();) {
        const auto [code, length] = character_at(text, at);
        if (code >= 0x10000 && is_hidden(code)) {
            quoted += unicode_escape(0xd800 + ((code - 0x10000) >> 10));
            quoted += unicode_escape(0xdc00 + (code & 0x3ff));
        } else if (is_hidden(code)) {
            quoted += unicode_escape(code);
        } else if (code == '"' || code == '\\') {
            quoted += '\\';
            quoted += text[at];
        } else {
            quoted.append(text, at, length);
        }
        at += length;
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
