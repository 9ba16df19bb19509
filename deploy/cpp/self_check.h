// The proof that a folder answers here as it did at its export.
#pragma once

#include <filesystem>

#include "card.h"
#include "engine.h"

namespace classify {

// Compares the logits of check.png with those kept in check.json, where the card lists them. Throws ExportedModelError.
void self_check(Engine& engine, const std::filesystem::path& folder, const Card& card);

}  // namespace classify
