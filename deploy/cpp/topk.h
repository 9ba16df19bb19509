// Postprocessing: logits to the most probable classes.
#pragma once

#include <cstddef>
#include <vector>

namespace classify {

struct ClassScore {
    std::size_t class_id;
    double score;  // probability
};

// How logits become a prediction.
struct Selection {
    std::size_t topk;
    double threshold;
    double temperature;  // the logits are divided by it before the softmax
};

// Returns the `topk` most probable classes, the most probable first; of equal logits the lower class comes first.
// Classes of a probability below `threshold` are left out.
std::vector<ClassScore> most_probable(const float* logits, std::size_t num_classes, const Selection& selection);

}  // namespace classify
