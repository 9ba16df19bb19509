"""What is met in the field, as a table: a command line, its exit code, and the words that the output must have.

The inputs are small and our own (material.py, conftest.py); where a situation was met is said in the comment above it.
"""

from typing import NamedTuple

import pytest


class Situation(NamedTuple):
    """One command line and its end.

    Attributes:
        name: the situation, in a few words.
        command: program and flags; {m} is the folder of the inputs, {T} are the flags of a short training.
        code: exit code.
        words: texts that stdout or stderr must have.
        absent: texts that the output must not have, beside a traceback.
    """

    name: str
    command: str
    code: int
    words: tuple[str, ...]
    absent: tuple[str, ...] = ()


S = Situation

LISTS = "--cls_label_path_train {m}/train.txt --cls_label_path_val {m}/val.txt"
FLAT = "--cls_label_path_train {m}/train_flat.txt --cls_label_path_val {m}/val_flat.txt"
EVAL = "eval {cls3} --resume {best} --num_workers 0 --cls_label_path_val"
SIX = "on the 6 test images"

# ---- classes: a label list against class folders
CLASSES = [
    S("label list in another order", "main {T} {cls3} --label_list {m}/labels_other_order.txt", 3,
      ("names the classes in another order", "fox in the list, cat in the folders", "order of the folders")),
    S("label list of other names", "main {T} {cls3} --label_list {m}/labels_other.txt", 3,
      ("names other classes", "wolf in the list, fox in the folders")),
    S("label list too short", "main {T} {cls3} --label_list {m}/labels_few.txt", 3, ("names of 3 classes, got 2",)),
    S("label list names a class twice", "main {T} {cls3} --label_list {m}/labels_twice.txt", 3,
      ("labels_twice.txt:2: class 0 is named a second time",)),
    S("label list leaves out an id", "main {T} {cls3} --label_list {m}/labels_gap.txt", 3, ("class 1 has no name",)),
    S("label list in GBK", "main {T} {cls3} --label_list {m}/labels_gbk.txt", 3, ("save the file as UTF-8",)),
    S("label list with tabs", "main {T} {cls3} --label_list {m}/labels_tab.txt", 0, ("names them alike",)),
    S("label list of one name per line", "main {T} {cls3} --label_list {m}/labels_names.txt", 0, ("names them alike",)),
    # A page of an error that a download saved under the name of the list.
    S("label list is a page of HTML", "main {T} {cls3} --label_list {m}/labels_html.txt", 3, ("labels_html.txt",)),
    # ---- classes: train against val
    # ultralytics/ultralytics#13936: the test folder had three of four classes; the fourth was scored as the third.
    S("val without a class", "main {T} --data_path {m}/val_less", 3, ("class fox is in", "labels would not agree")),
    # ultralytics/ultralytics#26192: as many classes in val as in train, but another one among them.
    S("val with another class", "main {T} --data_path {m}/val_other", 3, ("class fox is in",)),
    S("one name in two Unicode forms", "main {T} --data_path {m}/nfc", 3, ("another Unicode form", "rename one")),
    S("numbers as class names", "main {T} --data_path {m}/num", 0, ("label 2 is folder '10'", "leading zeros")),
    S("names with blanks, umlauts and Chinese", "main {T} --data_path {m}/odd_names", 0, ("3 classes",)),
    S("number of classes is that of the folders", "main {T} {cls3}", 0, ("3 classes, the class folders of",)),
    S("another number of classes", "main {T} {cls3} --nb_classes 5", 3, ("3 class folders", "set --nb_classes 3")),
    S("flat training list, class folders of val", "main {T} {cls3} --cls_label_path_train {m}/train_flat.txt", 0,
      ("cannot be compared", "its paths do not tell the class")),
    S("training list of two classes, val of three", "main {T} {cls3} --cls_label_path_train {m}/train_two.txt", 3,
      ("label 2, but the training has 2 classes",)),
    S("flat list of three classes, val of two", "main {T} {sub} --cls_label_path_train {m}/sub_flat.txt", 3,
      ("2 class folders", "add the missing folder")),
    S("lists that exchange two labels",
      "main {T} {cls3} --cls_label_path_train {m}/train.txt --cls_label_path_val {m}/val_crossed.txt", 3,
      ("has label 0 in the list of", "but 1 in the training list")),
    # ---- classes: what a list says
    S("list without number of classes", "main {T} {cls3} " + LISTS, 0, ("3 classes: the largest label", "is 2")),
    S("list of synset folders", "main {T} --data_path {m}/synsets --cls_label_path_train {m}/synsets.txt "
      "--cls_label_path_val {m}/synsets.txt", 0, ("1000 classes: the paths of the list are synset folders",)),
    S("synset folders of a subset", "main {T} --data_path {m}/synsets", 0, ("3 classes, the class folders",)),
    S("more outputs than labels", "main {T} {cls3} --nb_classes 5 " + LISTS, 0,
      ("5 classes, as --nb_classes says", "only 3 of them have training images")),
    # PaddlePaddle/PaddleClas#2773: label 1262 with a class number of 2 was an IndexError in the middle of an epoch.
    S("label above the number of classes", "main {T} {cls3} --nb_classes 2 " + LISTS, 3,
      ("label 2, but --nb_classes is 2", "set --nb_classes 3")),
    S("list with labels from 1", "main {T} {cls3} --cls_label_path_train {m}/from1.txt "
      "--cls_label_path_val {m}/from1.txt", 0,
      ("4 classes", "only 3 of them have training images", "does the list count from 1?")),
    # ---- classes: data against weights
    S("main --eval on other classes", "main --eval --resume {best} {cls3b} --num_workers 0", 3, ("class bear",)),
    # huggingface/pytorch-image-models#1817: the checkpoint did not keep the names of its classes.
    S("eval on other classes", "eval --resume {best} {cls3b} --num_workers 0", 3,
      ("do not know class bear", "trained on cat, dog, fox")),
    # ultralytics/ultralytics#23566: two class folders of val were removed; the others were scored by their position.
    S("eval on a part of the classes", "eval --resume {best} {sub} --num_workers 0", 3, ("no folder for class cat",)),
    S("weights without names, a part of the classes",
      "eval --resume {weights}/bare.pdparams --model peleenet --input_size 48 {sub} --num_workers 0", 3,
      ("2 class folders", "has 3 outputs")),
    S("weights of a list, class folders", "eval --resume {listed} {cls3} --num_workers 0", 0,
      ("does not say its class folders", "cat, dog, fox")),
    S("weights of a list, a part of the folders", "eval --resume {listed} {sub} --num_workers 0", 3, ("2 class",)),
    # PaddlePaddle/PaddleClas#532: weights of 102 classes met the default of 1000.
    S("weights of 1000 classes, three folders",
      "eval --resume {weights}/thousand.pdparams --input_size 48 {cls3} --num_workers 0", 3, ("1000 outputs",)),
    S("resume with other classes", "main {T} {cls3b} --resume {best} --output_dir {out}", 4,
      ("the classes were cat, dog, fox and are bear, cat, dog",)),
    S("resume with a renamed class", "main {T} {renamed} --resume {best} --output_dir {out}", 4, ("label 2",)),
    S("resume with one more class", "main {T} {more} --resume {best} --output_dir {out}", 4, ("nb_classes",)),
    # huggingface/pytorch-image-models#948: a classifier of 1000 outputs for 4530 classes.
    S("finetune from 1000 classes", "main {T} {cls3} --finetune {weights}/thousand.pdparams", 0, ("Removing key",)),
    # PaddlePaddle/PaddleClas#1883: a KeyError for class 922, because the head had 1000 outputs and the list 12 names.
    S("label list shorter than the outputs", "predict --resume {weights}/thousand.pdparams --input_size 48 "
      "--infer_imgs {m}/pictures/cat.png --label_list {m}/labels.txt", 3, ("names of 1000 classes, got 3",)),
    # huggingface/pytorch-image-models#2419: own names of three classes were not printed by inference.
    S("names of the training in predictions", "predict --resume {best} --infer_imgs {m}/pictures/cat.png", 0,
      ("cat", "dog", "fox"), ("tench",)),
    # PaddlePaddle/PaddleClas#3394: predictions of three own classes were called tench and goldfish.
    S("names of the training after an export", "infer --model_file {exported} --input_file {m}/pictures/cat.png",
      0, ("cat", "dog", "fox"), ("tench",)),
    # PaddlePaddle/PaddleClas#1419: no names were printed, and nothing said why.
    S("no names at all", "predict --resume {listed} --infer_imgs {m}/pictures/cat.png", 0,
      ("no class names: classes are called by their numbers",)),
    S("1000 outputs without names", "predict --resume {weights}/thousand.pdparams --input_size 48 "
      "--infer_imgs {m}/pictures/cat.png", 0, ("do not name their 1000 classes", "--label_list")),
    S("predict with a list in another order", "predict --resume {best} --infer_imgs {m}/pictures/cat.png "
      "--label_list {m}/labels_other_order.txt", 3, ("in another order",)),
    S("export with a list in another order", "export_model --resume {best} --output_dir {out} --format paddle "
      "--label_list {m}/labels_other_order.txt", 3, ("in another order",)),
    S("infer with a list in another order", "infer --model_file {exported} --input_file {m}/pictures/cat.png "
      "--label_list {m}/labels_other_order.txt", 3, ("in another order",)),
    S("clean lists keep the names", "datasets.check {m}/bad_train --num_workers 1 --write_clean_lists {out}", 3,
      ("the names of the 3 class folders", "--label_list")),
]  # fmt: skip

# ---- files that are no images, and images that are not read
FOLDERS = [
    # pytorch/vision#2831, open-mmlab/mmpretrain#507: Jupyter's folder became a class.
    S("hidden folder beside the classes", "main {T} --data_path {m}/hidden", 0,
      ("3 classes", "skipped hidden and system files and folders: 1 .ipynb_checkpoints")),
    S("hidden folder in a class", "main {T} --data_path {m}/nested", 0, ("1 .ipynb_checkpoints", "examples = 12")),
    # pytorch/vision#109: the .DS_Store of macOS.
    S("folders and files of macOS", "main {T} --data_path {m}/macos", 0, ("3 classes", "1 __MACOSX", "1 ._*")),
    S("hidden files are counted by the check", "datasets.check {m}/macos --num_workers 1", 0, ("1 ._*", "Thumbs.db")),
    S("hidden files are not packed", "datasets.pack --data_path {m}/macos --output_dir {out} --num_workers 1", 0,
      ("12 images", "1 ._*")),
    # ultralytics/ultralytics#23358: HEIC and AVIF.
    S("files of a type that is not read", "main {T} --data_path {m}/foreign", 0,
      ("3 .heic files are not read: convert them",)),
    S("check names the types that are not read", "datasets.check {m}/foreign --num_workers 1", 0, ("3 .heic files",)),
    S("pack names the types that are not read",
      "datasets.pack --data_path {m}/foreign --output_dir {out} --num_workers 1", 0, ("3 .heic files",)),
    S("nothing but a type that is not read", "predict --resume {best} --infer_imgs '{m}/foreign only'", 3,
      ("no image in this folder", "1 .avif file")),
    S("nothing but a type that infer does not read", "infer --model_file {exported} --input_file '{m}/foreign only'", 3,
      ("1 .avif file",)),
    S("JPEGs called .jfif", "main {T} --data_path {m}/jfif", 0, ("training examples = 12",)),
    # pytorch/vision#446, #552, #724, #835, ultralytics/ultralytics#4403: .JPEG, .PNG, .tiff and .webp were passed over.
    S("extensions in capitals", "main {T} --data_path {m}/capitals", 0, ("training examples = 12",)),
    # pytorch/vision#4925: a folder of no class among the class folders.
    S("empty class folder", "main {T} --data_path {m}/empty_class", 3, ("no image in class gnu", "remove the folder")),
    S("class folder of texts", "main {T} --data_path {m}/text_class", 3, ("no image in class gnu",)),
    S("empty class folder in the check", "datasets.check {m}/empty_class --num_workers 1", 3, ("class folders",)),
    # pytorch/vision#72, #446: images in the root itself, and none in the folders below it.
    S("no class folders", "main {T} --data_path {m}/flat_only", 3, ("flat_only: expected one folder of pictures",)),
    # ultralytics/ultralytics#16729: a file was named where the folder is wanted.
    S("a file as root of the data", "main {T} --data_path {m}/labels.txt", 3, ("labels.txt: no such folder",)),
    S("linked folders", "main {T} --data_path {m}/links", 0, ("training examples = 12",)),
    S("link to a folder above", "eval --resume {best} --data_path {m}/links --num_workers 0", 0, (SIX,)),
    S("link to nothing", "eval --resume {best} --data_path {m}/broken_link --num_workers 0", 3, ("gone.png",)),
    # webdataset/webdataset#205, #237: equal names, and names with several points.
    S("equal names with points", "datasets.pack --data_path {m}/same_names --output_dir {out} --num_workers 1", 0,
      ("3 images in 1 shard,",)),
    # webdataset/webdataset#142: the end of a tar file is missing.
    S("shard cut short", "eval --resume {best} --data_path {cut_shards} --num_workers 0", 3, (".tar",)),
    S("shards keep the classes", "eval --resume {best} --data_path {packed} --num_workers 0", 0, (SIX,)),
    S("pack of shards", "datasets.pack --data_path {packed} --output_dir {out} --num_workers 1", 3,
      ("holds shards already",)),
    # PaddlePaddle/PaddleClas#521: class folders with Chinese names.
    S("class folders in GBK: training", "main {T} --data_path {m}/gbk", 0, ("not UTF-8", "convmv", "--label_list")),
    S("class folders in GBK: a label list names them",
      "main {T} --data_path {m}/gbk --label_list {m}/labels_few.txt", 0, ("names not in UTF-8 are not compared",)),
    S("class folders in GBK: eval", "eval --resume {gbk_run} --data_path {m}/gbk --num_workers 0", 0, ("not UTF-8",)),
    S("class folders in GBK: predict", "predict --resume {gbk_run} --infer_imgs {m}/gbk --save_path {out}/p.json", 0,
      ("cat",)),
    S("class folders in GBK: export", "export_model --resume {gbk_run} --output_dir {out} --format paddle", 3,
      ("class 0 is called '\\xb9\\xb7cat', which is not UTF-8", "--label_list")),
    S("class folders in GBK: export with a label list", "export_model --resume {gbk_run} --output_dir {out} "
      "--format paddle --label_list {m}/labels_few.txt", 0, ("Model is saved",)),
    S("class folders in GBK: check", "datasets.check {m}/gbk --num_workers 1", 0, ("not UTF-8",)),
    S("class folders in GBK: pack", "datasets.pack --data_path {m}/gbk --output_dir {out} --num_workers 1", 0,
      ("not UTF-8", "8 images in 1 shard,")),
    S("pictures in GBK: predict", "predict --resume {best} --infer_imgs '{m}/gbk pictures' --save_path {out}/p.csv", 0,
      ("cat",)),
    S("pictures in GBK: infer",
      "infer --model_file {exported} --input_file '{m}/gbk pictures' --save_path {out}/p.jsonl", 0, ("cat",)),
]  # fmt: skip

# ---- list files
LIST_FILES = [
    S("BOM", EVAL + " {m}/bom.txt", 0, ("on the 12 test images",)),
    S("tabs", EVAL + " {m}/tabs.txt", 0, ("on the 12 test images",)),
    S("CRLF", EVAL + " {m}/val_crlf.txt", 0, (SIX,)),
    S("lone CR", EVAL + " {m}/val_cr.txt", 0, (SIX,)),
    S("path that begins with #", EVAL + " {m}/hash.txt", 0, ("on the 13 test images",)),
    S("blanks, quotes and Chinese in paths", EVAL + " {m}/odd_paths.txt", 0, ("on the 4 test images",)),
    S("absolute paths", EVAL + " {m}/absolute.txt", 0, ("on the 1 test images",)),
    S("columns exchanged", EVAL + " {m}/swapped.txt", 3, ("swapped.txt:1: expected '<relative path> <label>'",)),
    S("header", EVAL + " {m}/header.txt", 3, ("header.txt:1", "got 'label'")),
    S("labels from 1 in evaluation", EVAL + " {m}/from1.txt", 3, ("from1.txt:9: expected a label from 0 to 2, got 3",)),
    S("label 0.0", EVAL + " {m}/float.txt", 3, ("float.txt:1", "whole number", "'0.0'")),
    S("label -1", EVAL + " {m}/negative.txt", 3, ("negative.txt:1", "got -1")),
    S("comma", EVAL + " {m}/comma.txt", 3, ("comma.txt:1",)),
    S("one-hot labels", EVAL + " {m}/one_hot.txt", 3, ("one_hot.txt:1", "'1,0,0'")),
    S("path in quotes", EVAL + " {m}/quoted.txt", 3, ("quoted.txt:1: no such file", '"train/cat/cat_0.png"')),
    S("paths of Windows", EVAL + " {m}/windows.txt", 3, ("windows.txt:1: no such file", "/")),
    S("UTF-16", EVAL + " {m}/utf16.txt", 3, ("utf16.txt:1: expected UTF-8",)),
    S("list in GBK", EVAL + " {m}/gbk.txt", 3, ("gbk.txt:1: expected UTF-8", "save the file as UTF-8")),
    S("missing picture", EVAL + " {m}/missing.txt", 3, ("missing.txt:1: no such file", "is --data_path right?")),
    S("label of 5,000 digits", EVAL + " {m}/digits.txt", 3, ("digits.txt:1",)),
    S("empty list", EVAL + " {m}/empty.txt", 3, ("got a list without images",)),
    # PaddlePaddle/PaddleClas#3117, #2068, #2692: `list index out of range` for a line without a label.
    S("lines without a label", EVAL + " {m}/no_label.txt", 3, ("no_label.txt:1: expected '<relative path> <label>'",)),
    S("label 1262 of 3", EVAL + " {m}/huge_label.txt", 3, ("expected a label from 0 to 2, got 1262",)),
    S("folder in a list", EVAL + " {m}/folder_in_list.txt", 3, ("folder_in_list.txt:1",)),
    S("FIFO in a list", EVAL + " {m}/fifo_in_list.txt", 3, ("fifo_in_list.txt:1",)),
    S("check of a list with faults", "datasets.check {m}/cls3 --lists {m}/header.txt --num_workers 1", 3,
      ("header.txt:1",)),
    S("pack of a list with faults", "datasets.pack --data_path {m}/cls3 --list {m}/swapped.txt --output_dir {out}", 3,
      ("swapped.txt:1",)),
]  # fmt: skip

# ---- pictures
PICTURES = [
    # pytorch/vision#2218, #2823, pytorch/pytorch#20524: palettes and 16 bit.
    S("grey, palette, CMYK, 16 bit, one pixel, 3 MB of text", "predict --resume {best} --infer_imgs {m}/pictures",
      0, ("grey16.tif", "palette.png", "cmyk.jpg", "one.png", "text_3mb.png"), ("could not be read",)),
    S("the same with the exported model", "infer --model_file {exported} --input_file {m}/pictures", 0,
      ("grey16.tif", "cmyk.jpg", "text_3mb.png"), ("could not be read",)),
    # PaddlePaddle/PaddleClas#119: a picture that no decoder reads.
    S("bad pictures among good ones", "predict --resume {best} --infer_imgs '{m}/bad pictures'", 3,
      ("3 of 4 images could not be read", "good.png", "cut.png", "page.jpg", "empty.jpg")),
    S("bad pictures for the exported model", "infer --model_file {exported} --input_file '{m}/bad pictures'", 3,
      ("3 of 4 images could not be read", "good.png")),
    S("FIFO for predict", "predict --resume {best} --infer_imgs {m}/pipe.png", 3, ("not a regular file",)),
    S("FIFO for infer", "infer --model_file {exported} --input_file {m}/pipe.png", 3, ("not a regular file",)),
    # pytorch/vision#138, webdataset/webdataset#206: a truncated picture.
    S("damaged picture in evaluation", "eval --resume {best} --data_path {m}/bad_val --num_workers 0", 3,
      ("dog_0.png", "--on_bad_image skip", "python -m datasets.check")),
    S("damaged picture counted as wrong",
      "eval --resume {best} --data_path {m}/bad_val --num_workers 0 --on_bad_image skip", 0, ("dog_0.png", SIX)),
    S("damaged picture in main --eval", "main --eval --resume {best} --data_path {m}/bad_val --num_workers 0", 3,
      ("dog_0.png", "--on_bad_image skip")),
    S("damaged picture found by the check", "datasets.check {m}/bad_train --num_workers 1", 3,
      ("cannot be decoded", "dog_0.png")),
    S("damaged picture in a pack",
      "datasets.pack --data_path {m}/bad_train --store raw --output_dir {out} --num_workers 1", 3,
      ("dog_0.png", "python -m datasets.check")),
    S("picture with alpha", "eval --resume {best} --data_path {m}/rgba --num_workers 0", 0, ("on the 7 test images",)),
    S("no pictures", "predict --resume {best} --infer_imgs '{m}/no pictures'", 3, ("no image in this folder",)),
    S("no such picture", "infer --model_file {exported} --input_file {m}/none.png", 3, ("no such file or folder",)),
]  # fmt: skip

# ---- files of weights
WEIGHTS = [
    S("page of HTML", "eval {cls3} --resume {m}/html.pth", 4, ("html.pth",)),
    # The pointer of Git LFS, `invalid load key, 'v'`: YBIGTA/pytorch-hair-segmentation#38 and many others.
    S("pointer of Git LFS", "predict --resume {m}/lfs.pdparams --infer_imgs {m}/pictures", 4, ("lfs.pdparams", "LFS")),
    S("empty file of weights", "export_model --resume {m}/empty.pd --output_dir {out}", 4, ("empty.pd is empty",)),
    S("text as weights", "main {T} {cls3} --finetune {m}/not_weights.pd", 4, ("is not a file of weights",)),
    S("weights cut short", "eval {cls3} --resume {weights}/cut.pd", 4, ("cut.pd is damaged",)),
    S("one bit of the weights flipped", "main {T} {cls3} --resume {weights}/flipped.pd", 4, ("flipped.pd is damaged",)),
    S("NaN in a variance", "eval {cls3} --resume {weights}/nan.pd", 4, ("_variance holds", "NaN")),
    S("NaN in weights of Paddle", "predict --resume {weights}/nan.pdparams --model peleenet --input_size 48 "
      "--infer_imgs {m}/pictures", 4, ("_variance holds", "NaN")),
    S("folder as weights", "eval {cls3} --resume {run}", 4, ("it is a folder", "checkpoint-latest.pd")),
    # PaddlePaddle/PaddleClas#107, #1167: the name of the file without its end.
    S("name of weights without extension", "export_model --resume {run}/checkpoint-latest --output_dir {out}", 4,
      ("checkpoint-latest", "No such file")),
    S("weights of another model", "eval {cls3} --resume {best} --model mobilenet_v3_small_x0_35", 4,
      ("does not fit the model", "--model peleenet --nb_classes 3")),
    S("argparse.Namespace beside the weights",
      "predict --resume {weights}/namespace.pth --model peleenet --input_size 48 --infer_imgs {m}/pictures/cat.png", 0,
      ("cat.png",)),
    S("random weights", "export_model --output_dir {out}", 4, ("random weights are not exported",)),
    S("main --eval without weights", "main --eval {cls3}", 2, ("--eval needs weights",)),
]  # fmt: skip

# ---- flags and recipes
FLAGS = [
    S("--data of other tools", "main --data {m}/cls3", 2, ("did you mean --data_path?",)),
    S("--weights of other tools", "eval --weights {best}", 2, ("did you mean --resume?",)),
    S("--lr_scheduler of other tools", "main --lr_scheduler cosine", 2, ("did you mean --sched?",)),
    S("-o of other tools", "main -o Global.epochs=3", 2, ("did you mean --config?",)),
    S("--source of other tools", "predict --source x.jpg", 2, ("did you mean --infer_imgs?",)),
    S("--imgsz of other tools", "export_model --imgsz 64", 2, ("did you mean --input_size?",)),
    S("recipe with a key that does not exist", "main --config {m}/recipe_typo.yaml", 2, ("did you mean epochs?",)),
    S("recipe with a key twice", "main --config {m}/recipe_twice.yaml", 2, ("epochs stands there 2 times",)),
    S("recipe with aliases", "eval --config {m}/recipe_alias.yaml", 2, ("it holds an alias",)),
    S("recipe is a list", "predict --config {m}/recipe_list.yaml", 2, ("expected `flag: value` lines",)),
    S("recipe with 5,000 digits", "main --config {m}/recipe_digits.yaml", 2, ("recipe_digits.yaml",)),
    S("recipe is a page of HTML", "infer --config {m}/recipe_html.yaml", 2, ("recipe_html.yaml",)),
    S("recipe in GBK", "main --config {m}/recipe_gbk.yaml", 2, ("recipe_gbk.yaml",)),
    S("side that the model cannot take", "export_model --resume {best} --input_size 33 --output_dir {out}", 2,
      ("cannot take an image side of 33",)),
    S("export into a training by its recipe", "export_model --config {run}/config.yaml --resume {best}", 2,
      ("--output_dir is missing", "the folder of the training itself")),
    S("--resume auto in eval", "eval --resume auto {cls3}", 2, ("--resume auto is for main.py alone",)),
]  # fmt: skip

# ---- trainings that take steps
TRAININGS = [
    S("damaged picture in training", "main {T} --data_path {m}/bad_train --output_dir {out}", 3,
      ("dog_0.png", "--on_bad_image skip", "python -m datasets.check")),
    S("damaged picture left out of training", "main {T} --data_path {m}/bad_train --on_bad_image skip", 0,
      ("dog_0.png",)),
    S("damaged picture in val", "main {T} --data_path {m}/bad_val --output_dir {out}", 3,
      ("dog_0.png", "--on_bad_image skip")),
]  # fmt: skip

STARTS = [*CLASSES, *FOLDERS, *LIST_FILES, *PICTURES, *WEIGHTS, *FLAGS]


def check(situation: Situation, program, places: dict[str, str], folder) -> None:
    """Run the command line of a situation and compare its end with the table."""
    name, _, flags = situation.command.format(**places, out=folder).partition(" ")
    end = program(name, flags)
    assert end.code == situation.code, end.text
    assert [words for words in situation.words if words not in end.text] == [], end.text
    assert [words for words in (*situation.absent, "Traceback") if words in end.text] == [], end.text
    if end.code:
        assert end.err.strip() or situation.command.startswith("datasets.check"), "an error without a word on stderr"


@pytest.mark.parametrize("situation", STARTS, ids=[situation.name for situation in STARTS])
def test_situation(situation, program, places, tmp_path, monkeypatch):
    """A training is refused, or said, before its first step; so `fit` does nothing here."""
    monkeypatch.setattr("engine.fit.fit", lambda *arguments: None)
    check(situation, program, places, tmp_path)


@pytest.mark.parametrize("situation", TRAININGS, ids=[situation.name for situation in TRAININGS])
def test_training(situation, program, places, tmp_path):
    check(situation, program, places, tmp_path)


def test_the_table_is_whole():
    every = [*STARTS, *TRAININGS]
    names = [situation.name for situation in every]
    assert len(names) == len(set(names)) >= 90
    programs = {situation.command.split()[0] for situation in every}
    assert programs == {"main", "eval", "predict", "export_model", "infer", "datasets.check", "datasets.pack"}
    assert any(situation.command.startswith("main --eval") for situation in every)
    assert {situation.code for situation in every} >= {0, 2, 3, 4}
