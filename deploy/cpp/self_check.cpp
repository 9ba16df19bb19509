// Compares logits with those of the export. check.json is read as YAML, of which JSON is a subset.
#include "self_check.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>

#include "batch.h"
#include "errors.h"

namespace classify {
namespace {

constexpr const char* kImageName = "check.png";
constexpr const char* kLogitsName = "check.json";
// Of the largest logit, as in deploy/self_check.py. Runtimes differ by 2e-6; a mean that is wrong by 0.005 changes the
// logits by 1e-3.
constexpr double kRelativeTolerance = 1e-4;

std::vector<double> read_logits(const std::filesystem::path& path) {
    try {
        return YAML::LoadFile(path.string())["logits"].as<std::vector<double>>();
    } catch (const YAML::Exception& error) {
        throw ExportedModelError(path.string() + ": cannot be read: " + error.what() + "; copy the whole folder again");
    }
}

}  // namespace

void self_check(Engine& engine, const std::filesystem::path& folder, const Card& card) {
    if (card.files.count(kLogitsName) == 0) {
        return;
    }
    verify_files(card, folder, {kImageName, kLogitsName});
    const std::vector<double> expected = read_logits(folder / kLogitsName);
    const Batch batch = load_batch({(folder / kImageName).string()}, 0, 1, card.preprocess);
    if (batch.num_images == 0 || expected.size() != std::size_t(card.num_classes)) {
        throw ExportedModelError((folder / kLogitsName).string() +
                                 ": belongs to another model; copy the whole folder again");
    }
    const std::vector<float> logits = engine.run(batch.images, 1);
    double difference = 0;
    double largest = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        difference = std::max(difference, std::abs(logits[i] - expected[i]));
        largest = std::max(largest, std::abs(expected[i]));
    }
    if (!(difference <= kRelativeTolerance * largest)) {
        throw ExportedModelError(folder.string() + ": gives other logits for " + kImageName +
                                 " than at the export (they differ by " + std::to_string(difference) +
                                 ", the largest is " + std::to_string(largest) +
                                 "): the card or the runtime has changed; copy the whole folder again");
    }
}

}  // namespace classify
