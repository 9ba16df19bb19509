// Reads check.json as YAML, of which JSON is a part.
#include "self_check.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>

#include "batch.h"
#include "errors.h"

namespace classify {
namespace {

constexpr const char* kPictureName = "check.png";
constexpr const char* kAnswerName = "check.json";
// As in deploy/self_check.py, relative to the largest logit: runtimes differ by 2e-6, a mean off by 0.005 by 1e-3.
constexpr double kTolerance = 1e-4;

std::vector<double> read_logits(const std::filesystem::path& path) {
    try {
        return YAML::LoadFile(path.string())["logits"].as<std::vector<double>>();
    } catch (const YAML::Exception& error) {
        throw ExportedModelError(path.string() + ": cannot be read: " + error.what() + "; copy the whole folder again");
    }
}

}  // namespace

void self_check(Engine& engine, const std::filesystem::path& folder, const Card& card) {
    if (card.files.count(kAnswerName) == 0) {
        return;
    }
    verify_files(card, folder, {kPictureName, kAnswerName});
    const std::vector<double> expected = read_logits(folder / kAnswerName);
    const Batch batch = load_batch({(folder / kPictureName).string()}, 0, 1, card.preprocess);
    if (batch.num_images == 0 || expected.size() != std::size_t(card.num_classes)) {
        throw ExportedModelError((folder / kAnswerName).string() +
                                 ": is not of this model; copy the whole folder again");
    }
    const std::vector<float> logits = engine.run(batch.images, 1);
    double difference = 0;
    double largest = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        difference = std::max(difference, std::abs(logits[i] - expected[i]));
        largest = std::max(largest, std::abs(expected[i]));
    }
    if (!(difference <= kTolerance * largest)) {
        throw ExportedModelError(folder.string() + ": answers " + kPictureName +
                                 " otherwise than at its export (logits differ by " + std::to_string(difference) +
                                 ", the largest is " + std::to_string(largest) +
                                 "): the card or the runtime has changed; copy the whole folder again");
    }
}

}  // namespace classify
