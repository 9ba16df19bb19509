// The self-check of an exported folder: an image and its logits at the export.
#pragma once

#include <filesystem>

#include "card.h"
#include "engine.h"

namespace classify {

// Compares the logits of check.png with those in check.json, if the card lists these files. Throws ExportedModelError.
void self_check(Engine& engine, const std::filesystem::path& folder, const Card& card);

}  // namespace classify
