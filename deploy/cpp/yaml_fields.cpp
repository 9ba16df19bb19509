// Checks the types in a YAML mapping. A plain `3` or `true` is not a text, and a quoted "3" is not a number.
#include "yaml_fields.h"

#include <algorithm>
#include <cmath>

#include "errors.h"

namespace classify {
namespace {

constexpr const char* kExportAgain = "; export the model again with export_model.py";
constexpr std::size_t kMaxShown = 80;

bool is_quoted(const YAML::Node& node) {
    return node.Tag() == "!";
}

bool is_text(const YAML::Node& node) {
    double number;
    bool boolean;
    return node.IsScalar() && (is_quoted(node) || !(YAML::convert<double>::decode(node, number) ||
                                                    YAML::convert<bool>::decode(node, boolean)));
}

bool is_finite_number(const YAML::Node& node, double& number) {
    return !is_quoted(node) && YAML::convert<double>::decode(node, number) && std::isfinite(number);
}

std::string shown(const YAML::Node& node) {
    YAML::Emitter emitter;
    if (is_quoted(node)) {
        emitter << YAML::DoubleQuoted;
    }
    emitter << YAML::Flow << node;
    const std::string text = emitter.c_str();
    return text.size() <= kMaxShown ? text : text.substr(0, kMaxShown) + "...";
}

}  // namespace

YamlFields::YamlFields(const YAML::Node& node, std::string path, std::string prefix,
                       std::initializer_list<const char*> names, std::initializer_list<const char*> later)
    : node_(node), path_(std::move(path)), prefix_(std::move(prefix)) {
    if (!node_.IsMap()) {
        throw ExportedModelError(path_ + ": " + (prefix_.empty() ? "the card" : prefix_) +
                                 ": expected `field: value` lines" + kExportAgain);
    }
    for (const char* name : names) {
        if (!node_[name]) {
            throw ExportedModelError(path_ + ": field " + prefix_ + name + " is missing" + kExportAgain);
        }
    }
    for (const auto& entry : node_) {
        const std::string name = entry.first.Scalar();
        if (std::find(names.begin(), names.end(), name) == names.end() &&
            std::find(later.begin(), later.end(), name) == later.end()) {
            throw ExportedModelError(path_ + ": unknown field " + prefix_ + name + kExportAgain);
        }
    }
}

bool YamlFields::has(const std::string& name) const {
    return bool(node_[name]);
}

std::string YamlFields::text(const std::string& name) const {
    if (!is_text(node_[name])) {
        refuse(name, "text");
    }
    return node_[name].Scalar();
}

std::uint64_t YamlFields::whole_number(const std::string& name) const {
    std::uint64_t number = 0;
    const YAML::Node node = node_[name];
    if (is_quoted(node) || !YAML::convert<std::uint64_t>::decode(node, number)) {
        refuse(name, "a whole number");
    }
    return number;
}

double YamlFields::number(const std::string& name) const {
    double number = 0;
    if (!is_finite_number(node_[name], number)) {
        refuse(name, "a finite number");
    }
    return number;
}

std::vector<double> YamlFields::three_numbers(const std::string& name) const {
    std::vector<double> numbers;
    for (const YAML::Node& item : node_[name]) {
        double number = 0;
        if (is_finite_number(item, number)) {
            numbers.push_back(number);
        }
    }
    if (numbers.size() != 3 || node_[name].size() != 3) {
        refuse(name, "three numbers");
    }
    return numbers;
}

std::vector<std::string> YamlFields::texts(const std::string& name) const {
    if (!node_[name].IsSequence()) {
        refuse(name, "a list");
    }
    std::vector<std::string> items;
    for (const YAML::Node& item : node_[name]) {
        if (!item.IsScalar()) {
            refuse(name, "a list of texts");
        }
        items.push_back(item.Scalar());
    }
    return items;
}

bool YamlFields::is_null(const std::string& name) const {
    return node_[name].IsNull();
}

YAML::Node YamlFields::mapping(const std::string& name) const {
    if (!node_[name].IsMap()) {
        refuse(name, "`name: value` lines");
    }
    return node_[name];
}

void YamlFields::each(const std::string& name,
                      const std::function<void(const std::string&, const YAML::Node&)>& take) const {
    for (const auto& entry : mapping(name)) {
        take(entry.first.Scalar(), entry.second);
    }
}

void YamlFields::refuse(const std::string& name, const std::string& expected) const {
    throw ExportedModelError(path_ + ": field " + prefix_ + name + ": expected " + expected + ", got " +
                             shown(node_[name]) + kExportAgain);
}

}  // namespace classify
