// Makes names that come from files safe to show on a terminal and in a log, as common/printable.py does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace classify {

// A character of a text in UTF-8, or a byte that is not UTF-8.
struct Character {
    std::uint32_t code;  // a byte that is not UTF-8 has the lone surrogate that os.fsdecode of Python makes of it
    std::size_t length;  // bytes in the text
};

// Returns the character of `text` that begins at byte `start`.
Character character_at(const std::string& text, std::size_t start);

// Whether a character is not shown as itself: a control or format character, a line separator, half of a surrogate pair.
bool is_hidden(std::uint32_t code);

// Escapes every hidden character of a text as Python writes it: \n, \x1b, \u202e, \U000e0001.
std::string printable(const std::string& text);

// Returns a message as `printable` does, with its line breaks and tabs kept. The lines after the first one are indented,
// so that a name with a line break cannot be taken for a message of its own.
std::string printable_lines(const std::string& text);

}  // namespace classify
