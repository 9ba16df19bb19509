"""Class folders and their shards for the tests of datasets."""

from datasets.pack import main
from datasets.reading.dataset import open_dataset
from tests.datasets.fake_images import fake_image

COUNT = 23


def write_class_folders(root) -> None:
    """Write train/ with three class folders of JPEG and PNG files, one with a line break in its name."""
    for i in range(COUNT):
        name = "6\n" if i == 6 else i
        path = root / "train" / f"class_{i % 3}" / f"{name}.{('JPEG', 'png')[i % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        fake_image(60 + i, 50, seed=i).save(path)


def pack_train(root, folder, *more, per_shard: int = 7, num_workers: int = 0):
    """Pack root/train into folder/train and open the shards."""
    command = f"--data_path={root} --output_dir={folder} --per_shard={per_shard} --num_workers={num_workers}".split()
    assert main([*command, *more]) == 0
    return open_dataset(folder, "train", None, 3)
