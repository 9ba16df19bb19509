// From logits to the most probable classes.
#pragma once

#include <cstddef>
#include <vector>

namespace classify {

struct Answer {
    std::size_t class_id;
    double score;
};

// The `k` most probable of the classes with these `logits`, the best first; of equal logits the lower class comes
// first. Classes below `threshold` are left out.
std::vector<Answer> topk(const float* logits, std::size_t num_classes, std::size_t k, double threshold);

}  // namespace classify
