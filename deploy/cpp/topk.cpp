// Softmax in double precision; the largest logit is subtracted against overflow.
#include "topk.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace classify {

std::vector<ClassScore> most_probable(const float* logits, std::size_t num_classes, std::size_t topk,
                                      double threshold) {
    const double largest = *std::max_element(logits, logits + num_classes);
    double sum = 0.0;
    for (std::size_t i = 0; i < num_classes; ++i) {
        sum += std::exp(logits[i] - largest);
    }
    std::vector<std::size_t> class_ids(num_classes);
    std::iota(class_ids.begin(), class_ids.end(), std::size_t{0});
    const auto is_better = [&](std::size_t a, std::size_t b) {
        return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    };
    const auto end = class_ids.begin() + std::ptrdiff_t(std::min(topk, num_classes));
    std::partial_sort(class_ids.begin(), end, class_ids.end(), is_better);
    class_ids.erase(end, class_ids.end());
    std::vector<ClassScore> classes;
    for (const std::size_t class_id : class_ids) {
        const double score = std::exp(logits[class_id] - largest) / sum;
        if (score >= threshold) {
            classes.push_back({class_id, score});
        }
    }
    return classes;
}

}  // namespace classify
