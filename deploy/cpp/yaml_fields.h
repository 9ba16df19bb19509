// A YAML mapping in which every field has a type; errors name the field.
#pragma once

#include <yaml-cpp/yaml.h>

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

namespace classify {

class YamlFields {
 public:
    // Reads the mapping `node` of the file `path`. `prefix` is its name in messages: "programs.onnx.", or "" for the
    // whole file. `names` are its fields, and `later` those that older files lack. Throws ExportedModelError for a field
    // that is missing or unknown.
    YamlFields(const YAML::Node& node, std::string path, std::string prefix, std::initializer_list<const char*> names,
               std::initializer_list<const char*> later = {});

    // Whether a field of `later` is there.
    bool has(const std::string& name) const;

    // The value of field `name` as the type of the function name. Throw ExportedModelError for another type.
    std::string text(const std::string& name) const;
    std::uint64_t whole_number(const std::string& name) const;
    double number(const std::string& name) const;
    std::vector<double> three_numbers(const std::string& name) const;
    std::vector<std::string> texts(const std::string& name) const;
    bool is_null(const std::string& name) const;
    // Calls `take` with the key and value of each entry of the mapping `name`.
    void each(const std::string& name, const std::function<void(const std::string&, const YAML::Node&)>& take) const;
    YAML::Node mapping(const std::string& name) const;

    // Throws ExportedModelError: "field NAME: expected EXPECTED, got ...".
    [[noreturn]] void refuse(const std::string& name, const std::string& expected) const;

 private:
    YAML::Node node_;
    std::string path_;
    std::string prefix_;
};

}  // namespace classify
