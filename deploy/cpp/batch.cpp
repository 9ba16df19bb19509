// An image that cannot be read is marked; the other images of the batch are preprocessed.
#include "batch.h"

#include <algorithm>

#include "errors.h"

namespace classify {

Batch load_batch(const std::vector<std::string>& paths, std::size_t first, std::size_t batch_size,
                 const Preprocess& preprocess) {
    const std::size_t side = std::size_t(preprocess.input_size);
    const std::size_t end = std::min(first + batch_size, paths.size());
    Batch batch;
    for (std::size_t i = first; i < end; ++i) {
        batch.files.push_back({paths[i], ""});
        try {
            const Image pixels = fit_to_square(read_image(paths[i], preprocess.exif_orientation), preprocess);
            batch.images.resize((batch.num_images + 1) * 3 * side * side);
            normalize(pixels, preprocess, batch.images.data() + batch.num_images * 3 * side * side);
            ++batch.num_images;
        } catch (const BadImage& error) {
            batch.files.back().error = error.what();
        }
    }
    return batch;
}

}  // namespace classify
