// The card of an exported folder: preprocessing, class names, programs, and the checksum of every file.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "preprocess.h"
#include "sha256.h"

namespace classify {

// A network in the form of one runtime: name in the card, files (program first, then weights), input and output.
struct Program {
    std::string name;
    std::vector<std::string> files;
    std::string input_name;
    std::string output_name;
};

// What this program needs of a card.
struct Card {
    std::string model;
    std::string architecture;
    int num_classes;
    Preprocess preprocess;
    std::optional<std::vector<std::string>> class_names;
    std::map<std::string, Program> programs;
    std::map<std::string, FileRecord> files;
    double temperature;  // the logits are divided by it before the softmax
};

// Returns the folder that holds all files of `folder`/card.yaml: `folder`, or while an export replaces another one the
// folder inside it in which the new export was made, which has the same card (see deploy/exchange.py).
std::filesystem::path folder_of_files(const std::filesystem::path& folder);

// What tells the export in `folder` from another one that replaces it: the text of its card and the folder of its files.
std::string export_identity(const std::filesystem::path& folder);

// Reads `folder`/card.yaml. Throws ExportedModelError: the card is missing or was changed; a field is missing, unknown
// or wrong.
Card read_card(const std::filesystem::path& folder);

// Finds a program in the card: by `name` if `model_path` is a folder, else the .onnx file `model_path`. Throws
// ExportedModelError.
Program find_program(const Card& card, const std::filesystem::path& model_path, const std::string& name);

// Compares the size and the checksum of the files `names` in `folder` with the card. Throws ExportedModelError.
void verify_files(const Card& card, const std::filesystem::path& folder, const std::vector<std::string>& names);

// Returns the folder of `model_path`, which is an exported folder or a file in one. Throws ExportedModelError.
std::filesystem::path exported_folder(const std::filesystem::path& model_path);

}  // namespace classify
