// The card beside exported weights: how to feed the program, what its answers mean, checksums of the files.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "preprocess.h"
#include "sha256.h"

namespace classify {

// One form of the network: its name in the card, its files (program first, then weights), its input and output.
struct Program {
    std::string name;
    std::vector<std::string> files;
    std::string input_name;
    std::string output_name;
};

struct Card {
    std::string model;
    std::string architecture;
    int num_classes;
    Preprocess preprocess;
    std::optional<std::vector<std::string>> class_names;
    std::map<std::string, Program> programs;
    std::map<std::string, FileRecord> files;
};

// Reads `folder`/card.yaml. Throws ExportedModelError: no card, or one that was changed; a field missing, unknown or
// wrong.
Card read_card(const std::filesystem::path& folder);

// The program of the card that `model_path` means: the one called `name` of an exported folder, or an .onnx file in it.
// Throws ExportedModelError.
Program find_program(const Card& card, const std::filesystem::path& model_path, const std::string& name);

// Compares the files `names` of `folder` with their checksums. Throws ExportedModelError.
void verify_files(const Card& card, const std::filesystem::path& folder, const std::vector<std::string>& names);

// The folder of `model_path`, which is an exported folder or a file in it.
std::filesystem::path exported_folder(const std::filesystem::path& model_path);

}  // namespace classify
