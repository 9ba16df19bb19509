// The table of all flags: name, member of Options, meaning.
#include "options.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <limits>
#include <variant>

#include "errors.h"

namespace classify {
namespace {

// Member that gets the value of a flag; the type of the member says how the value is parsed.
using Member = std::variant<std::string Options::*, int Options::*, double Options::*, bool Options::*>;

struct Flag {
    std::string name;
    Member member;
    std::string meaning;
};

const std::vector<Flag> kFlags = {
    {"--model_file", &Options::model_file, "exported folder, or an .onnx file in it; the card is read from the folder"},
    {"--input_file", &Options::input_file, "an image, or a folder (searched recursively)"},
    {"--batch_size", &Options::batch_size, "images per batch; also -b (default: 1)"},
    {"--cpu_threads", &Options::cpu_threads, "threads of the network (default: one per processor)"},
    {"--precision", &Options::precision, "fp32, or int8 for the program of --format onnx-int8 (default: fp32)"},
    {"--topk", &Options::topk, "number of classes in a prediction (default: 5)"},
    {"--threshold", &Options::threshold, "leave out classes of a lower probability (default: 0.0)"},
    {"--save_path", &Options::save_path, "write the predictions to this .jsonl file instead of stdout"},
    {"--enable_benchmark", &Options::enable_benchmark, "print times and memory on stderr at the end (default: False)"},
    {"--dump_input", &Options::dump_input,
     "also write the input of the network, float32 [N, 3, S, S], to this .npy file"},
};

// Parses all of `text` as a number between `low` and `high`.
template <typename Number>
Number number(const Flag& flag, const std::string& text, Number low, Number high, const std::string& expected) {
    Number value{};
    const char* end = text.data() + text.size();
    const std::from_chars_result result = std::from_chars(text.data(), end, value);
    if (result.ec != std::errc() || result.ptr != end || !(value >= low && value <= high)) {
        throw UsageError(flag.name + ": expected " + expected + ", got '" + text + "'");
    }
    return value;
}

// Parses a boolean as PeleeNet-paddle: true, t and 1 in any case are true, anything else is false.
bool parse_bool(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return text == "true" || text == "t" || text == "1";
}

void set(Options& options, const Flag& flag, const std::string& value) {
    if (const auto* member = std::get_if<int Options::*>(&flag.member)) {
        options.** member = number(flag, value, 1, std::numeric_limits<int>::max(), "a whole number of at least 1");
    } else if (const auto* member = std::get_if<double Options::*>(&flag.member)) {
        options.** member = number(flag, value, 0.0, 1.0, "a number from 0 to 1");
    } else if (const auto* member = std::get_if<bool Options::*>(&flag.member)) {
        options.** member = parse_bool(value);
    } else {
        options.*std::get<std::string Options::*>(flag.member) = value;
    }
}

std::string taken_value(const Flag& flag) {
    constexpr const char* kWords[] = {"TEXT", "INT", "FLOAT", "BOOL"};  // in the order of Member
    return kWords[flag.member.index()];
}

const Flag& find_flag(std::string name) {
    std::replace(name.begin() + 2, name.end(), '-', '_');
    const auto flag = std::find_if(kFlags.begin(), kFlags.end(), [&](const Flag& one) { return one.name == name; });
    if (flag != kFlags.end()) {
        return *flag;
    }
    std::string known;
    for (const Flag& one : kFlags) {
        known += " " + one.name;
    }
    throw UsageError("unknown flag " + name + "; the flags are" + known + " --help");
}

void require(const std::string& value, const std::string& name) {
    if (value.empty()) {
        throw UsageError(name + " is missing; for example: infer --model_file exported --input_file photos");
    }
}

}  // namespace

Options parse_options(const std::vector<std::string>& arguments) {
    Options options;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        std::string name = arguments[i];
        if (name == "--help" || name == "-h") {
            options.help = true;
            return options;
        }
        if (name == "-b") {
            name = "--batch_size";
        }
        if (name.compare(0, 2, "--") != 0) {
            throw UsageError("unexpected '" + name + "'; put a flag before it, see --help");
        }
        const std::size_t equals = name.find('=');
        const Flag& flag = find_flag(name.substr(0, equals));
        if (equals == std::string::npos && i + 1 == arguments.size()) {
            throw UsageError(flag.name + ": expected a value after it");
        }
        set(options, flag, equals == std::string::npos ? arguments[++i] : name.substr(equals + 1));
    }
    require(options.model_file, "--model_file");
    require(options.input_file, "--input_file");
    if (options.precision != "fp32" && options.precision != "int8") {
        throw UsageError("--precision: unknown value '" + options.precision + "'; known: fp32, int8");
    }
    return options;
}

std::string help_text() {
    std::string text =
        "usage: infer --model_file FOLDER --input_file PATH [flags]\n\n"
        "Predict the classes of images with an exported folder; print one line of JSON per image.\n\n";
    for (const Flag& flag : kFlags) {
        std::string line = "  " + flag.name + " " + taken_value(flag);
        line.resize(std::max<std::size_t>(line.size() + 2, 28), ' ');
        text += line + flag.meaning + "\n";
    }
    return text +
           "\nExit codes: 2 usage, 3 an image could not be read (the others have predictions), 4 the exported "
           "folder cannot be used.\n";
}

}  // namespace classify
