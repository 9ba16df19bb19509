// The header has a fixed length, so that it can be written again with a larger number of images.
#include "npy.h"

#include "errors.h"

namespace classify {
namespace {

constexpr std::size_t kHeaderBytes = 118;  // 128 with magic, version and length: a multiple of 64

}  // namespace

NpyWriter::NpyWriter(const std::string& path, int side) : file_(path, std::ios::binary), side_(side) {
    if (!file_) {
        throw UsageError("--dump_input " + path + ": cannot be written");
    }
    write_header();
}

void NpyWriter::append(const std::vector<float>& images, std::size_t count) {
    file_.write(reinterpret_cast<const char*>(images.data()), std::streamsize(images.size() * sizeof(float)));
    num_images_ += count;
    file_.seekp(0);
    write_header();
    file_.seekp(0, std::ios::end);
}

bool NpyWriter::is_complete() {
    return bool(file_.flush());
}

void NpyWriter::write_header() {
    const std::string side = std::to_string(side_);
    std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(num_images_) + ", 3, " +
                         side + ", " + side + "), }";
    header.resize(kHeaderBytes - 1, ' ');
    file_ << "\x93NUMPY" << '\x01' << '\0' << char(kHeaderBytes) << '\0' << header << '\n';
}

}  // namespace classify
