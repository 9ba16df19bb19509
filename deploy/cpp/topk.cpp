// Softmax in double precision; the largest logit is subtracted against overflow.
#include "topk.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace classify {

std::vector<ClassScore> most_probable(const float* logits, std::size_t num_classes, const Selection& selection) {
    const double largest = *std::max_element(logits, logits + num_classes);
    const auto exponential = [&](std::size_t i) { return std::exp((logits[i] - largest) / selection.temperature); };
    double sum = 0.0;
    for (std::size_t i = 0; i < num_classes; ++i) {
        sum += exponential(i);
    }
    std::vector<std::size_t> class_ids(num_classes);
    std::iota(class_ids.begin(), class_ids.end(), std::size_t{0});
    const auto is_better = [&](std::size_t a, std::size_t b) {
        return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    };
    const auto end = class_ids.begin() + std::ptrdiff_t(std::min(selection.topk, num_classes));
    std::partial_sort(class_ids.begin(), end, class_ids.end(), is_better);
    class_ids.erase(end, class_ids.end());
    std::vector<ClassScore> classes;
    for (const std::size_t class_id : class_ids) {
        const double score = exponential(class_id) / sum;
        if (score >= selection.threshold) {
            classes.push_back({class_id, score});
        }
    }
    return classes;
}

}  // namespace classify
