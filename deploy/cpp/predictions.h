// Predictions as lines of JSON, one per image, with the keys of infer.py.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "topk.h"

namespace classify {

using ClassNames = std::optional<std::vector<std::string>>;

// Formats a prediction. Without `class_names` class 3 is named "class 3".
std::string prediction_line(const std::string& file_name, const std::vector<ClassScore>& classes,
                            const ClassNames& class_names);

// Formats the prediction of an image that could not be read: no classes, and the reason.
std::string failed_prediction_line(const std::string& file_name, const std::string& reason);

}  // namespace classify
