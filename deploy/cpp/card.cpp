// Reads card.yaml as deploy/card.py writes it.
#include "card.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "errors.h"
#include "yaml_fields.h"

namespace classify {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCardName = "card.yaml";
constexpr std::uint64_t kCardFormat = 1;
constexpr const char* kExportAgain = "export the model again with export_model.py";
constexpr const char* kExportPrefix = ".export-";  // of the folders in which a new export is made
constexpr const char* kChecksumLine = "# sha256 of the lines above: ";
constexpr std::size_t kMaxBytes = 1 << 21;  // of a card
constexpr int kMaxInputSize = 4096;
constexpr int kLargest = 1 << 20;  // of a size, or of a number of classes

// The position of the value of field `name` in `known`, the list of allowed values.
std::size_t choice(const YamlFields& fields, const std::string& name, const std::vector<std::string>& known) {
    const auto found = std::find(known.begin(), known.end(), fields.text(name));
    if (found == known.end()) {
        std::string expected = "one of";
        for (const std::string& value : known) {
            expected += " " + value;
        }
        fields.refuse(name, expected);
    }
    return std::size_t(found - known.begin());
}

int count(const YamlFields& fields, const std::string& name, int least, int most = kLargest) {
    const std::uint64_t number = fields.whole_number(name);
    if (number < std::uint64_t(least) || number > std::uint64_t(most)) {
        fields.refuse(name, "a whole number from " + std::to_string(least) + " to " + std::to_string(most));
    }
    return int(number);
}

// The sizes follow from each other: datasets/preprocess.py sets them, and a card that says otherwise is wrong.
void check_sizes(const YamlFields& fields, const Preprocess& preprocess) {
    const int side = preprocess.input_size;
    if (preprocess.fit != Fit::kCrop && preprocess.resize_size != side) {
        fields.refuse("resize_size", "input_size, " + std::to_string(side) + ", with fit " + fields.text("fit"));
    }
    if (!fields.has("crop_pct")) {
        return;
    }
    const double share = fields.number("crop_pct");
    if (!(share > 0 && share <= 1)) {
        fields.refuse("crop_pct", "a number above 0 and at most 1");
    }
    const int resized = preprocess.resize_size;
    if (std::floor(side / share) != resized && share != double(side) / resized) {
        fields.refuse("crop_pct",
                      "input_size / resize_size, " + std::to_string(side) + " / " + std::to_string(resized));
    }
}

Preprocess read_preprocess(const YamlFields& fields) {
    Preprocess preprocess;
    preprocess.input_size = count(fields, "input_size", 1, kMaxInputSize);
    preprocess.resize_size = count(fields, "resize_size", preprocess.input_size);
    preprocess.fit = fields.has("fit") ? Fit(choice(fields, "fit", kFitNames)) : Fit::kCrop;
    check_sizes(fields, preprocess);
    preprocess.interpolation = Interpolation(choice(fields, "interpolation", kInterpolationNames));
    const std::vector<double> mean = fields.three_numbers("mean");
    const std::vector<double> std = fields.three_numbers("std");
    std::copy(mean.begin(), mean.end(), preprocess.mean.begin());
    std::copy(std.begin(), std.end(), preprocess.std.begin());
    if (*std::min_element(std.begin(), std.end()) <= 0) {
        fields.refuse("std", "three numbers above 0");
    }
    preprocess.exif_orientation = ExifOrientation(choice(fields, "exif_orientation", {"ignore", "apply"}));
    choice(fields, "image_backend", {"pil"});
    return preprocess;
}

Card read_fields(const YAML::Node& node, const std::string& path) {
    const YamlFields fields(node, path, "",
                            {"format", "model", "architecture", "num_classes", "preprocess", "class_names", "programs",
                             "files", "metrics", "versions", "created", "output"},
                            {"temperature"});
    if (fields.whole_number("format") != kCardFormat) {
        fields.refuse("format", std::to_string(kCardFormat));
    }
    choice(fields, "output", {"logits"});
    fields.mapping("metrics");
    fields.mapping("versions");
    fields.text("created");

    Card card;
    card.model = fields.text("model");
    card.architecture = fields.text("architecture");
    card.num_classes = count(fields, "num_classes", 1);
    card.temperature = fields.has("temperature") ? fields.number("temperature") : 1.0;
    if (card.temperature <= 0) {
        fields.refuse("temperature", "a finite number above 0");
    }
    card.preprocess = read_preprocess(
        YamlFields(fields.mapping("preprocess"), path, "preprocess.",
                   {"input_size", "resize_size", "interpolation", "mean", "std", "exif_orientation", "image_backend"},
                   {"fit", "crop_pct"}));
    if (!fields.is_null("class_names")) {
        card.class_names = fields.texts("class_names");
        if (card.class_names->size() != std::size_t(card.num_classes)) {
            fields.refuse("class_names", std::to_string(card.num_classes) + " names, as num_classes says");
        }
    }
    fields.each("programs", [&](const std::string& name, const YAML::Node& value) {
        const YamlFields program(value, path, "programs." + name + ".", {"files", "input_name", "output_name"});
        card.programs[name] = {name, program.texts("files"), program.text("input_name"), program.text("output_name")};
        if (card.programs[name].files.empty()) {
            program.refuse("files", "at least one name");
        }
    });
    fields.each("files", [&](const std::string& name, const YAML::Node& value) {
        const YamlFields record(value, path, "files." + name + ".", {"bytes", "sha256"});
        if (fs::path(name).filename() != name || name == "..") {
            throw ExportedModelError(path + ": files." + name + ": expected the name of a file in this folder; " +
                                     kExportAgain);
        }
        card.files[name] = {record.whole_number("bytes"), record.text("sha256")};
    });
    return card;
}

// The first kMaxBytes + 1 bytes of the card in `folder`; empty without a card.
std::string card_text(const fs::path& folder) {
    std::ifstream file(folder / kCardName, std::ios::binary);
    std::string text(kMaxBytes + 1, '\0');
    file.read(text.data(), std::streamsize(text.size()));
    text.resize(std::size_t(file.gcount()));
    return text;
}

// Reads the card and compares its text with the checksum in its last line. Throws ExportedModelError.
std::string read_verified_text(const fs::path& path) {
    const std::string text = card_text(path.parent_path());
    if (text.size() > kMaxBytes) {
        throw ExportedModelError(path.string() + ": more than " + std::to_string(kMaxBytes) +
                                 " bytes, so not a card; " + kExportAgain);
    }
    const std::size_t last_line = text.rfind(kChecksumLine);
    if (last_line == std::string::npos) {
        throw ExportedModelError(path.string() + ": the last line, a checksum, is missing; " + kExportAgain);
    }
    const std::string lines = text.substr(0, last_line);
    if (text.substr(last_line) != kChecksumLine + sha256(lines) + "\n") {
        throw ExportedModelError(path.string() + ": damaged, or changed after the export; copy the whole folder " +
                                 "again or " + kExportAgain);
    }
    return lines;
}

void verify_file(const Card& card, const fs::path& folder, const std::string& name) {
    const fs::path path = folder / name;
    const auto entry = card.files.find(name);
    if (entry == card.files.end()) {
        throw ExportedModelError(path.string() + ": " + kCardName + " has no checksum for it; " + kExportAgain);
    }
    if (!fs::is_regular_file(path)) {
        throw ExportedModelError(path.string() + ": missing, but " + kCardName + " lists it; copy the whole folder");
    }
    const FileRecord& expected = entry->second;
    const FileRecord actual = file_record(path);
    if (actual.bytes != expected.bytes) {
        throw ExportedModelError(path.string() + ": " + std::to_string(actual.bytes) + " bytes, " + kCardName +
                                 " says " + std::to_string(expected.bytes) + "; copy the file again or " +
                                 kExportAgain);
    }
    if (actual.sha256 != expected.sha256) {
        throw ExportedModelError(path.string() + ": sha256 " + actual.sha256.substr(0, 12) + "..., " + kCardName +
                                 " says " + expected.sha256.substr(0, 12) +
                                 "...: damaged, or of another model; copy the file again or " + kExportAgain);
    }
}

bool is_onnx(const std::string& file) {
    return fs::path(file).extension() == ".onnx";
}

}  // namespace

fs::path folder_of_files(const fs::path& folder) {
    std::error_code error;  // of a folder that is removed meanwhile
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
        const std::string name = entry.path().filename().string();
        if (name.rfind(kExportPrefix, 0) == 0 && fs::exists(entry.path() / kCardName, error)) {
            const std::string card = card_text(folder);
            if (!card.empty() && card_text(entry.path()) == card) {
                return entry.path();
            }
        }
    }
    return folder;
}

std::string export_identity(const fs::path& folder) {
    return card_text(folder) + folder_of_files(folder).string();
}

Card read_card(const fs::path& folder) {
    const fs::path path = folder / kCardName;
    if (!fs::exists(path)) {
        throw ExportedModelError(path.string() + ": no such card; " + kExportAgain);
    }
    try {
        return read_fields(YAML::Load(read_verified_text(path)), path.string());
    } catch (const YAML::Exception& error) {
        throw ExportedModelError(path.string() + ": cannot be read: " + error.what() + "; " + kExportAgain);
    }
}

Program find_program(const Card& card, const fs::path& model_path, const std::string& name) {
    const bool is_folder = fs::is_directory(model_path);
    std::string known;
    for (const auto& [one, program] : card.programs) {
        const std::string& file = program.files.front();
        if (is_folder ? one == name : file == model_path.filename() && is_onnx(file)) {
            return program;
        }
        known += (known.empty() ? "" : ", ") + one + " (" + file + ")";
    }
    throw ExportedModelError(model_path.string() + ": this program runs " + (is_folder ? name : ".onnx files") + ", " +
                             kCardName + " lists " + (known.empty() ? "no program" : known) +
                             "; export the model again with export_model.py --format " + name);
}

void verify_files(const Card& card, const fs::path& folder, const std::vector<std::string>& names) {
    for (const std::string& name : names) {
        verify_file(card, folder, name);
    }
}

fs::path exported_folder(const fs::path& model_path) {
    const fs::path folder = model_path.parent_path();
    const bool is_exchanged = folder_of_files(folder) != folder;  // then a new program may still lie where it was made
    if (!fs::exists(model_path) && !is_exchanged) {
        throw ExportedModelError(model_path.string() + ": no such file or folder; export_model.py writes it");
    }
    return fs::is_directory(model_path) ? model_path : folder;
}

}  // namespace classify
