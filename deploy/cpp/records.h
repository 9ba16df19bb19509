// A record for each image, as one line of JSON, with the keys of infer.py.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "topk.h"

namespace classify {

using ClassNames = std::optional<std::vector<std::string>>;

// Without `class_names` class 3 is called "class 3".
std::string record_line(const std::string& file_name, const std::vector<Answer>& answers,
                        const ClassNames& class_names);

// The record of an image that could not be read: no classes, and why.
std::string failure_line(const std::string& file_name, const std::string& reason);

}  // namespace classify
