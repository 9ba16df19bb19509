"""The images that predict.py names: files, folders, and list files, such as those of the split of a training."""

import os
from collections.abc import Sequence

from common.errors import DataError
from datasets.reading.image_folder import FolderScan, find_images
from datasets.reading.image_list import check_files_exist, read_image_list

from .trained import TrainedModel

LIST_SUFFIX = ".txt"


def check_inputs(inputs: Sequence[str]) -> None:
    """Check that --infer_imgs names files and folders: before weights are read, which may take long.

    Raises:
        DataError: nothing at a path, or neither a regular file nor a folder.
    """
    if files := [path for path in inputs if not os.path.isdir(os.path.expanduser(path))]:
        find_images(files)


def find_images_and_lists(
    inputs: Sequence[str], trained: TrainedModel, scan: FolderScan
) -> tuple[list[str], tuple[str, ...]]:
    """List the images that --infer_imgs names.

    A file `*.txt` is a list with one line `<path> <label>` per image. Its paths begin at the data of the training,
    which the checkpoint knows, and else at the folder of the list.

    Args:
        inputs: values of the flag.
        trained: the weights.
        scan: counts what is passed over.

    Returns:
        The paths in the order of `inputs`, and the inputs with the root of its images for each list.

    Raises:
        DataError: nothing at a path, no image in a folder, a faulty list, or a file of a list that is missing.
    """
    known = trained.weights.meta.get("info", {}).get("data", {}).get("data_path")
    paths, roots = [], []
    if not inputs:
        raise DataError("no images named; give files, folders or lists")
    for given in inputs:
        path = os.path.expanduser(given)
        if path.lower().endswith(LIST_SUFFIX) and os.path.isfile(path):
            images = read_image_list(path, known or os.path.dirname(path))
            check_files_exist(images)
            paths += [images.path(i) for i in range(len(images))]
            roots.append(images.root)
        else:
            paths += find_images([given], scan)
            roots.append(given)
    return paths, tuple(roots)
